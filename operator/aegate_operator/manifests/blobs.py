"""Where images lie, as the pod of an indexer sees it: a claim, or a bucket by the Secret of its credentials.

The Secret is a volume, so that a rotated one comes live, and optional: for one that lacks, kubelet would make the pod
wait without a word in its status. A variable from the same Secret makes it wait, and says for what.
"""

from __future__ import annotations

from aegate_operator.installation import Installation
from aegate_operator.manifests import places
from aegate_operator.manifests.child import Manifest

ACCESS_KEY = "access-key-id"
"""The key of the Secret that every pod asks for; the process reads it, and the rest, from the volume."""


def blobs_volume(installation: Installation) -> Manifest:
    """Return the pod's volume."""
    if bucket := installation.bucket:
        return {
            "name": "blobs",
            "secret": {"secretName": bucket.secret, "optional": True, "defaultMode": 0o440},
        }
    return {"name": "blobs", "persistentVolumeClaim": {"claimName": installation.blob_claim}}


def blobs_mount(installation: Installation) -> Manifest:
    """Return where the container has it."""
    if installation.bucket:
        return {"name": "blobs", "mountPath": places.BUCKET, "readOnly": True}
    return {"name": "blobs", "mountPath": places.BLOBS}


def blobs_variables(installation: Installation) -> list[Manifest]:
    """Return what the process is told; nothing of a claim."""
    bucket = installation.bucket
    if bucket is None:
        return []
    told = {
        "AEGATE_S3_BUCKET": bucket.name,
        "AEGATE_S3_ENDPOINT": bucket.endpoint,
        "AEGATE_S3_REGION": bucket.region,
        "AEGATE_S3_PREFIX": bucket.prefix,
        "AEGATE_S3_SECRET": places.BUCKET,
    }
    needed = {"secretKeyRef": {"name": bucket.secret, "key": ACCESS_KEY}}
    variables: list[Manifest] = [{"name": name, "value": value} for name, value in told.items() if value]
    return [*variables, {"name": "AEGATE_S3_ACCESS_KEY_ID", "valueFrom": needed}]
