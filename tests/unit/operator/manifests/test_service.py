"""The address that a device is told."""

from __future__ import annotations

from typing import Any

import pytest

from aegate_core.resources.values import ListenerTLS
from tests.unit.operator.manifests.builders import at, entity, installation, of_kind

TLS = ListenerTLS("identity-of-ct1")


def spec(**values: Any) -> dict[str, Any]:
    found = at(of_kind("Service", entity(**values)).manifest, "spec")
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("listener", "expected"),
    [({}, 11112), ({"tls": TLS}, 2762), ({"port": 104}, 104), ({"port": 4242, "tls": TLS}, 4242)],
)
def test_port_is_the_listeners_and_never_the_devices(listener: dict[str, Any], expected: int) -> None:
    (port,) = spec(port=105, listener=listener)["ports"]

    assert port == {"name": "dicom", "port": expected, "protocol": "TCP", "targetPort": "dicom"}


def test_service_of_the_cluster_keeps_to_what_is_needed() -> None:
    assert spec() == {
        "type": "ClusterIP",
        "selector": {"app.kubernetes.io/name": "aegate-listener", "aegate.dev/ae": "ct1"},
        "ports": [{"name": "dicom", "port": 11112, "protocol": "TCP", "targetPort": "dicom"}],
    }


def test_node_port_keeps_the_devices_address() -> None:
    found = spec(listener={"service_type": "NodePort", "node_port": 30104})

    assert (found["type"], found["externalTrafficPolicy"]) == ("NodePort", "Local")
    assert found["ports"][0]["nodePort"] == 30104
    assert "loadBalancerSourceRanges" not in found


def test_load_balancer_admits_whom_the_policy_admits() -> None:
    ae = entity(
        source_ranges=("10.9.0.0/24",),
        listener={
            "service_type": "LoadBalancer",
            "load_balancer_class": "metallb.example/l2",
            "service_annotations": {"metallb.example/pool": "radiology"},
        },
    )

    service, policy = of_kind("Service", ae).manifest, of_kind("NetworkPolicy", ae).manifest

    ranges = [peer["ipBlock"]["cidr"] for peer in at(policy, "spec", "ingress", 0, "from")]
    assert at(service, "spec", "loadBalancerSourceRanges") == ranges == ["10.1.2.3/32", "10.9.0.0/24"]
    assert at(service, "spec", "loadBalancerClass") == "metallb.example/l2"
    assert at(service, "spec", "externalTrafficPolicy") == "Local"
    assert at(service, "metadata", "annotations") == {"metallb.example/pool": "radiology"}


def test_load_balancer_without_a_policy_admits_everybody() -> None:
    found = spec(
        network_policy="Disabled", source_ranges=("10.9.0.0/24",), listener={"service_type": "LoadBalancer"}
    )

    assert "loadBalancerSourceRanges" not in found


def test_type_comes_from_the_installation_unless_the_ae_names_one() -> None:
    outside = installation(service_type="NodePort")

    assert at(of_kind("Service", entity(), outside).manifest, "spec", "type") == "NodePort"
    inside = entity(listener={"service_type": "ClusterIP"})
    assert at(of_kind("Service", inside, outside).manifest, "spec", "type") == "ClusterIP"


def test_both_families_where_pods_listen_on_both() -> None:
    found = at(of_kind("Service", entity(), installation(host="::")).manifest, "spec")

    assert found["ipFamilyPolicy"] == "PreferDualStack"
