"""The spool's volume. Its claim has no owner: what was acknowledged and not yet indexed must outlive the AE."""

from __future__ import annotations

from aegate_core.resources.quantity import canonical_quantity
from aegate_core.resources.values import ApplicationEntity
from aegate_operator.installation import Installation
from aegate_operator.manifests.child import Child, Manifest, base_name, orphan
from aegate_operator.manifests.placement import remembered
from aegate_operator.manifests.wish import is_durable, spool_of


def claim_name(ae: ApplicationEntity) -> str:
    """Return the name of the AE's claim: always the same, so an AE that is made anew finds its images."""
    return f"{base_name(ae.key.name)}-spool"


def spool_claim(ae: ApplicationEntity, installation: Installation) -> Child | None:
    """Return the claim; None where the spool dies with its pod."""
    spool = spool_of(ae, installation)
    if not is_durable(spool):
        return None
    spec: Manifest = {
        "accessModes": [spool.access_mode],
        "resources": {"requests": {"storage": canonical_quantity(spool.size or "20Gi")}},
    }
    if spool.storage_class_name:
        spec["storageClassName"] = spool.storage_class_name
    return orphan(
        ae, "PersistentVolumeClaim", {"spec": spec}, name=claim_name(ae), annotations=remembered(ae)
    )


def spool_volume(ae: ApplicationEntity, installation: Installation) -> Manifest:
    """Return the pod's volume ``spool``."""
    if is_durable(spool_of(ae, installation)):
        return {"name": "spool", "persistentVolumeClaim": {"claimName": claim_name(ae)}}
    size = spool_of(ae, installation).size
    return {"name": "spool", "emptyDir": {"sizeLimit": canonical_quantity(size)} if size else {}}
