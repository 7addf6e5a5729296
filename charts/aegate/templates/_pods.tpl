{{/* What pods share: Pod Security "restricted", where they run, how they wait for the schema. */}}

{{- define "aegate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "aegate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What a pod has beside its containers; call with (list $ values-of-the-component "component"). */}}
{{- define "aegate.pod" -}}
{{- $root := index . 0 -}}
{{- $values := index . 1 -}}
enableServiceLinks: false
securityContext:
  {{- include "aegate.podSecurity" $root | nindent 2 }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Pods of one kind on different nodes, where that can be; call with (list $ "component"). */}}
{{- define "aegate.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "aegate.selector" . | nindent 8 }}
{{- end -}}

{{/*
The DSN of a role, with the authority that its Secret may hold beside it (ca.crt): what the process is told, what it
mounts, the pod's volume; call with (list $ "worker").
*/}}
{{- define "aegate.dsn" -}}
{{- $root := index . 0 -}}
- name: AEGATE_DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ index $root.Values.database.secrets (index . 1) }}, key: dsn}
- {name: AEGATE_DATABASE_CA, value: /run/secrets/database/ca.crt}
{{- end -}}

{{- define "aegate.databaseMount" -}}
- {name: database, mountPath: /run/secrets/database, readOnly: true}
{{- end -}}

{{- define "aegate.databaseVolume" -}}
{{- $root := index . 0 -}}
- name: database
  secret:
    secretName: {{ index $root.Values.database.secrets (index . 1) }}
    optional: true
    defaultMode: 0440
    items: [{key: ca.crt, path: ca.crt}]
{{- end -}}

{{/*
Where the images lie, as a pod sees it: what the process is told, what it mounts, the pod's volumes. All there is of the
choice between claim and bucket; a worker has room for copies besides, where the blobs would be.
*/}}
{{- define "aegate.blobsEnv" -}}
{{- $s3 := .Values.blobs.s3 -}}
{{- if $s3.bucket -}}
- {name: AEGATE_S3_BUCKET, value: {{ quote $s3.bucket }}}
{{- with $s3.endpoint }}
- {name: AEGATE_S3_ENDPOINT, value: {{ quote . }}}
{{- end }}
- {name: AEGATE_S3_REGION, value: {{ quote $s3.region }}}
{{- with $s3.prefix }}
- {name: AEGATE_S3_PREFIX, value: {{ quote . }}}
{{- end }}
- {name: AEGATE_S3_SECRET, value: /etc/aegate/bucket}
# Read by nobody: a pod whose Secret is missing waits for this one, and says so in its status.
- name: AEGATE_S3_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ $s3.secret }}, key: access-key-id}}
{{- end -}}
{{- end -}}

{{- define "aegate.blobsMount" -}}
{{- if .Values.blobs.s3.bucket -}}
- {name: blobs, mountPath: /etc/aegate/bucket, readOnly: true}
{{- else -}}
- {name: blobs, mountPath: /var/lib/aegate/blobs}
{{- end -}}
{{- end -}}

{{- define "aegate.blobsVolume" -}}
- name: blobs
{{- if .Values.blobs.s3.bucket }}
  secret: {secretName: {{ .Values.blobs.s3.secret }}, optional: true, defaultMode: 0440}
{{- else }}
  persistentVolumeClaim: {claimName: {{ .Values.blobs.claim }}}
{{- end }}
{{- end -}}

{{/* What every container of ours has beside its command; call with (list $ "image" resources). */}}
{{- define "aegate.container" -}}
{{- $root := index . 0 -}}
image: {{ include "aegate.image" (list $root (index . 1)) | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- include "aegate.containerSecurity" $root | nindent 2 }}
resources: {{- toYaml (index . 2) | nindent 2 }}
{{- end -}}

{{/* The first container of a pod: it ends when the database has the schema; call with (list $ "worker" resources). */}}
{{- define "aegate.wait" -}}
{{- $root := index . 0 -}}
- name: wait-for-schema
  command: [python3, -m, aegate_core.database, wait]
  env:
    {{- include "aegate.dsn" (list $root (index . 1)) | nindent 4 }}
    - {name: AEGATE_LOG_FORMAT, value: json}
  volumeMounts:
    {{- include "aegate.databaseMount" $root | nindent 4 }}
  {{- include "aegate.container" . | nindent 2 }}
{{- end -}}

{{/* Probes on the health port, by HTTP. */}}
{{- define "aegate.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 1
  failureThreshold: 120
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
  timeoutSeconds: 5
livenessProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 10
  failureThreshold: 3
  timeoutSeconds: 5
{{- end -}}

{{/* Values of a container's list of metrics readers and of the chart's own pods. */}}
{{- define "aegate.metricsPeers" -}}
{{- range .Values.monitoring.metricsFrom }}
{{ list . | toYaml }}
{{- end }}
{{- end -}}
