"""Who reaches the chart's own pods, by a matcher of NetworkPolicies that is not ours.

What is expected is written from the design: metrics for metricsFrom, the API for its proxy's callers, the trial
database for our pods, pools for their ranges; migration and retention for nobody.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.chart.rendering import objects
from tests.cluster.judges.flows import Expected, Surroundings, selecting
from tests.cluster.judges.hospital import API, TRIAL, entity, hospital, rendered

PROXY = {"name": "sign-in", "image": "registry.example.org/sign-in:1"}
BEHIND_A_PROXY = {"api.proxy.containers": [PROXY]}
FROM_INGRESS = {
    "networkPolicies.apiFrom": [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}
    ]
}
POOLS = (
    "pools.default.replicas=1",
    "pools.outside.serviceType=NodePort",
    "pools.outside.nodePort=32762",
    "pools.outside.tls.secretName=outside-tls",
    "pools.outside.sourceRanges={10.0.0.0/8,192.0.2.0/25,fd00::/8}",
)


@pytest.fixture(scope="module")
def cluster(helm: Path) -> Surroundings:
    """Everything switched on, behind a proxy that the ingress controller calls."""
    release = rendered(helm, *API, *TRIAL, *POOLS, more=BEHIND_A_PROXY | FROM_INGRESS)
    other = rendered(helm, *API, *TRIAL, *POOLS, namespace="elsewhere", more=BEHIND_A_PROXY)
    return hospital(release, other, entity(), entity("ct1", "cardiology"))


METRICS_ALONE = Expected(
    allowed=("monitoring/prometheus 8080",),
    denied=(
        "monitoring/prometheus 8079",
        "monitoring/prometheus 8081",
        "monitoring/prometheus 8443",
        "monitoring/prometheus 8080/UDP",
        "monitoring/grafana 8080",
        "pacs/prometheus 8080",
        "radiology/prometheus 8080",
        "elsewhere/operator 8080",
        "elsewhere/worker 8080",
        "pacs/second-operator 8080",
        "pacs/operator 8081",
        "pacs/worker 22",
        "pacs/api 8080",
        "pacs/migration 8080",
        "pacs/retention 8080",
        "pacs/pool-default 8080",
        "pacs/shell 8080",
        "radiology/shell 8080",
        "radiology/like-operator 8080",
        "radiology/like-worker 8080",
        "radiology/ct1 8080",
        "ingress/proxy 8080",
        "10.1.2.3 8080",
        "198.51.100.1 8080",
        "2001:db8::1 8080",
    ),
)

NOBODY = Expected(
    denied=(
        "monitoring/prometheus 8080",
        "monitoring/prometheus 8081",
        "monitoring/grafana 8080",
        "pacs/operator 8080",
        "pacs/worker 8080",
        "pacs/api 8080",
        "pacs/trial-database 5432",
        "pacs/pool-default 11112",
        "pacs/prometheus 8080",
        "pacs/shell 22",
        "pacs/shell 5432/UDP",
        "radiology/ct1 8080",
        "radiology/like-operator 8080",
        "radiology/shell 80",
        "cardiology/ct1 8081",
        "elsewhere/operator 8080",
        "elsewhere/worker 443",
        "ingress/proxy 8443",
        "10.1.2.3 8080",
        "198.51.100.1 443",
        "2001:db8::1 8080",
    ),
)

PROXY_AND_METRICS = Expected(
    allowed=("ingress/proxy 8443", "monitoring/prometheus 8081"),
    denied=(
        "monitoring/grafana 8081",
        "ingress/proxy 8081",
        "pacs/prometheus 8081",
        "elsewhere/operator 8081",
        "10.1.2.3 8081",
        "ingress/proxy 8442",
        "ingress/proxy 8444",
        "ingress/proxy 8080",
        "ingress/proxy 443",
        "ingress/proxy 8443/UDP",
        "monitoring/prometheus 8443",
        "monitoring/prometheus 8080",
        "pacs/operator 8443",
        "pacs/worker 8443",
        "pacs/pool-default 8443",
        "pacs/shell 8443",
        "pacs/shell 8080",
        "pacs/prometheus 8080",
        "radiology/shell 8443",
        "radiology/like-api 8443",
        "radiology/ct1 8443",
        "elsewhere/api 8443",
        "elsewhere/operator 8080",
        "198.51.100.1 8443",
        "198.51.100.1 8080",
        "2001:db8::1 8443",
    ),
)

DATABASE = Expected(
    allowed=(
        "pacs/operator 5432",
        "pacs/worker 5432",
        "pacs/api 5432",
        "pacs/migration 5432",
        "pacs/retention 5432",
        "pacs/pool-default 5432",
        "pacs/pool-outside 5432",
        "radiology/ct1 5432",
        "cardiology/ct1 5432",
        "radiology/ct1-drain 5432",
        "pacs/pool-default-drain 5432",
    ),
    denied=(
        "pacs/worker 5431",
        "pacs/worker 5433",
        "pacs/worker 22",
        "pacs/worker 5432/UDP",
        "pacs/second-worker 5432",
        "pacs/second-operator 5432",
        "radiology/ct1 8080",
        "pacs/shell 5432",
        "pacs/prometheus 5432",
        "monitoring/prometheus 5432",
        "radiology/shell 5432",
        "radiology/like-operator 5432",
        "radiology/like-worker 5432",
        "radiology/like-api 5432",
        "elsewhere/worker 5432",
        "elsewhere/operator 5432",
        "elsewhere/pool-default 5432",
        "elsewhere/migration 5432",
        "ingress/proxy 5432",
        "10.1.2.3 5432",
        "198.51.100.1 5432",
        "2001:db8::1 5432",
    ),
)

POOL = Expected(
    allowed=(
        "pacs/operator 8080",
        "pacs/operator 8081",
        "monitoring/prometheus 8080",
        "monitoring/prometheus 8081",
        "10.1.2.3 11112",
    ),
    denied=(
        "10.1.2.3 11111",
        "10.1.2.3 11113",
        "10.1.2.3 2762",
        "10.1.2.3 32762",
        "10.1.2.3 11112/UDP",
        "10.1.2.3 8080",
        "198.51.100.1 8081",
        "2001:db8::1 8080",
        "pacs/operator 22",
        "pacs/operator 8080/UDP",
        "pacs/second-operator 8080",
        "pacs/second-operator 8081",
        "pacs/worker 8080",
        "pacs/shell 8080",
        "pacs/prometheus 8080",
        "pacs/api 8081",
        "monitoring/grafana 8080",
        "monitoring/prometheus 9090",
        "radiology/like-operator 8080",
        "radiology/shell 8081",
        "radiology/ct1 8080",
        "elsewhere/operator 8080",
        "elsewhere/operator 8081",
    ),
)
POOL_OPEN = POOL + Expected(
    allowed=("198.51.100.1 11112", "2001:db8::1 11112", "radiology/shell 11112", "pacs/worker 11112"),
)
POOL_OF_RANGES = POOL + Expected(
    allowed=(
        "10.0.0.0 11112",
        "10.255.255.255 11112",
        "192.0.2.127 11112",
        "fd00::1 11112",
        "fdff:ffff::1 11112",
    ),
    denied=(
        "9.255.255.255 11112",
        "11.0.0.0 11112",
        "192.0.2.128 11112",
        "198.51.100.1 11112",
        "fc00::1 11112",
        "fe80::1 11112",
        "2001:db8::1 11112",
        "radiology/shell 11112",
        "pacs/operator 11112",
        "monitoring/prometheus 11112",
        "fd00::1 8080",
    ),
)

TABLE = {
    "operator": METRICS_ALONE,
    "worker": METRICS_ALONE,
    "api": PROXY_AND_METRICS,
    "migration": NOBODY,
    "retention": NOBODY,
    "trial-database": DATABASE,
    "pool-default": POOL_OPEN,
    "pool-outside": POOL_OF_RANGES,
}


DRAINED = NOBODY + Expected(
    denied=(
        "pacs/operator 8081",
        "radiology/ct1 8081",
        "radiology/shell 8081",
        "cardiology/ct1-drain 8081",
        "10.1.2.3 11112",
        "10.1.2.3 8081",
    )
)


@pytest.mark.parametrize("pod", ["radiology/ct1-drain", "pacs/pool-default-drain", "pacs/pool-outside-drain"])
def test_a_job_that_indexes_what_was_left_is_reached_by_nobody(
    judges: Path, cluster: Surroundings, pod: str
) -> None:
    rows = DRAINED.rows
    namespace = pod.partition("/")[0]

    assert cluster.judged(judges, pod, rows) == rows
    assert len(selecting(cluster.policies, namespace, cluster.pods[pod])) == 1


@pytest.mark.parametrize("component", TABLE)
def test_a_pod_of_the_chart_is_reached_by_whom_it_should_be(
    judges: Path, cluster: Surroundings, component: str
) -> None:
    rows = TABLE[component].rows
    assert len(rows) >= 20

    assert cluster.judged(judges, f"pacs/{component}", rows) == rows


def test_a_proxy_that_names_no_caller_is_for_everybody(judges: Path, helm: Path) -> None:
    around = hospital(rendered(helm, *API, more=BEHIND_A_PROXY), rendered(helm, namespace="elsewhere"))
    everybody = tuple(
        f"{who} 8443" for who in ("ingress/proxy", "radiology/shell", "198.51.100.1", "2001:db8::1")
    )
    rows = Expected(everybody, ("ingress/proxy 8080", "198.51.100.1 8080", "198.51.100.1 8443/UDP")).rows

    assert around.judged(judges, "pacs/api", rows) == rows


def test_an_api_without_a_proxy_is_reached_for_its_metrics_alone(judges: Path, helm: Path) -> None:
    release = rendered(helm, *API, more=FROM_INGRESS)
    around = hospital(release, rendered(helm, *API, namespace="elsewhere"), entity())
    rows = {row: False for row in [*PROXY_AND_METRICS.rows, "ingress/proxy 80"] if "pool" not in row}
    rows["monitoring/prometheus 8081"] = True

    assert around.judged(judges, "pacs/api", rows) == rows


def test_no_pod_of_ours_is_kept_from_calling_out(judges: Path, cluster: Surroundings) -> None:
    callers = {key for key in cluster.pods if key.startswith("pacs/") and "aegate" in str(cluster.pods[key])}
    assert {"pacs/worker", "pacs/operator", "pacs/pool-default", "pacs/test"} <= callers
    called = {
        "a device": "10.1.2.3",
        "a device of IPv6": "2001:db8::7",
        "another release's API behind its proxy": "elsewhere/api",
    }
    ports = {"a device": 104, "a device of IPv6": 2762, "another release's API behind its proxy": 8443}
    flows = {
        f"{caller} calls {what}": (f"{caller} {ports[what]}", to)
        for caller in sorted({*callers, "radiology/ct1", "radiology/ct1-drain"})
        for what, to in called.items()
    }

    assert cluster.judged_flows(judges, flows) == dict.fromkeys(flows, True)


def test_the_operator_asks_every_listener(judges: Path, cluster: Surroundings) -> None:
    listeners = ("radiology/ct1", "cardiology/ct1", "pacs/pool-default", "pacs/pool-outside")
    flows = {f"{to} {port}": (f"pacs/operator {port}", to) for to in listeners for port in (8080, 8081)}

    assert cluster.judged_flows(judges, flows) == dict.fromkeys(flows, True)


def test_every_pod_has_one_policy_and_every_policy_a_pod(cluster: Surroundings) -> None:
    selected = {
        key: selecting(cluster.policies, key.split("/")[0], labels)
        for key, labels in cluster.pods.items()
        if key.startswith("pacs/") and labels.get("app.kubernetes.io/instance") == "aegate"
    }
    without = {key for key, names in selected.items() if not names}

    assert {key: names for key, names in selected.items() if len(names) > 1} == {}
    assert without == {"pacs/test"}, "the pod of helm test listens on nothing"
    made = [
        p["metadata"]["name"]
        for p in cluster.policies
        if p["metadata"]["namespace"] == "pacs" and not p["metadata"]["name"].startswith("drain-")
    ]
    assert sorted(name for names in selected.values() for name in names) == sorted(made)


def test_switched_off_the_charts_pods_are_open_and_listeners_are_not(judges: Path, helm: Path) -> None:
    release = rendered(helm, *POOLS, "networkPolicies.enabled=false")
    assert [one for one in objects(release) if one["kind"] == "NetworkPolicy"] == []
    around = hospital(release, rendered(helm, namespace="elsewhere"), entity())
    flows = {
        f"198.51.100.1 calls {to}": ("198.51.100.1 8080", to)
        for to in ("pacs/operator", "pacs/worker", "pacs/pool-outside", "radiology/ct1")
    }

    allowed = around.judged_flows(judges, flows)

    assert [name for name, is_allowed in allowed.items() if not is_allowed] == [
        "198.51.100.1 calls radiology/ct1"
    ]
