{{/*
What a person gets wrong, in words: what was expected, what came, the next step. All of it at once, one a line.
The schema judges types; what stands here is the form of texts, what a value means, and what does not go together.
*/}}
{{- define "aegate.guards" -}}
{{- $wrong := list }}
{{- range $name := list "image" "forms" "title" "namespaces" "neighbours" "database" "bucket" "listener" "pools" "api" "kubernetes" "monitoring" }}
{{- range $line := include (printf "aegate.wrong.%s" $name) $ | splitList "\n" }}
{{- with trim $line }}
{{- $wrong = append $wrong (printf "- %s" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- if $wrong }}
{{- fail (printf "\n\naegate cannot be installed with these values:\n%s\n" (join "\n" $wrong | replace "\\n" "\n  ")) }}
{{- end }}
{{- end -}}

{{- define "aegate.wrong.image" -}}
{{- $image := .Values.image }}
{{- $last := $image.repository | splitList "/" | last }}
{{- if not $image.repository }}
image.repository must say where the images are, and there is no default: build and push them, then name the place:\n
{{- $tag := $image.tag | default .Chart.AppVersion }}
{{- print "  make images TAG=" $tag }}\n
{{- print "  for part in " (values $image.names | uniq | sortAlpha | join " ") "; do" }}\n
{{- print "    buildah push localhost/aegate/$part:" $tag " registry.example.org/aegate/$part:" $tag }}\n
{{- print "  done" }}\n
{{- print "  helm install … --set image.repository=registry.example.org/aegate" }}
{{- else if or (contains ":" $last) (contains "@" $image.repository) }}
image.repository must have no tag or digest, got {{ $image.repository }}: put the tag into image.tag
{{- else if hasPrefix "http" $image.repository | and (contains "://" $image.repository) }}
image.repository must be as an image names it, got {{ $image.repository }}: leave out https://
{{- else if not (regexMatch "^[a-z0-9\\[]([a-z0-9._:/\\[\\]-]*[a-z0-9])?$" (lower $image.repository)) }}
image.repository must be such as registry.example.org/aegate, got {{ quote $image.repository }}: mend it
{{- end }}
{{- if and $image.repository (ne $image.repository (lower $image.repository)) }}
image.repository must be lower case, got {{ $image.repository }}: image names have no capitals
{{- end }}
{{- end -}}

{{/* Texts of a form: files/forms.json is made from the schema (tools/chart/forms.py). */}}
{{- define "aegate.wrong.forms" -}}
{{- $known := .Files.Get "files/forms.json" | fromJson }}
{{- range $path, $form := $known.fields }}
{{- include "aegate.wrong.form" (list $.Values "" (splitList "." $path) (get $known.forms $form)) }}
{{- end }}
{{- end -}}

{{/* Call with a value, where it is, the keys to go from there, and the form of what is at their end. */}}
{{- define "aegate.wrong.form" -}}
{{- $value := index . 0 }}
{{- $at := index . 1 }}
{{- $keys := index . 2 }}
{{- $form := index . 3 }}
{{- if not $keys }}
{{- if not (regexMatch $form.pattern (toString $value)) }}
{{ $at }} must be {{ $form.expected }}, got {{ ternary (toString $value | quote) "another text" $form.is_shown }}: {{ $form.advice }}
{{- end }}
{{- else if eq (first $keys) "*" }}
{{- range $key, $one := $value }}
{{- include "aegate.wrong.form" (list $one (printf (ternary "%s[%v]" "%s.%v" (kindIs "int" $key)) $at $key) (rest $keys) $form) }}
{{- end }}
{{- else if kindIs "map" $value | and (hasKey $value (first $keys)) }}
{{- include "aegate.wrong.form" (list (get $value (first $keys)) (printf "%s.%s" $at (first $keys) | trimPrefix ".") (rest $keys) $form) }}
{{- end }}
{{- end -}}

{{- define "aegate.wrong.title" -}}
{{- $title := .Values.title }}
{{- if or (gt (len $title) 16) (not (trim $title)) (ne $title (trim $title)) (not (regexMatch "^[ -\\[\\]-~]*$" $title)) }}
title must be an AE title: 1 to 16 ASCII characters without backslash, no blank at either end (PS3.5 6.2), got {{ len $title }} in {{ quote $title }}: mend it
{{- end }}
{{- end -}}

{{- define "aegate.wrong.namespaces" -}}
{{- range .Values.watchNamespaces }}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$" .) }}
watchNamespaces must hold names of namespaces, got {{ quote . }}: lower case, digits and - only; a pattern is not possible
{{- end }}
{{- end }}
{{- if ne (len (uniq .Values.watchNamespaces)) (len .Values.watchNamespaces) }}
watchNamespaces must name each namespace once, got {{ join ", " .Values.watchNamespaces }}: leave one out
{{- end }}
{{- end -}}

{{- define "aegate.wrong.database" -}}
{{- $database := .Values.database }}
{{- range $key, $name := $database.secrets }}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$" $name) }}
{{- if contains "://" $name }}
database.secrets.{{ $key }} must be the name of a Secret with the key dsn, got a DSN: kubectl create secret generic NAME --from-literal=dsn=postgres://…, and name that; a password has no place in values
{{- else }}
database.secrets.{{ $key }} must be the name of a Secret with the key dsn, got {{ quote $name }}: kubectl create secret generic NAME --from-literal=dsn=postgres://…, and name that
{{- end }}
{{- end }}
{{- end }}
{{- if ne (len (values $database.secrets | uniq)) (len $database.secrets) }}
database.secrets must name a Secret of its own for each role, got one twice: processes share no role, or each may do what all may
{{- end }}
{{- if ne (len (values $database.roles | uniq)) (len $database.roles) }}
database.roles must name a role of its own for each process, got one twice: mend it
{{- end }}
{{- range $key, $role := $database.roles }}
{{- if or (not $role) (regexMatch "[=,]" $role) (gt (len $role) 63) }}
database.roles.{{ $key }} must be a role of the database, 1 to 63 characters without = and comma, got {{ quote $role }}: mend it
{{- end }}
{{- end }}
{{- if and $database.trial.enabled (lt (len $database.trial.password) 16) }}
database.trial.password must have 16 characters or more, got {{ len $database.trial.password }}: --set database.trial.password=$(openssl rand -hex 16), and keep it: PostgreSQL remembers the first
{{- end }}
{{- end -}}

{{- define "aegate.wrong.bucket" -}}
{{- $s3 := .Values.blobs.s3 }}
{{- if and (not $s3.bucket) (or $s3.endpoint $s3.prefix) }}
blobs.s3.bucket must name the bucket, got none beside endpoint or prefix: set it, or leave them out to have a volume
{{- end }}
{{- if $s3.bucket }}
{{- if not (regexMatch "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$" $s3.bucket) }}
blobs.s3.bucket must be the name of a bucket, 3 to 63 lower case letters, digits, - and dots, got {{ quote $s3.bucket }}: leave out s3:// and what follows a slash, which is prefix
{{- end }}
{{- if and $s3.endpoint (not (regexMatch "^https?://[A-Za-z0-9.:\\[\\]-]+/?$" $s3.endpoint)) }}
blobs.s3.endpoint must be a server such as https://s3.example.org:9000, got {{ quote (regexReplaceAll ".*@" $s3.endpoint "") }}: no path, no bucket, no user
{{- end }}
{{- if not (regexMatch "^([A-Za-z0-9_-][A-Za-z0-9._-]*/)*([A-Za-z0-9_-][A-Za-z0-9._-]*)?$" $s3.prefix) }}
blobs.s3.prefix must be such as images/, got {{ quote $s3.prefix }}: letters, digits, dots, - and _ between slashes
{{- end }}
{{- if not $s3.region }}
blobs.s3.region must be the region that requests are signed for, got none: take us-east-1 where the server knows no regions
{{- end }}
{{- if lt (int $s3.copiesMiB) (mul 2 (int $s3.scratchMiB) | int) }}
blobs.s3.copiesMiB must be at least twice blobs.s3.scratchMiB, got {{ int $s3.copiesMiB }} and {{ int $s3.scratchMiB }}: what a worker converts lies beside its copies, and a pod above the limit is evicted
{{- end }}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$" $s3.secret) }}
blobs.s3.secret must be the name of a Secret with the keys access-key-id and secret-access-key, got {{ ternary "none" "another text" (empty $s3.secret) }}: kubectl create secret generic NAME --from-literal=access-key-id=… --from-literal=secret-access-key=…, and name that; a key has no place in values
{{- end }}
{{- end }}
{{- end -}}

{{- define "aegate.wrong.listener" -}}
{{- $listener := .Values.listener }}
{{- if and (gt (int $listener.replicas) 1) (eq $listener.spool.accessMode "ReadWriteOnce") (ne $listener.spool.type "EmptyDir") }}
listener.replicas must be 1 with listener.spool.accessMode ReadWriteOnce, got {{ $listener.replicas }}: one node mounts such a volume; take ReadWriteMany, or one pod
{{- end }}
{{- if ge (int $listener.preStopSeconds) (int $listener.graceSeconds) }}
listener.preStopSeconds must be below listener.graceSeconds, got {{ $listener.preStopSeconds }} and {{ $listener.graceSeconds }}: associations would have no time to end
{{- end }}
{{- if not (has $listener.host (list "0.0.0.0" "::")) }}
listener.host must be 0.0.0.0, or :: on clusters with IPv6, got {{ quote $listener.host }}: pods have no other address that stays
{{- end }}
{{- end -}}

{{- define "aegate.wrong.pools" -}}
{{- range $name := keys .Values.pools | sortAlpha }}
{{- $pool := include "aegate.pool" (list $ $name) | fromJson }}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?$" $name) }}
pools must have names of 1 to 30 lower case letters, digits and -, got {{ quote $name }}: rename it
{{- end }}
{{- if and (gt (int $pool.replicas) 1) (eq $pool.spool.accessMode "ReadWriteOnce") (ne $pool.spool.type "EmptyDir") }}
pools.{{ $name }}.replicas must be 1 with spool.accessMode ReadWriteOnce, got {{ $pool.replicas }}: one node mounts such a volume; take ReadWriteMany, or one pod
{{- end }}
{{- if ge (int $.Values.listener.preStopSeconds) (int $pool.graceSeconds) }}
pools.{{ $name }}.graceSeconds must be above listener.preStopSeconds, got {{ $pool.graceSeconds }} and {{ $.Values.listener.preStopSeconds }}: associations would have no time to end
{{- end }}
{{- if gt (len (include "aegate.poolName" (list $ $name))) 63 }}
pools.{{ $name }} has too long a name beside release {{ $.Release.Name }}: together they are a Service of at most 63 characters; shorten one
{{- end }}
{{- if and (hasKey $pool "tls") (not (get ($pool.tls | default dict) "secretName")) }}
pools.{{ $name }}.tls.secretName must name a Secret with tls.crt and tls.key, got none: set it, or leave tls out
{{- end }}
{{- if and $pool.nodePort (eq $pool.serviceType "ClusterIP") }}
pools.{{ $name }}.nodePort needs serviceType NodePort or LoadBalancer, got ClusterIP: set it, or leave nodePort out
{{- end }}
{{- end }}
{{- if and .Values.pools .Values.watchNamespaces (not (has .Release.Namespace .Values.watchNamespaces)) }}
pools need {{ .Release.Namespace }} among watchNamespaces, got {{ join ", " .Values.watchNamespaces }}: that is where pools are; add it
{{- end }}
{{- end -}}

{{- define "aegate.wrong.api" -}}
{{- $api := .Values.api }}
{{- if $api.enabled }}
{{- $people := or $api.oidc.issuer $api.kubernetesTokens.enabled }}
{{- if and $api.tlsSecret (not $people) }}
api.tlsSecret needs api.oidc or api.kubernetesTokens, got neither: local tokens never go beyond loopback
{{- end }}
{{- if and $api.tlsSecret $api.proxy.containers }}
api.tlsSecret and api.proxy.containers are two ways to the same port, got both: leave one out
{{- end }}
{{- if and $api.oidc.issuer (not (hasPrefix "https://" $api.oidc.issuer)) }}
api.oidc.issuer must be an https URL, got {{ quote $api.oidc.issuer }}: correct it
{{- end }}
{{- range $name := list "audience" "mappingConfigMap" }}
{{- if and $api.oidc.issuer (not (get $api.oidc $name)) }}
api.oidc.{{ $name }} must be given with api.oidc.issuer, got nothing: set it
{{- end }}
{{- end }}
{{- if not (or $api.tokensSecret $people) }}
api.tokensSecret must name a Secret with the key tokens.json: aegate token create NAME --file tokens.json, then kubectl create secret generic aegate-tokens --namespace {{ .Release.Namespace }} --from-file=tokens.json
{{- end }}
{{- if gt (len $api.proxy.containers) 1 }}
api.proxy.containers must hold one container, got {{ len $api.proxy.containers }}: leave the others out
{{- end }}
{{- if and $api.documents.only (not $api.documents.configMap) }}
api.documents.only needs api.documents.configMap, got none: name the ConfigMap of the trusted documents, or leave only out
{{- end }}
{{- if and $api.traces.endpoint (not (regexMatch "^https?://[^/?#\\s]+(/[^?#\\s]*)?$" $api.traces.endpoint)) }}
api.traces.endpoint must be the URL of OTLP over HTTP such as http://collector.monitoring:4318, got {{ $api.traces.endpoint }}: correct it
{{- end }}
{{- if and $api.traces.headersSecret (not $api.traces.endpoint) }}
api.traces.headersSecret needs api.traces.endpoint, got none: name the collector, or leave the Secret out
{{- end }}
{{- range $origin := $api.origins }}
{{- if not (regexMatch "^https?://([a-z0-9.-]+|\\[[0-9a-f:.]+\\])(:[0-9]{1,5})?$" $origin) }}
api.origins must be origins such as https://viewer.example.org, without path and wildcard, got {{ $origin }}: correct it
{{- end }}
{{- end }}
{{- if has (int $api.proxy.port) (list 8080 8081) }}
api.proxy.port must be another than 8080, which is the API's own on loopback, and 8081, its metrics': choose another
{{- end }}
{{- end }}
{{- range $kind := list "ingress" "httpRoute" }}
{{- $route := index $api $kind }}
{{- if $route.enabled }}
{{- if not $api.enabled }}
api.{{ $kind }}.enabled needs api.enabled, got false: set it, or leave the {{ $kind }} out
{{- else if not (or $api.proxy.containers $api.tlsSecret) }}
api.{{ $kind }}.enabled needs api.proxy.containers, got none: the API knows local tokens, which never go beyond loopback; put a proxy with a sign-in of its own beside it, give api.tlsSecret with api.oidc, or use kubectl port-forward
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.audit }}
{{- if .collector }}
{{- if not (regexMatch "^tls://[^/@?]+$" .collector) }}
audit.collector must be tls://host:port such as tls://audit.example.org:6514, got {{ quote .collector }}: syslog is sent over TLS alone
{{- end }}
{{- if not .secret }}
audit.secret must name a Secret with ca.crt, tls.crt and tls.key for audit.collector, got none: make it, or leave the collector out
{{- end }}
{{- end }}
{{- end }}
{{- if $api.ingress.enabled }}
{{- if not $api.ingress.host }}
api.ingress.host must be the host name under which people reach the API, got none: set it
{{- end }}
{{- if not $api.ingress.tlsSecret }}
api.ingress.tlsSecret must name a Secret of type kubernetes.io/tls, got none: tokens and patient data never travel in clear
{{- end }}
{{- end }}
{{- if $api.httpRoute.enabled }}
{{- if not $api.httpRoute.parentRefs }}
api.httpRoute.parentRefs must name a Gateway, got none: --set api.httpRoute.parentRefs[0].name=GATEWAY
{{- end }}
{{- range $api.httpRoute.parentRefs }}
{{- if not (get . "sectionName") }}
api.httpRoute.parentRefs must name the Gateway's listener, too, got no sectionName for {{ get . "name" | quote }}: without it the route hangs on listeners without TLS as well
{{- end }}
{{- end }}
{{- if not $api.httpRoute.hostnames }}
api.httpRoute.hostnames must hold the host name under which people reach the API, got none: set it
{{- end }}
{{- end }}
{{- end -}}

