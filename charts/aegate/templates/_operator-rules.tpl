{{/*
What the operator may do: exact verbs, no Secret. Server-side apply is a PATCH, and a POST's right where it makes.
*/}}
{{- define "aegate.operatorRules" -}}
- apiGroups: [aegate.dev]
  resources: [applicationentities, imageroutes, patientpartitions]
  verbs: [get, list, watch]
- apiGroups: [aegate.dev]
  resources: [applicationentities/status, imageroutes/status, patientpartitions/status]
  verbs: [patch]
# An owner reference that blocks its owner's deletion needs this right (OwnerReferencesPermissionEnforcement).
- apiGroups: [aegate.dev]
  resources: [applicationentities/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# A spool outlives its AE: the operator never deletes one.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
