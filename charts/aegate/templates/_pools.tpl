{{/* A pool with nothing left open: what it does not say comes from listener; call with (list $ "name"). */}}
{{- define "aegate.pool" -}}
{{- $root := index . 0 -}}
{{- $listener := $root.Values.listener -}}
{{- $own := index $root.Values.pools (index . 1) | default dict -}}
{{- $spool := merge (deepCopy (get $own "spool" | default dict)) $listener.spool -}}
{{- if hasKey (get $own "spool" | default dict) "storageClassName" -}}
{{- $_ := set $spool "storageClassName" $own.spool.storageClassName -}}
{{- end -}}
{{- $port := ternary 2762 $listener.port (hasKey (get $own "tls" | default dict) "secretName") -}}
{{- $defaults := dict
  "replicas" $listener.replicas
  "serviceType" $listener.serviceType
  "port" $port
  "graceSeconds" $listener.graceSeconds
  "shares" 4
  "sourceRanges" list
  "serviceAnnotations" dict
  "receiver" $listener.receiver
  "indexer" $listener.indexer
-}}
{{- merge (dict "spool" $spool) (deepCopy $own) $defaults | toJson -}}
{{- end -}}

{{- define "aegate.poolName" -}}
{{- printf "%s-pool-%s" (include "aegate.name" (index . 0)) (index . 1) -}}
{{- end -}}

{{/* What selects a pool's pods, for ever the same. */}}
{{- define "aegate.poolSelector" -}}
{{ include "aegate.selector" (list (index . 0) "pool") }}
aegate.dev/pool: {{ index . 1 | quote }}
{{- end -}}

{{- define "aegate.poolLabels" -}}
{{ include "aegate.labels" (list (index . 0) "pool") }}
aegate.dev/pool: {{ index . 1 | quote }}
{{- end -}}

{{/* What the operator is told of the pools. */}}
{{- define "aegate.poolsTold" -}}
{{- $root := . -}}
{{- $told := list -}}
{{- range $name := keys .Values.pools | sortAlpha -}}
{{- $pool := include "aegate.pool" (list $root $name) | fromJson -}}
{{- $full := include "aegate.poolName" (list $root $name) -}}
{{- $host := printf "%s.%s.svc" $full $root.Release.Namespace -}}
{{- $told = append $told (dict
  "name" $name
  "endpoint" (printf "%s:%d" $host (int $pool.port))
  "shares" (int $pool.shares)
  "graceSeconds" (int $pool.graceSeconds)
  "service" (ternary "" $full (eq $pool.serviceType "ClusterIP"))
  "waitsForIndex" (eq $pool.spool.type "EmptyDir")
) -}}
{{- end -}}
{{- $told | toJson -}}
{{- end -}}

{{/* What a pool's listener is told beside its AEs. */}}
{{- define "aegate.poolConfig" -}}
{{- $root := index . 0 -}}
{{- $pool := index . 2 -}}
{{- $config := dict
  "name" (printf "pool-%s" (index . 1))
  "host" $root.Values.listener.host
  "port" 11112
  "spool" "/var/lib/aegate/spool"
  "entities" list
  "grace_s" (int $pool.graceSeconds)
-}}
{{- with $pool.tls -}}
{{- $tls := dict
  "certificate" "/etc/aegate/secrets/identity/tls.crt"
  "key" "/etc/aegate/secrets/identity/tls.key"
  "ca" "/etc/aegate/secrets/ca/ca.crt"
  "client_auth" (.clientAuth | default "Require")
-}}
{{- $_ := set $config "tls" $tls -}}
{{- end -}}
{{- $config | toPrettyJson -}}
{{- end -}}
