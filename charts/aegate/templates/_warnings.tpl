{{/* What goes, and is better known. One a line. */}}
{{- define "aegate.warnings" -}}
{{- $values := .Values }}
{{- if $values.database.trial.enabled }}
- database.trial is for trials: one pod, no backup, no standby, and the password is in the values of this release. Images that only it knows are lost with its volume.
{{- end }}
{{- $s3 := $values.blobs.s3 }}
{{- if hasPrefix "http://" $s3.endpoint }}
- blobs.s3.endpoint is http: images go to the bucket in clear, whoever is on that network reads them.
{{- end }}
{{- if and $s3.bucket (lookup "v1" "PersistentVolumeClaim" .Release.Namespace $values.blobs.claim) }}
- blobs.s3.bucket is set, and PersistentVolumeClaim {{ $values.blobs.claim }} is there: images in it are not found any more unless they were copied into the bucket, under the same keys.
{{- end }}
{{- if and (eq $values.blobs.accessMode "ReadWriteOnce") (not $s3.bucket) }}
- blobs.accessMode ReadWriteOnce: listeners and workers all have to run on one node; pods on others wait for ever.
{{- end }}
{{- if and $values.blobs.create (not $s3.bucket) (not (include "aegate.isOurs" (list $ "v1" "PersistentVolumeClaim" .Release.Namespace $values.blobs.claim))) }}
- PersistentVolumeClaim {{ $values.blobs.claim }} was made by another release, or by hand: it is used as it is.
{{- end }}
{{- if not (or $values.blobs.create $s3.bucket) }}
- blobs.create is false: PersistentVolumeClaim {{ $values.blobs.claim }} has to be in {{ .Release.Namespace }}, or pods wait for it.
{{- end }}
{{- if eq $values.listener.spool.type "EmptyDir" }}
- listener.spool.type EmptyDir: a spool is lost with its pod, so devices wait until each image is in the index, and hear a refusal while the database is away.
{{- else if eq $values.listener.spool.accessMode "ReadWriteOnce" }}
- listener.spool.accessMode ReadWriteOnce: one pod a listener; devices are refused while it is replaced.
{{- end }}
{{- if lt (int $values.worker.replicas) 2 }}
- worker.replicas {{ $values.worker.replicas }}: {{ if eq (int $values.worker.replicas) 0 }}nothing is routed or sent.{{ else }}nothing is sent while it is replaced.{{ end }}
{{- end }}
{{- if not $values.retention.enabled }}
- retention.enabled is false: nothing is ever removed, whatever PatientPartitions say; watch the volume of the images.
{{- end }}
{{- if not $values.networkPolicies.enabled }}
- networkPolicies.enabled is false: whoever is in the cluster may read metrics.
{{- end }}
{{- if and $values.monitoring.serviceMonitor.enabled (not $values.monitoring.metricsFrom) (or $values.networkPolicies.enabled true) }}
- monitoring.metricsFrom is empty: NetworkPolicies keep Prometheus from the metrics; name its namespace and pods.
{{- end }}
{{- if and (eq $values.listener.serviceType "ClusterIP") }}
- listener.serviceType ClusterIP: devices outside of the cluster do not reach listeners; NodePort or LoadBalancer do, here or in each ApplicationEntity.
{{- end }}
{{- if $values.crds.install }}
{{- range $path, $content := .Files.Glob "files/crds/*.yaml" }}
{{- $crd := fromYaml (toString $content) }}
{{- if not (include "aegate.isOurs" (list $ "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" $crd.metadata.name)) }}
- CRD {{ $crd.metadata.name }} was made by another release, or by hand: it stays as it is, and is not updated with this one. To take it over: helm upgrade --take-ownership --set adopt=true
{{- end }}
{{- end }}
{{- else }}
- crds.install is false: kubectl apply --server-side --filename crds/ before each upgrade.
{{- end }}
{{- end -}}
