"""The NetworkPolicy: only the device reaches the DICOM port; only the operator and who reads metrics the others.

kubelet's probes come from the pod's own node, which every implementation lets through.
"""

from __future__ import annotations

from collections.abc import Mapping

from aegate_core.resources.values import ApplicationEntity
from aegate_operator.installation import Installation
from aegate_operator.manifests.child import Child, Manifest, child, selector
from aegate_operator.manifests.places import CONTAINER_PORT, HEALTH_PORT, INDEXER_HEALTH_PORT
from aegate_operator.manifests.wish import admitted_ranges


def network_policy(ae: ApplicationEntity, installation: Installation) -> Child:
    """Return the NetworkPolicy. A rule without a source would admit everybody, so one without ranges is left out."""
    own = {"podSelector": {"matchLabels": dict(installation.operator_labels)}}
    watchers = [_seen_from(installation.namespace, peer) for peer in (own, *installation.metrics_from)]
    rules: list[Manifest] = [{"from": watchers, "ports": [_port(HEALTH_PORT), _port(INDEXER_HEALTH_PORT)]}]
    if ranges := admitted_ranges(ae):
        devices = [{"ipBlock": {"cidr": cidr}} for cidr in ranges]
        rules.insert(0, {"from": devices, "ports": [_port(CONTAINER_PORT)]})
    spec = {"podSelector": {"matchLabels": selector(ae)}, "policyTypes": ["Ingress"], "ingress": rules}
    return child(ae, "networking.k8s.io/v1", "NetworkPolicy", {"spec": spec})


def _seen_from(namespace: str, peer: Mapping[str, object]) -> Manifest:
    """Return a peer as that namespace means it: pods without a namespaceSelector would be those of the AE's own."""
    if peer.get("namespaceSelector") is not None or peer.get("ipBlock") is not None:
        return dict(peer)
    return {**peer, "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}


def _port(number: int) -> Manifest:
    """Return the port by number: not every implementation knows the names of a sidecar's."""
    return {"protocol": "TCP", "port": number}
