"""The Deployment: receiver and indexer of one image in each pod.

Whatever stands here costs every open association of the AE when it changes, within its grace period. So only what a
running process cannot take up stands here; all else is in the ConfigMap.
"""

from __future__ import annotations

from aegate_core.resources.values import ApplicationEntity
from aegate_operator.installation import Installation
from aegate_operator.manifests import places
from aegate_operator.manifests.blobs import blobs_volume
from aegate_operator.manifests.child import Child, Manifest, base_name, child, labels, selector
from aegate_operator.manifests.containers import indexer, receiver
from aegate_operator.manifests.placement import placement
from aegate_operator.manifests.spool import spool_volume
from aegate_operator.manifests.wish import is_of_one_node, replicas, spool_of, termination_s

MIN_READY_S = 2
"""A pod that is ready for so long counts; what fails at once after its start is not waited for."""


def deployment(ae: ApplicationEntity, installation: Installation) -> Child:
    """Return the Deployment."""
    spec: Manifest = {
        "replicas": replicas(ae, installation),
        "selector": {"matchLabels": selector(ae)},
        "strategy": _strategy(ae, installation),
        "minReadySeconds": MIN_READY_S,
        "revisionHistoryLimit": 2,
        "template": {"metadata": {"labels": labels(ae)}, "spec": pod_spec(ae, installation)},
    }
    return child(ae, "apps/v1", "Deployment", {"spec": spec})


def _strategy(ae: ApplicationEntity, installation: Installation) -> Manifest:
    """Return how pods follow one another: with a volume of one node the old one has to go first."""
    if is_of_one_node(spool_of(ae, installation)):
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def pod_spec(ae: ApplicationEntity, installation: Installation) -> Manifest:
    """Return the pod: as Pod Security *restricted* asks, and without any token of the cluster."""
    spec: Manifest = {
        "initContainers": [indexer(ae, installation)],
        "containers": [receiver(ae, installation)],
        "volumes": _volumes(ae, installation),
        "terminationGracePeriodSeconds": termination_s(ae, installation),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(ae)},
            }
        ],
    }
    if installation.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in installation.image_pull_secrets]
    return spec | placement(ae.listener.pod, installation)


def pod_security() -> Manifest:
    """Return the pod's part of Pod Security *restricted*; the group may write into the volumes."""
    return {
        "runAsNonRoot": True,
        "runAsUser": places.USER,
        "runAsGroup": places.USER,
        "fsGroup": places.USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _volumes(ae: ApplicationEntity, installation: Installation) -> list[Manifest]:
    volumes: list[Manifest] = [
        {"name": "config", "configMap": {"name": base_name(ae.key.name)}},
        spool_volume(ae, installation),
        *shared_volumes(installation),
    ]
    if tls := ae.listener.tls:
        volumes.append(_secret(tls.secret_name, "tls", ("tls.crt", "tls.key")))
        volumes.append(_secret(tls.ca_secret_name or tls.secret_name, "tls-ca", ("ca.crt",)))
    return volumes


def shared_volumes(installation: Installation) -> list[Manifest]:
    """Return the volumes of an indexer that are not the AE's."""
    return [
        blobs_volume(installation),
        _secret(installation.database_secret, "database", (places.DSN_KEY, places.DATABASE_CA_KEY)),
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]


def _secret(name: str, volume: str, keys: tuple[str, ...]) -> Manifest:
    """Return a volume of these keys alone. Optional: what is missing is said on the health port, and comes live."""
    items = [{"key": key, "path": key} for key in keys]
    return {
        "name": volume,
        "secret": {"secretName": name, "optional": True, "defaultMode": 0o440, "items": items},
    }
