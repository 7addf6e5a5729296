"""Where a device calls us: the address of the listener's Service, as ``host:port`` for status, index and people."""

from __future__ import annotations

from collections.abc import Mapping

from aegate_core.resources.yaml_tree import members


def endpoint_of(service: Mapping[str, object] | None) -> str:
    """Return host:port; empty while the Service has no address.

    A NodePort is on every node: there the host is ``*``.
    """
    if service is None:
        return ""
    metadata, spec = members(service.get("metadata")), members(service.get("spec"))
    ports = spec.get("ports")
    port = members(ports[0]) if isinstance(ports, list) and ports else {}
    kind = spec.get("type")
    if kind == "LoadBalancer":
        balancer = members(members(service.get("status")).get("loadBalancer"))
        ingress = balancer.get("ingress")
        first = members(ingress[0]) if isinstance(ingress, list) and ingress else {}
        host = first.get("ip") or first.get("hostname")
        return _joined(str(host), port.get("port")) if host else ""
    if kind == "NodePort":
        return _joined("*", port.get("nodePort")) if port.get("nodePort") else ""
    return _joined(f"{metadata.get('name')}.{metadata.get('namespace')}.svc", port.get("port"))


def _joined(host: str, port: object) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
