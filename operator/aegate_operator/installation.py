"""What the chart tells the operator: one JSON file, read once. What is absent has the default written here.

Nothing in it names the release: an installation that comes back under another name finds every listener as it
wants it, and rolls none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aegate_core.decisions.listener_config import OUR_TITLE
from aegate_core.dicom.ae_title import AETitle
from aegate_core.errors import InvalidValue
from aegate_core.resources.fields import Fields
from aegate_core.resources.values import Spool
from aegate_core.resources.yaml_tree import members
from aegate_core.settings import required
from aegate_operator.installation_schema import check_installation

PERSISTENT, EMPTY_DIR = "PersistentVolumeClaim", "EmptyDir"
SHARED_BY_NODES, ONE_NODE = "ReadWriteMany", "ReadWriteOnce"

_RECEIVER = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
_INDEXER = {"requests": {"cpu": "25m", "memory": "128Mi"}, "limits": {"memory": "768Mi"}}
"""By feel; 25 associations at once need about 150 MiB, a batch of the index 200. A limit of CPU would slow a burst."""

_SPOOL = Spool(PERSISTENT, SHARED_BY_NODES, None, "20Gi")


@dataclass(frozen=True, slots=True)
class ListenerTemplate:
    """What a listener is where its ApplicationEntity says nothing."""

    service_type: str = "ClusterIP"
    replicas: int = 1
    port: int = 11112
    """Of the Service, for an AE without TLS; with TLS it is 2762."""
    spool: Spool = _SPOOL
    grace_s: int = 300
    """How long associations may go on after SIGTERM, unless the AE says how long they may be at all."""
    pre_stop_s: int = 5
    """How long a pod that is to end still accepts: until then every node knows that it is no endpoint any more."""
    index_wait_s: int = 30
    """With ``acknowledge: Indexed``, how long a device waits for the indexer."""
    host: str = "0.0.0.0"
    """What pods listen on; ``::`` on clusters with IPv6."""
    receiver_resources: Mapping[str, object] = field(default_factory=lambda: _RECEIVER)
    indexer_resources: Mapping[str, object] = field(default_factory=lambda: _INDEXER)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, object], ...] = ()
    priority_class_name: str | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """Listeners of the chart that serve many AEs on one port."""

    name: str
    endpoint: str
    """host:port of its Service within the cluster."""
    shares: int = 4
    """Over how many ConfigMaps its AEs are shared out; each holds about 800."""
    grace_s: int = 300
    """How long associations may go on after SIGTERM."""
    service: str = ""
    """Its Service, where only that says what address devices reach it by: NodePort, LoadBalancer."""
    waits_for_index: bool = False
    """Its spool dies with its pods: an image is acknowledged when it is indexed."""


@dataclass(frozen=True, slots=True)
class ImageBucket:
    """A bucket of S3 that holds the images instead of a claim."""

    name: str
    secret: str
    """Secret that must be in every namespace of an AE; keys access-key-id, secret-access-key and perhaps ca.crt."""
    endpoint: str = ""
    region: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Installation:
    """Everything that stands outside the custom resources."""

    image: str
    """Of listener and indexer."""
    namespace: str
    """Where the operator runs."""
    release: str = "aegate"
    watched_namespaces: tuple[str, ...] = ()
    """Empty: all of the cluster."""
    title: AETitle = OUR_TITLE
    """What devices call us, for an AE that names no ``listener.calledTitle``."""
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    listener: ListenerTemplate = ListenerTemplate()
    database_secret: str = "aegate-database"
    """Secret that must be in every namespace of an AE; its key ``dsn`` holds postgres://..."""
    blob_claim: str = "aegate-blobs"
    """PersistentVolumeClaim that must be in every namespace of an AE, unless there is a bucket."""
    bucket: ImageBucket | None = None
    operator_labels: Mapping[str, str] = field(
        default_factory=lambda: {"app.kubernetes.io/name": "aegate-operator"}
    )
    """Of the operator's own pods, which ask listeners how they are."""
    metrics_from: tuple[Mapping[str, object], ...] = ()
    """NetworkPolicyPeers that may read metrics."""
    max_concurrent_rollouts: int = 10
    pools: Mapping[str, Pool] = field(default_factory=dict)
    """By name."""


def read_installation(environ: Mapping[str, str]) -> Installation:
    """Return what the file named by ``AEGATE_INSTALLATION`` says. Raises InvalidInput naming the field."""
    path = Path(required(environ, "AEGATE_INSTALLATION"))
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidValue(
            f"AEGATE_INSTALLATION must name a file of JSON, got {type(error).__name__} at {path}: mend the chart"
        ) from error
    return parse_installation(values)


