"""Evaluate a NetworkPolicy as networking.k8s.io/v1 describes it: does this flow reach that port of a selected pod?"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Flow:
    """A connection to a pod; from outside, or from a pod with its labels and those of its namespace."""

    port: int
    address: str = "192.0.2.1"
    pod: Mapping[str, str] | None = None
    namespace: Mapping[str, str] = field(default_factory=dict)
    protocol: str = "TCP"


def admits(policy: Mapping[str, Any], flow: Flow) -> bool:
    """Say whether the policy lets the flow in; the pod it goes to is one that the policy selects."""
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    return any(
        _is_from(rule.get("from"), flow, policy["metadata"]["namespace"]) and _is_to(rule.get("ports"), flow)
        for rule in policy["spec"]["ingress"]
    )


def _is_to(ports: Sequence[Mapping[str, Any]] | None, flow: Flow) -> bool:
    if not ports:
        return True
    return any(p.get("protocol", "TCP") == flow.protocol and p["port"] == flow.port for p in ports)


def _is_from(peers: Sequence[Mapping[str, Any]] | None, flow: Flow, namespace: str) -> bool:
    if not peers:
        return True  # an empty list admits everybody
    return any(_is_peer(peer, flow, namespace) for peer in peers)


def _is_peer(peer: Mapping[str, Any], flow: Flow, namespace: str) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        assert block.keys() == {"cidr"}
        return ipaddress.ip_address(flow.address) in ipaddress.ip_network(block["cidr"])
    if flow.pod is None:
        return False
    if "namespaceSelector" in peer:
        is_there = _selects(peer["namespaceSelector"], flow.namespace)
    else:
        is_there = flow.namespace.get("kubernetes.io/metadata.name") == namespace
    return is_there and _selects(peer.get("podSelector", {}), flow.pod)


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()
