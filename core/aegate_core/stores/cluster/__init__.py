"""The Kubernetes API server as a store of objects: read, list, apply, delete. Operator and API use it."""

from aegate_core.stores.cluster.client import ClusterClient, RequestSeen
from aegate_core.stores.cluster.connection import (
    ClusterConnection,
    from_kubeconfig,
    in_cluster,
    read_connection,
)
from aegate_core.stores.cluster.kinds import Kind
from aegate_core.stores.cluster.session import open_session

__all__ = [
    "ClusterClient",
    "ClusterConnection",
    "Kind",
    "RequestSeen",
    "from_kubeconfig",
    "in_cluster",
    "open_session",
    "read_connection",
]