{{- define "aegate.wrong.kubernetes" -}}
{{- range $path, $peers := dict "monitoring.metricsFrom" .Values.monitoring.metricsFrom "networkPolicies.apiFrom" .Values.networkPolicies.apiFrom }}
{{- range $i, $peer := $peers }}
{{- if eq (hasKey $peer "ipBlock") (or (hasKey $peer "podSelector") (hasKey $peer "namespaceSelector")) }}
{{ $path }}[{{ $i }}] must be an ipBlock alone, or a podSelector, a namespaceSelector or both, got {{ keys $peer | sortAlpha | join ", " | default "nothing" }}: mend it
{{- end }}
{{- end }}
{{- end }}
{{- range $part := list "operator" "listener" "worker" "api" }}
{{- range $i, $toleration := (index $.Values $part).tolerations }}
{{- $is_any := eq (get $toleration "operator") "Exists" }}
{{- if not (or $is_any (get $toleration "key")) }}
{{ $part }}.tolerations[{{ $i }}] must have a key, or operator Exists, got neither: mend it
{{- end }}
{{- if and $is_any (get $toleration "value") }}
{{ $part }}.tolerations[{{ $i }}].value goes with operator Equal, got Exists: leave one out
{{- end }}
{{- if and (hasKey $toleration "tolerationSeconds") (ne (get $toleration "effect") "NoExecute") }}
{{ $part }}.tolerations[{{ $i }}].tolerationSeconds goes with effect NoExecute, got {{ get $toleration "effect" | default "none" }}: mend it
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "aegate.wrong.monitoring" -}}
{{- $monitoring := .Values.monitoring }}
{{- $coreos := .Capabilities.APIVersions.Has "monitoring.coreos.com/v1" }}
{{- range $kind := list "serviceMonitor" "prometheusRule" }}
{{- if and (index $monitoring $kind).enabled (not $coreos) }}
monitoring.{{ $kind }}.enabled needs the Prometheus operator, and this cluster does not know monitoring.coreos.com/v1: install it first; for helm template add --api-versions monitoring.coreos.com/v1
{{- end }}
{{- end }}
{{- if and .Values.api.httpRoute.enabled (not (.Capabilities.APIVersions.Has "gateway.networking.k8s.io/v1")) }}
api.httpRoute.enabled needs the Gateway API, and this cluster does not know gateway.networking.k8s.io/v1: install its CRDs first; for helm template add --api-versions gateway.networking.k8s.io/v1
{{- end }}
{{- if not (regexMatch "^([0-9]+(ms|s|m|h))+$" $monitoring.serviceMonitor.interval) }}
monitoring.serviceMonitor.interval must be a duration such as 30s, got {{ quote $monitoring.serviceMonitor.interval }}: mend it
{{- end }}
{{- end -}}
