"""Who reaches a listener's pods, by a matcher of NetworkPolicies that is not ours.

What is expected is written from the design: the DICOM port for node and sourceRanges, the health ports for the
operator and metricsFrom, nothing for anybody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.judges.flows import Expected, Surroundings, selecting
from tests.cluster.judges.hospital import API, PROMETHEUS, entity, hospital, rendered

TARGET = "radiology/ct1"
WATCHERS = Expected(
    allowed=(
        "pacs/operator 8080",
        "pacs/operator 8081",
        "monitoring/prometheus 8080",
        "monitoring/prometheus 8081",
    ),
)
NOBODY_ELSE = Expected(
    denied=(
        "pacs/operator 11112",
        "pacs/operator 8079",
        "pacs/operator 8082",
        "pacs/operator 22",
        "pacs/operator 8080/UDP",
        "monitoring/prometheus 11112",
        "monitoring/prometheus 8081/UDP",
        "monitoring/grafana 8080",
        "pacs/prometheus 8080",
        "radiology/prometheus 8081",
        "radiology/like-operator 8080",
        "elsewhere/operator 8080",
        "pacs/worker 8080",
        "pacs/worker 11112",
        "pacs/api 8081",
        "pacs/shell 8080",
        "radiology/shell 8080",
        "radiology/shell 11112",
        "radiology/mr1 11112",
        "radiology/mr1 8080",
        "cardiology/ct1 8081",
        "198.51.100.1 8080",
        "198.51.100.1 8081",
        "2001:db8:ffff::1 11112",
    ),
)
"""With `WATCHERS` true of every listener that has a policy."""

LISTENERS: dict[str, tuple[dict[str, Any], Expected]] = {
    "node": (
        {},
        Expected(
            allowed=("10.1.2.3 11112",),
            denied=(
                "10.1.2.2 11112",
                "10.1.2.4 11112",
                "10.1.2.3 11111",
                "10.1.2.3 11113",
                "10.1.2.3 104",
                "10.1.2.3 11112/UDP",
                "10.1.2.3 8080",
                "10.1.2.3 8081",
                "198.51.100.1 11112",
            ),
        ),
    ),
    "node of IPv6": (
        {"node": "2001:db8::7"},
        Expected(
            allowed=("2001:db8::7 11112",),
            denied=("2001:db8::6 11112", "2001:db8::8 11112", "2001:db8::7 8080", "10.1.2.3 11112"),
        ),
    ),
    "node and ranges of both families": (
        {"source_ranges": ("10.9.0.0/24", "192.0.2.64/26", "2001:db8:1::/48")},
        Expected(
            allowed=(
                "10.1.2.3 11112",
                "10.9.0.0 11112",
                "10.9.0.255 11112",
                "192.0.2.64 11112",
                "192.0.2.127 11112",
                "2001:db8:1:ffff::1 11112",
            ),
            denied=(
                "10.8.255.255 11112",
                "10.9.1.0 11112",
                "192.0.2.63 11112",
                "192.0.2.128 11112",
                "2001:db8:2::1 11112",
                "10.9.0.1 8080",
                "10.9.0.1 11112/UDP",
            ),
        ),
    ),
    "node with a name: the ranges alone": (
        {"node": "ct1.example.org", "source_ranges": ("10.9.0.0/24",)},
        Expected(
            allowed=("10.9.0.7 11112",),
            denied=("10.1.2.3 11112", "10.9.1.7 11112", "198.51.100.1 11112", "10.9.0.7 8081"),
        ),
    ),
    "neighbouring ranges": (
        {"source_ranges": ("10.9.0.0/25", "10.9.0.128/25", "10.9.0.0/24", "10.1.2.0/24")},
        Expected(
            allowed=("10.9.0.0 11112", "10.9.0.255 11112", "10.1.2.255 11112"),
            denied=("10.9.1.0 11112", "10.1.3.0 11112"),
        ),
    ),
    "another port of the Service": (
        {"listener": {"port": 104}},
        Expected(allowed=("10.1.2.3 11112",), denied=("10.1.2.3 104", "10.1.2.4 11112")),
    ),
    "a device that may call from anywhere is let in from its ranges all the same": (
        {"listener": {"verify_node": False}},
        Expected(allowed=("10.1.2.3 11112",), denied=("10.1.2.4 11112", "198.51.100.1 11112")),
    ),
}


def around(helm: Path, metrics_from: Mapping[str, Any] = PROMETHEUS, **ae: Any) -> Surroundings:
    """A cluster whose radiology/ct1 is the AE in question."""
    release = rendered(helm, *API, "pools.default.sourceRanges={10.0.0.0/8}", metrics_from=metrics_from)
    other = rendered(helm, namespace="elsewhere")
    neighbours = (entity("mr1", node="10.1.2.9"), entity("ct1", "cardiology", node="10.1.2.8"))
    return hospital(release, other, entity(**ae), *neighbours)


@pytest.mark.parametrize("name", LISTENERS)
def test_a_listener_is_reached_by_whom_it_should_be(judges: Path, helm: Path, name: str) -> None:
    values, own = LISTENERS[name]
    rows = (WATCHERS + NOBODY_ELSE + own).rows
    assert len(rows) >= 20

    assert around(helm, **values).judged(judges, TARGET, rows) == rows


def test_without_a_policy_everybody_reaches_every_port(judges: Path, helm: Path) -> None:
    rows = dict.fromkeys((WATCHERS + NOBODY_ELSE).rows, True)
    open_to_all = around(helm, network_policy="Disabled")

    assert open_to_all.judged(judges, TARGET, rows) == rows
    assert selecting(open_to_all.policies, "radiology", open_to_all.pods[TARGET]) == []


def test_a_range_of_every_address_is_of_the_dicom_port_alone(judges: Path, helm: Path) -> None:
    rows = Expected(
        allowed=("198.51.100.1 11112", "10.1.2.3 11112", "radiology/shell 11112", "pacs/operator 8080"),
        denied=("198.51.100.1 8080", "198.51.100.1 11112/UDP", "radiology/shell 8080", "2001:db8::1 11112"),
    ).rows

    assert around(helm, source_ranges=("0.0.0.0/0",)).judged(judges, TARGET, rows) == rows


METRICS: dict[str, tuple[Mapping[str, Any], Expected]] = {
    "nobody named": ({}, Expected(denied=("monitoring/prometheus 8080", "pacs/prometheus 8080"))),
    "pods alone: those of the release's namespace, wherever the listener is": (
        {"podSelector": {"matchLabels": {"app": "prometheus"}}},
        Expected(
            allowed=("pacs/prometheus 8080", "pacs/prometheus 8081"),
            denied=("radiology/prometheus 8080", "monitoring/prometheus 8080", "pacs/shell 8080"),
        ),
    ),
    "a whole namespace": (
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
        Expected(
            allowed=("monitoring/prometheus 8080", "monitoring/grafana 8081"),
            denied=("monitoring/grafana 11112", "radiology/prometheus 8080", "pacs/prometheus 8080"),
        ),
    ),
    "a Prometheus outside of the cluster": (
        {"ipBlock": {"cidr": "192.0.2.0/24"}},
        Expected(
            allowed=("192.0.2.9 8080", "192.0.2.9 8081"),
            denied=("192.0.2.9 11112", "192.0.3.1 8080", "monitoring/prometheus 8080"),
        ),
    ),
}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("target", [TARGET, "pacs/pool-default"])
def test_metrics_are_read_by_whom_the_installation_names(
    judges: Path, helm: Path, target: str, name: str
) -> None:
    peer, own = METRICS[name]
    rows = {**own.rows, "pacs/operator 8080": True, "radiology/like-operator 8080": False}

    assert around(helm, peer).judged(judges, target, rows) == rows
