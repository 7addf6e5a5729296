{{/* Names, labels and images. A name of the cluster carries the release and its namespace. */}}

{{- define "aegate.name" -}}
{{- if contains "aegate" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-aegate" (.Release.Name | trunc 33 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "aegate.clusterName" -}}
{{- printf "%s.%s" (include "aegate.name" .) .Release.Namespace -}}
{{- end -}}

{{/* Labels of an object; call with (list $ "component"). */}}
{{- define "aegate.labels" -}}
{{- $root := index . 0 -}}
{{ include "aegate.selector" . }}
app.kubernetes.io/part-of: aegate
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Labels that select the pods of a component, for ever the same; call with (list $ "component"). */}}
{{- define "aegate.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: aegate-{{ index . 1 }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- end -}}

{{/* Labels of pods: nothing that changes with the chart alone, which would start them anew. */}}
{{- define "aegate.podLabels" -}}
{{ include "aegate.selector" . }}
app.kubernetes.io/part-of: aegate
{{- end -}}

{{/* The image of a component; call with (list $ "listener"). */}}
{{- define "aegate.image" -}}
{{- $root := index . 0 -}}
{{- $image := $root.Values.image -}}
{{- $name := index $image.names (index . 1) -}}
{{- $place := ternary (printf "%s/%s" $image.repository $name) $image.repository (ne $name "") -}}
{{- printf "%s:%s" $place ($image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}

{{/* The last migration of this version: 0002_retention. */}}
{{- define "aegate.schema" -}}
{{- .Files.Get "files/schema.txt" | trim -}}
{{- end -}}

{{/* Whether an object that outlives releases is ours: absent, of this release, or adopted; call with (list $ apiVersion kind namespace name). */}}
{{- define "aegate.isOurs" -}}
{{- $root := index . 0 -}}
{{- $there := lookup (index . 1) (index . 2) (index . 3) (index . 4) -}}
{{- if or $root.Values.adopt (not $there) -}}
yes
{{- else -}}
{{- $annotations := dig "metadata" "annotations" (dict) $there -}}
{{- $release := get $annotations "meta.helm.sh/release-name" -}}
{{- $namespace := get $annotations "meta.helm.sh/release-namespace" -}}
{{- if and (eq $release $root.Release.Name) (eq $namespace $root.Release.Namespace) -}}
yes
{{- end -}}
{{- end -}}
{{- end -}}
