"""The Job that empties the spool which an ApplicationEntity, or a pool, left behind; only then may its claim go.

And the Job's NetworkPolicy. Nobody calls such a pod; kubelet's probes come from its own node, which is always let in.
"""

from __future__ import annotations

from collections.abc import Mapping

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.yaml_tree import members
from aegate_operator.installation import Installation
from aegate_operator.manifests.child import (
    AE_LABEL,
    DRAIN_APP,
    ENTITY_ANNOTATION,
    POOL_LABEL,
    Child,
    Manifest,
)
from aegate_operator.manifests.containers import draining, draining_of_pool
from aegate_operator.manifests.deployment import pod_security, shared_volumes
from aegate_operator.manifests.placement import placement, recalled


def drain_job(claim: Manifest, installation: Installation) -> Child:
    """Return the Job for a claim as it is in the cluster: its AE may be gone, so all is taken from the claim.

    It ends well when nothing is left, waits while the database is away, and is started anew as often as needed. The
    claim owns it, and goes after it: the Job holds the volume (kubernetes.io/pvc-protection) as long as it runs.
    """
    metadata = members(claim["metadata"])
    name, namespace = str(metadata["name"]), str(metadata["namespace"])
    key = ResourceKey(namespace, f"{name.removesuffix('-spool')}-drain")
    labels = {AE_LABEL: str(members(metadata.get("labels")).get(AE_LABEL, ""))}
    container = draining(ResourceKey(namespace, entity_of(claim)), installation)
    return Child("Job", key.name, _job(key, labels, claim, container, installation))


def pool_drain_key(pool: str, installation: Installation) -> ResourceKey:
    """Return the name of the Job that empties what a pool left."""
    return ResourceKey(installation.namespace, f"aegate-pool-{pool}-drain")


def pool_claim_key(pool: str, installation: Installation) -> ResourceKey:
    """Return the name of a pool's claim, as the chart makes it."""
    return ResourceKey(installation.namespace, f"aegate-pool-{pool}-spool")


def pool_drain_job(
    pool: str, claim: Manifest | None, installation: Installation, *, speaks_for_pool: bool
) -> Manifest:
    """Return the Job for what a pool left; without a claim it takes back the pool's word in the index, and no more.

    ``speaks_for_pool``: the pool has no pods any more, so the Job says in its name how far it is; else in one that no
    pool can have.
    """
    container = draining_of_pool(pool if speaks_for_pool else f"{pool}.left", installation)
    return _job(pool_drain_key(pool, installation), {POOL_LABEL: pool}, claim, container, installation)


def drain_policy(job: Manifest) -> Child:
    """Return the NetworkPolicy of a Job as it is in the cluster, which owns it: both go together.

    Its name begins as no child of an AE does: the Job of ``ct1`` is called as a child of ``ct1-drain`` would be.
    """
    metadata = members(job["metadata"])
    labels = dict(members(metadata.get("labels")))
    whose = {name: value for name, value in labels.items() if name in (AE_LABEL, POOL_LABEL)}
    selector = {"app.kubernetes.io/name": DRAIN_APP, **whose}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
    name = f"drain-{str(metadata['name']).removesuffix('-drain')}"
    manifest: Manifest = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": False}],
        },
        "spec": {"podSelector": {"matchLabels": selector}, "policyTypes": ["Ingress"], "ingress": []},
    }
    return Child("NetworkPolicy", name, manifest)


def entity_of(claim: Mapping[str, object]) -> str:
    """Return the name of the AE whose spool the claim is."""
    metadata = claim["metadata"]
    assert isinstance(metadata, Mapping)
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    return str(annotations.get(ENTITY_ANNOTATION) or labels.get(AE_LABEL, ""))


def _job(
    key: ResourceKey,
    labels: Mapping[str, str],
    claim: Manifest | None,
    container: Manifest,
    installation: Installation,
) -> Manifest:
    own_labels = {
        "app.kubernetes.io/name": DRAIN_APP,
        "app.kubernetes.io/managed-by": "aegate-operator",
        "app.kubernetes.io/part-of": "aegate",
        **labels,
    }
    metadata: Manifest = {"name": key.name, "namespace": key.namespace, "labels": own_labels}
    if claim is not None:
        metadata["ownerReferences"] = [_owner(members(claim["metadata"]))]
    spec = {
        "backoffLimit": 2**31 - 1,
        "podReplacementPolicy": "Failed",
        "template": {"metadata": {"labels": own_labels}, "spec": _pod_spec(claim, container, installation)},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _owner(metadata: Mapping[str, object]) -> Manifest:
    identity = {"name": str(metadata["name"]), "uid": str(metadata["uid"])}
    what = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    return what | identity | {"controller": True, "blockOwnerDeletion": False}


def _pod_spec(claim: Manifest | None, container: Manifest, installation: Installation) -> Manifest:
    spool: Manifest = {"emptyDir": {"sizeLimit": "64Mi"}}
    if claim is not None:
        spool = {"persistentVolumeClaim": {"claimName": members(claim["metadata"])["name"]}}
    spec: Manifest = {
        "containers": [container],
        "restartPolicy": "OnFailure",
        "volumes": [{"name": "spool", **spool}, *shared_volumes(installation)],
        "terminationGracePeriodSeconds": 30,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
    }
    if installation.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in installation.image_pull_secrets]
    return spec | placement(recalled(claim or {}), installation)