def parse_installation(values: object) -> Installation:
    """Return the installation that ``values``, decoded JSON, describe. Raises InvalidInput naming the field."""
    top = Fields(values, "installation")
    known = Installation(image=top.required_text("image"), namespace=top.required_text("namespace"))
    _refuse_unknown(top, values, _INSTALLATION)
    check_installation(members(values))
    return Installation(
        image=known.image,
        namespace=known.namespace,
        release=top.text("release", known.release),
        watched_namespaces=top.texts("watchedNamespaces"),
        title=top.title("title") or known.title,
        image_pull_policy=top.text("imagePullPolicy", known.image_pull_policy),
        image_pull_secrets=top.texts("imagePullSecrets"),
        listener=_listener(top),
        database_secret=top.text("databaseSecret", known.database_secret),
        blob_claim=top.text("blobClaim", known.blob_claim),
        bucket=_bucket(top),
        operator_labels=top.mapping("operatorLabels") or known.operator_labels,
        metrics_from=_objects(top, "metricsFrom"),
        max_concurrent_rollouts=top.integer("maxConcurrentRollouts", known.max_concurrent_rollouts),
        pools={pool.name: pool for pool in _pools(top)},
    )


_INSTALLATION = frozenset(
    {
        *("image", "namespace", "release", "watchedNamespaces", "title", "imagePullPolicy"),
        *("imagePullSecrets", "listener", "databaseSecret", "blobClaim", "operatorLabels", "metricsFrom"),
        *("maxConcurrentRollouts", "pools", "bucket"),
    }
)
_LISTENER = frozenset(
    {
        *("serviceType", "replicas", "port", "spool", "graceSeconds", "preStopSeconds", "indexWaitSeconds"),
        *("host", "receiverResources", "indexerResources", "nodeSelector", "tolerations"),
        "priorityClassName",
    }
)


def _listener(top: Fields) -> ListenerTemplate:
    listener, default = top.child("listener"), ListenerTemplate()
    _refuse_unknown(listener, top.raw("listener"), _LISTENER)
    return ListenerTemplate(
        service_type=listener.text("serviceType", default.service_type),
        replicas=listener.integer("replicas", default.replicas),
        port=listener.integer("port", default.port),
        spool=_spool(listener),
        grace_s=listener.integer("graceSeconds", default.grace_s),
        pre_stop_s=listener.integer("preStopSeconds", default.pre_stop_s),
        index_wait_s=listener.integer("indexWaitSeconds", default.index_wait_s),
        host=listener.text("host", default.host),
        receiver_resources=listener.raw("receiverResources") or default.receiver_resources,
        indexer_resources=listener.raw("indexerResources") or default.indexer_resources,
        node_selector=listener.mapping("nodeSelector"),
        tolerations=_objects(listener, "tolerations"),
        priority_class_name=listener.optional_text("priorityClassName"),
    )


_BUCKET = frozenset({"name", "secret", "endpoint", "region", "prefix"})


def _bucket(top: Fields) -> ImageBucket | None:
    if not top.mapping("bucket"):
        return None
    bucket = top.child("bucket")
    _refuse_unknown(bucket, top.raw("bucket"), _BUCKET)
    return ImageBucket(
        name=bucket.required_text("name"),
        secret=bucket.required_text("secret"),
        endpoint=bucket.text("endpoint", ""),
        region=bucket.text("region", ""),
        prefix=bucket.text("prefix", ""),
    )


_POOL = frozenset({"name", "endpoint", "shares", "graceSeconds", "service", "waitsForIndex"})


def _pools(top: Fields) -> Iterator[Pool]:
    for values in _objects(top, "pools"):
        pool = Fields(values, "installation.pools")
        _refuse_unknown(pool, values, _POOL)
        yield Pool(
            name=pool.required_text("name"),
            endpoint=pool.required_text("endpoint"),
            shares=pool.integer("shares", 4),
            grace_s=pool.integer("graceSeconds", 300),
            service=pool.text("service", ""),
            waits_for_index=pool.flag("waitsForIndex", False),
        )


def _spool(listener: Fields) -> Spool:
    spool = listener.child("spool")
    kind = spool.text("type", PERSISTENT)
    access = spool.text("accessMode", SHARED_BY_NODES)
    if kind not in (PERSISTENT, EMPTY_DIR) or access not in (SHARED_BY_NODES, ONE_NODE):
        raise InvalidValue(
            f"{spool.path} must be {PERSISTENT} ({SHARED_BY_NODES} or {ONE_NODE}) or {EMPTY_DIR}, "
            f"got {kind} {access}: mend listener.spool in the chart's values"
        )
    return Spool(kind, access, spool.optional_text("storageClassName"), spool.text("size", str(_SPOOL.size)))


def _objects(fields: Fields, name: str) -> tuple[Mapping[str, object], ...]:
    return tuple(Fields({name: item}, fields.path).raw(name) for item in fields.items(name))


def _refuse_unknown(fields: Fields, values: object, known: frozenset[str]) -> None:
    unknown = sorted(set(values) - known) if isinstance(values, Mapping) else []
    if unknown:
        raise InvalidValue(
            f"{fields.path} must hold known fields, got {', '.join(unknown)}: known are {', '.join(sorted(known))}"
        )
