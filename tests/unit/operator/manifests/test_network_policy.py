"""Which connections the NetworkPolicy lets in, flow by flow."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator.manifests.builders import at, entity, installation, kinds, of_kind
from tests.unit.operator.manifests.policies import Flow, admits

DICOM, HEALTH, INDEXER = 11112, 8080, 8081
SYSTEM = {"kubernetes.io/metadata.name": "aegate-system"}
MONITORING = {"kubernetes.io/metadata.name": "monitoring", "team": "platform"}
RADIOLOGY = {"kubernetes.io/metadata.name": "radiology"}
OPERATOR = {"app.kubernetes.io/name": "aegate-operator", "pod-template-hash": "7f"}
PROMETHEUS = {"app": "prometheus"}
METRICS_FROM = (
    {"namespaceSelector": {"matchLabels": {"team": "platform"}}, "podSelector": {"matchLabels": PROMETHEUS}},
)

COMMON = [
    (Flow(HEALTH, pod=OPERATOR, namespace=SYSTEM), True),
    (Flow(INDEXER, pod=OPERATOR, namespace=SYSTEM), True),
    (Flow(HEALTH, pod=PROMETHEUS, namespace=MONITORING), True),
    (Flow(INDEXER, pod=PROMETHEUS, namespace=MONITORING), True),
    (Flow(DICOM, pod=OPERATOR, namespace=SYSTEM), False),
    (Flow(DICOM, pod=PROMETHEUS, namespace=MONITORING), False),
    (Flow(HEALTH, pod=OPERATOR, namespace=RADIOLOGY), False),
    (Flow(HEALTH, pod=PROMETHEUS, namespace=RADIOLOGY), False),
    (Flow(HEALTH, pod={"app": "other"}, namespace=MONITORING), False),
    (Flow(HEALTH, pod={"app": "other"}, namespace=SYSTEM), False),
    (Flow(INDEXER, pod={"app": "other"}, namespace=SYSTEM), False),
    (Flow(HEALTH, pod={}, namespace=RADIOLOGY), False),
    (Flow(DICOM, pod={"app": "other"}, namespace=RADIOLOGY), False),
    (Flow(HEALTH, address="198.51.100.1"), False),
    (Flow(INDEXER, address="198.51.100.1"), False),
    (Flow(DICOM, address="198.51.100.1"), False),
    (Flow(DICOM, address="2001:db8::99"), False),
    (Flow(22, pod=OPERATOR, namespace=SYSTEM), False),
    (Flow(9000, pod=PROMETHEUS, namespace=MONITORING), False),
    (Flow(HEALTH, pod=OPERATOR, namespace=SYSTEM, protocol="UDP"), False),
]
"""True of every policy."""

DEVICES: dict[str, tuple[dict[str, Any], list[tuple[Flow, bool]]]] = {
    "node": (
        {"node": "10.1.2.3"},
        [
            (Flow(DICOM, address="10.1.2.3"), True),
            (Flow(DICOM, address="10.1.2.4"), False),
            (Flow(HEALTH, address="10.1.2.3"), False),
            (Flow(INDEXER, address="10.1.2.3"), False),
            (Flow(104, address="10.1.2.3"), False),
            (Flow(DICOM, address="10.1.2.3", protocol="UDP"), False),
        ],
    ),
    "node of IPv6": (
        {"node": "2001:db8::7"},
        [
            (Flow(DICOM, address="2001:db8::7"), True),
            (Flow(DICOM, address="2001:db8::8"), False),
            (Flow(HEALTH, address="2001:db8::7"), False),
        ],
    ),
    "node and ranges": (
        {"node": "10.1.2.3", "source_ranges": ("10.9.0.0/24", "2001:db8:1::/48")},
        [
            (Flow(DICOM, address="10.1.2.3"), True),
            (Flow(DICOM, address="10.9.0.255"), True),
            (Flow(DICOM, address="2001:db8:1:2::3"), True),
            (Flow(DICOM, address="10.9.1.0"), False),
            (Flow(DICOM, address="2001:db8:2::"), False),
            (Flow(HEALTH, address="10.9.0.255"), False),
        ],
    ),
    "named node and ranges": (
        {"node": "ct1.radiology.example", "source_ranges": ("10.9.0.0/24",)},
        [
            (Flow(DICOM, address="10.9.0.1"), True),
            (Flow(DICOM, address="10.1.2.3"), False),
            (Flow(INDEXER, address="10.9.0.1"), False),
        ],
    ),
    "named node alone, as no CRD of ours lets it be": (
        {"node": "ct1.radiology.example"},
        [(Flow(DICOM, address="10.1.2.3"), False), (Flow(DICOM, pod={}, namespace=RADIOLOGY), False)],
    ),
    "TLS on its own port of the Service": (
        {"node": "10.1.2.3", "listener": {"port": 104}},
        [(Flow(DICOM, address="10.1.2.3"), True), (Flow(104, address="10.1.2.3"), False)],
    ),
}


@pytest.mark.parametrize("name", DEVICES)
def test_policy_lets_in_the_device_the_operator_and_who_reads_metrics(name: str) -> None:
    values, flows = DEVICES[name]
    policy = of_kind("NetworkPolicy", entity(**values), installation(metrics_from=METRICS_FROM)).manifest

    judged = [(flow, admits(policy, flow)) for flow, _ in [*COMMON, *flows]]

    assert judged == [*COMMON, *flows]


def test_nobody_reads_metrics_unless_the_installation_says_who() -> None:
    policy = of_kind("NetworkPolicy", entity()).manifest

    assert not admits(policy, Flow(HEALTH, pod=PROMETHEUS, namespace=MONITORING))
    assert admits(policy, Flow(HEALTH, pod=OPERATOR, namespace=SYSTEM))


def test_pods_that_read_metrics_are_those_of_the_installations_namespace() -> None:
    """The same value stands in the chart's own policies, and there it means that namespace."""
    readers = ({"podSelector": {"matchLabels": PROMETHEUS}},)
    policy = of_kind("NetworkPolicy", entity(), installation(metrics_from=readers)).manifest

    assert admits(policy, Flow(HEALTH, pod=PROMETHEUS, namespace=SYSTEM))
    assert not admits(policy, Flow(HEALTH, pod=PROMETHEUS, namespace=RADIOLOGY))


def test_readers_of_any_namespace_stay_so() -> None:
    readers = ({"namespaceSelector": {}, "podSelector": {"matchLabels": PROMETHEUS}},)
    policy = of_kind("NetworkPolicy", entity(), installation(metrics_from=readers)).manifest

    assert admits(policy, Flow(INDEXER, pod=PROMETHEUS, namespace=MONITORING))


def test_policy_selects_the_aes_pods_alone() -> None:
    policy = of_kind("NetworkPolicy", entity()).manifest

    assert at(policy, "spec", "podSelector") == {
        "matchLabels": {"app.kubernetes.io/name": "aegate-listener", "aegate.dev/ae": "ct1"}
    }


def test_ranges_within_one_another_are_said_once() -> None:
    ae = entity(node="10.9.0.7", source_ranges=("10.9.0.0/24", "10.9.0.128/25", "10.9.1.0/24"))

    first = at(of_kind("NetworkPolicy", ae).manifest, "spec", "ingress", 0, "from")

    assert first == [{"ipBlock": {"cidr": "10.9.0.0/23"}}]


def test_disabled_policy_is_no_object() -> None:
    assert kinds(entity(network_policy="Disabled")) == [
        "PersistentVolumeClaim",
        "ConfigMap",
        "Service",
        "Deployment",
    ]
