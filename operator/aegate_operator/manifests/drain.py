"""The Job that empties the spool which an ApplicationEntity left behind; only then may its claim go."""

from __future__ import annotations

from collections.abc import Mapping

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.yaml_tree import members
from aegate_operator.installation import Installation
from aegate_operator.manifests.child import AE_LABEL, DRAIN_APP, ENTITY_ANNOTATION, Child, Manifest
from aegate_operator.manifests.containers import draining
from aegate_operator.manifests.deployment import pod_security, shared_volumes
from aegate_operator.manifests.placement import placement, recalled


def drain_job(claim: Mapping[str, object], installation: Installation) -> Child:
    """Return the Job for a claim as it is in the cluster: its AE may be gone, so all is taken from the claim.

    It ends well when nothing is left, waits while the database is away, and is started anew as often as needed. The
    claim owns it, and goes after it: the Job holds the volume (kubernetes.io/pvc-protection) as long as it runs.
    """
    metadata = claim["metadata"]
    assert isinstance(metadata, Mapping)
    name, namespace = str(metadata["name"]), str(metadata["namespace"])
    labels = metadata.get("labels") or {}
    job = f"{name.removesuffix('-spool')}-drain"
    own_labels = {
        "app.kubernetes.io/name": DRAIN_APP,
        "app.kubernetes.io/managed-by": "aegate-operator",
        "app.kubernetes.io/part-of": "aegate",
        AE_LABEL: str(labels.get(AE_LABEL, "")),
    }
    ae = ResourceKey(namespace, entity_of(claim))
    owner = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": name, "uid": str(metadata["uid"])}
    manifest: Manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job,
            "namespace": namespace,
            "labels": own_labels,
            "ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": False}],
        },
        "spec": {
            "backoffLimit": 2**31 - 1,
            "podReplacementPolicy": "Failed",
            "template": {"metadata": {"labels": own_labels}, "spec": _pod_spec(claim, ae, installation)},
        },
    }
    return Child("Job", job, manifest)


def entity_of(claim: Mapping[str, object]) -> str:
    """Return the name of the AE whose spool the claim is."""
    metadata = claim["metadata"]
    assert isinstance(metadata, Mapping)
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    return str(annotations.get(ENTITY_ANNOTATION) or labels.get(AE_LABEL, ""))


def _pod_spec(claim: Mapping[str, object], ae: ResourceKey, installation: Installation) -> Manifest:
    name = members(claim["metadata"])["name"]
    spec: Manifest = {
        "containers": [draining(ae, installation)],
        "restartPolicy": "OnFailure",
        "volumes": [
            {"name": "spool", "persistentVolumeClaim": {"claimName": name}},
            *shared_volumes(installation),
        ],
        "terminationGracePeriodSeconds": 30,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
    }
    if installation.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in installation.image_pull_secrets]
    return spec | placement(recalled(claim), installation)
