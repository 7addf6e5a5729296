{{/*
Other releases of this chart that look after the same ApplicationEntities: two operators would undo each other's work
for ever. They are found by the Roles that they have. Without a cluster (helm template, Argo CD) none is found.
*/}}

{{- define "aegate.wrong.neighbours" -}}
{{- $watched := .Values.watchNamespaces }}
{{- range $other := concat (include "aegate.neighbours.ofNamespaces" . | fromJsonArray) (include "aegate.neighbours.ofCluster" . | fromJsonArray) }}
{{- $where := $other.namespace | default "every namespace" }}
{{- if $watched }}
watchNamespaces must leave out what another release looks after, got {{ $other.namespace | default (join ", " $watched) }}, and {{ $other.release }} has {{ $where }} ({{ $other.role }}): two operators undo each other's work; leave it out, or upgrade that release
{{- else }}
watchNamespaces must name namespaces where another release is in the cluster, got none, which means all, and {{ $other.release }} has {{ $where }} ({{ $other.role }}): two operators undo each other's work; name others, or upgrade that release
{{- end }}
{{- end }}
{{- end -}}

{{/* Releases that watch one of our namespaces; a release of the whole cluster shares all of them. */}}
{{- define "aegate.neighbours.ofNamespaces" -}}
{{- $found := list }}
{{- range $namespace := .Values.watchNamespaces | default (list "") }}
{{- $roles := lookup "rbac.authorization.k8s.io/v1" "Role" $namespace "" }}
{{- $found = concat $found (include "aegate.neighbours.among" (list $ $roles) | fromJsonArray) }}
{{- end }}
{{- toJson $found }}
{{- end -}}

{{/*
Releases of the whole cluster. Only who makes objects of the cluster is sure to be allowed to look at them; of the
release's own namespace everybody sees the operators.
*/}}
{{- define "aegate.neighbours.ofCluster" -}}
{{- $found := list }}
{{- if or (not .Values.watchNamespaces) .Values.rbac.aggregate }}
{{- $found = include "aegate.neighbours.among" (list . (lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" "")) | fromJsonArray }}
{{- else }}
{{- range $account := (lookup "v1" "ServiceAccount" .Release.Namespace "").items }}
{{- $labels := $account.metadata.labels | default dict }}
{{- if and (eq (get $labels "app.kubernetes.io/name") "aegate-operator") (ne $account.metadata.name (printf "%s-operator" (include "aegate.name" $))) }}
{{- $told := dig "data" "installation.json" "" (lookup "v1" "ConfigMap" $.Release.Namespace $account.metadata.name) }}
{{- if and $told (not (fromJson $told).watchedNamespaces) }}
{{- $found = append $found (dict "release" (get $labels "app.kubernetes.io/instance") "role" (printf "ServiceAccount %s" $account.metadata.name)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $found }}
{{- end -}}

{{/*
The operators' roles of other releases in a list of roles; call with (list $ roles). Ours may have had another name in an
older version.
*/}}
{{- define "aegate.neighbours.among" -}}
{{- $root := index . 0 }}
{{- $own := printf "%s.operator" (include "aegate.clusterName" $root) }}
{{- $release := printf "%s/%s" $root.Release.Namespace $root.Release.Name }}
{{- $found := list }}
{{- range $role := (index . 1).items }}
{{- $labels := $role.metadata.labels | default dict }}
{{- $annotations := $role.metadata.annotations | default dict }}
{{- $of := printf "%s/%s" (get $annotations "meta.helm.sh/release-namespace") (get $annotations "meta.helm.sh/release-name") }}
{{- if and (eq (get $labels "app.kubernetes.io/name") "aegate-operator") (ne $role.metadata.name $own) (ne $of $release) }}
{{- $found = append $found (dict "release" (get $labels "app.kubernetes.io/instance") "role" (printf "%s %s" $role.kind $role.metadata.name) "namespace" (get $role.metadata "namespace")) }}
{{- end }}
{{- end }}
{{- toJson $found }}
{{- end -}}
