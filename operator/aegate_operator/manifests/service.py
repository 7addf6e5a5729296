"""The Service: the address that devices are told. It lives as long as the AE, so a device is configured once."""

from __future__ import annotations

from aegate_core.resources.values import ApplicationEntity
from aegate_operator.installation import Installation
from aegate_operator.manifests.child import Child, Manifest, child, selector
from aegate_operator.manifests.wish import admitted_ranges, service_port, service_type


def service(ae: ApplicationEntity, installation: Installation) -> Child:
    """Return the Service. From outside, addresses reach the listener as they are: it admits by them."""
    kind = service_type(ae, installation)
    port: Manifest = {
        "name": "dicom",
        "port": service_port(ae, installation),
        "protocol": "TCP",
        "targetPort": "dicom",
    }
    spec: Manifest = {"type": kind, "selector": selector(ae), "ports": [port]}
    if installation.listener.host == "::":
        spec["ipFamilyPolicy"] = "PreferDualStack"
    if kind != "ClusterIP":
        spec["externalTrafficPolicy"] = "Local"
        if ae.listener.node_port:
            port["nodePort"] = ae.listener.node_port
    if kind == "LoadBalancer":
        if ranges := admitted_ranges(ae):
            spec["loadBalancerSourceRanges"] = list(ranges)
        if ae.listener.load_balancer_class:
            spec["loadBalancerClass"] = ae.listener.load_balancer_class
    return child(ae, "v1", "Service", {"spec": spec}, annotations=ae.listener.service_annotations)
