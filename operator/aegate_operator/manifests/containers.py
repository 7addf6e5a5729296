"""The two containers of a listener's pod.

The indexer is a native sidecar (an init container that goes on, KEP-753): it starts before the receiver and stops
after it, so what the last association sent is indexed by the pod that took it. It has no readiness probe: a database
that is away must not take the listener out of its Service.
"""

from __future__ import annotations

from collections.abc import Mapping

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.quantity import canonical_quantity
from aegate_core.resources.values import ApplicationEntity
from aegate_operator.installation import Installation
from aegate_operator.manifests import places
from aegate_operator.manifests.blobs import blobs_mount, blobs_variables
from aegate_operator.manifests.child import Manifest

ENTITY = "AEGATE_AE"
INDEXER = "AEGATE_INDEXER"
SPOOL_PROCESS = "AEGATE_SPOOL_PROCESS"
DATABASE_FILE = "AEGATE_DATABASE_URL_FILE"


def receiver(ae: ApplicationEntity, installation: Installation) -> Manifest:
    """Return the container that devices talk to. It knows neither database nor blobs."""
    template = installation.listener
    mounts = [
        _mount("config", places.CONFIG_FOLDER, read_only=True),
        _mount("spool", places.SPOOL),
        _mount("tmp", "/tmp"),
    ]
    if ae.listener.tls:
        mounts.append(_mount("tls", f"{places.SECRETS}/identity", read_only=True))
        mounts.append(_mount("tls-ca", f"{places.SECRETS}/ca", read_only=True))
    return {
        **_container("receiver", "aegate_scp", installation),
        "env": [
            _variable("AEGATE_LISTENER_CONFIG", f"{places.CONFIG_FOLDER}/{places.CONFIG_FILE}"),
            _health_address(template.host, places.HEALTH_PORT),
            _variable("AEGATE_LOG_FORMAT", "json"),
            _pod_uid(SPOOL_PROCESS),
        ],
        "ports": [_port("dicom", places.CONTAINER_PORT), _port("health", places.HEALTH_PORT)],
        "volumeMounts": mounts,
        "resources": _resources(template.receiver_resources, ae.listener.pod.get("resources")),
        "startupProbe": _probe("/healthz", places.HEALTH_PORT, periodSeconds=1, failureThreshold=120),
        "readinessProbe": _probe("/readyz", places.HEALTH_PORT, periodSeconds=2, failureThreshold=2),
        "livenessProbe": _liveness(places.HEALTH_PORT),
        "lifecycle": {"preStop": {"sleep": {"seconds": template.pre_stop_s}}},
    }


def indexer(ae: ApplicationEntity, installation: Installation) -> Manifest:
    """Return the sidecar that takes arrivals from the spool into the index."""
    return {
        **indexing(ae.key, installation),
        "restartPolicy": "Always",
        "startupProbe": _probe("/healthz", places.INDEXER_HEALTH_PORT, periodSeconds=1, failureThreshold=120),
    }


def draining(ae: ResourceKey, installation: Installation) -> Manifest:
    """Return the container that takes what an AE left in its spool into the index, and then ends."""
    return {
        **indexing(ae, installation),
        "name": "drain",
        "command": ["python3", "-m", "aegate_scp.indexer", "--until-empty"],
    }


def draining_of_pool(word: str, installation: Installation) -> Manifest:
    """Return the same for what the AEs of a pool left; ``word`` is the name that it has in the index, as pools have."""
    container = draining(ResourceKey(installation.namespace, word), installation)
    env = container["env"]
    assert isinstance(env, list)
    kept = [variable for variable in env if variable["name"] not in (ENTITY, INDEXER)]
    return container | {"env": [*kept, _variable(INDEXER, f"pool-{word}")]}


def indexing(ae: ResourceKey, installation: Installation) -> Manifest:
    """Return what every container that indexes has, whether beside a receiver or in a Job."""
    return {
        **_container("indexer", "aegate_scp.indexer", installation),
        "env": [*_indexer_variables(ae, installation), _pod_uid(INDEXER), _pod_uid(SPOOL_PROCESS)],
        "volumeMounts": [
            _mount("spool", places.SPOOL),
            blobs_mount(installation),
            _mount("database", places.DATABASE, read_only=True),
            _mount("tmp", "/tmp"),
        ],
        "ports": [_port("indexer-health", places.INDEXER_HEALTH_PORT)],
        "resources": _resources(installation.listener.indexer_resources, None),
        "livenessProbe": _liveness(places.INDEXER_HEALTH_PORT),
    }


def _indexer_variables(ae: ResourceKey, installation: Installation) -> list[Manifest]:
    return [
        _variable("AEGATE_DATA", places.DATA),
        _variable(DATABASE_FILE, f"{places.DATABASE}/{places.DSN_KEY}"),
        _variable("AEGATE_DATABASE_CA", f"{places.DATABASE}/{places.DATABASE_CA_KEY}"),
        _variable(ENTITY, str(ae)),
        *blobs_variables(installation),
        _health_address(installation.listener.host, places.INDEXER_HEALTH_PORT),
        _variable("AEGATE_LOG_FORMAT", "json"),
    ]


def _container(name: str, module: str, installation: Installation) -> Manifest:
    return {
        "name": name,
        "image": installation.image,
        "imagePullPolicy": installation.image_pull_policy,
        "command": ["python3", "-m", module],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _health_address(host: str, port: int) -> Manifest:
    return _variable("AEGATE_HEALTH_LISTEN", f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def _variable(name: str, value: str) -> Manifest:
    return {"name": name, "value": value}


def _pod_uid(name: str) -> Manifest:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}}}


def _mount(name: str, path: str, *, read_only: bool = False) -> Manifest:
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def _port(name: str, number: int) -> Manifest:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def _probe(path: str, port: int, **often: int) -> Manifest:
    """Return a probe by HTTP: one by TCP on the DICOM port would fill the association slots."""
    return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}, "timeoutSeconds": 5, **often}


def _liveness(port: int) -> Manifest:
    """Return the probe that ends a process which stands still. It has no association to wait for."""
    return {
        **_probe("/healthz", port, periodSeconds=10, failureThreshold=3),
        "terminationGracePeriodSeconds": 30,
    }


def _resources(template: Mapping[str, object], wished: object) -> Manifest:
    """Return requests and limits; what the AE names goes before the installation's."""
    own = wished if isinstance(wished, Mapping) else {}
    found: Manifest = {}
    for part in ("requests", "limits"):
        merged = {**_quantities(template.get(part)), **_quantities(own.get(part))}
        if merged:
            found[part] = merged
    return found


def _quantities(values: object) -> dict[str, str]:
    """Return quantities as an API server writes them, or every comparison with what it has would differ."""
    named = values if isinstance(values, Mapping) else {}
    return {str(name): canonical_quantity(str(value)) for name, value in named.items()}
