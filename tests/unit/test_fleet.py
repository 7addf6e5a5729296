"""The pure parts of the operator's load: who is applied, what the plain client applies, what is read of metrics."""

from __future__ import annotations

from typing import Any

from prometheus_client import generate_latest

from aegate_core.resources.crds import load_crds
from aegate_core.resources.guard import guard
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY
from aegate_operator.installation import parse_installation
from aegate_operator.metrics import OperatorMetrics
from tests.integration.waiting import pass_turns
from tests.proofs.fleet.fleet import at_once, children_of, entity_of, is_available
from tests.proofs.fleet.running import Metrics, read_metrics

INSTALLATION = parse_installation({"image": "localhost/aegate:tree", "namespace": "aegate-system"})


def test_no_two_of_ten_thousand_entities_have_a_title_or_an_address_in_common() -> None:
    specs: list[Any] = [entity_of("fleet-000", n, {})["spec"] for n in range(10_010)]
    assert len({spec["title"] for spec in specs}) == len({spec["node"] for spec in specs}) == 10_010


def test_entities_keep_every_rule_of_their_kind() -> None:
    whole = {
        "apiVersion": APPLICATION_ENTITY.api_version,
        "kind": APPLICATION_ENTITY.name,
        **entity_of("fleet-000", 9_999, {"listener": {"mode": "Shared"}}),
    }
    assert guard(whole, load_crds()["ApplicationEntity"]) is None


def test_plain_client_applies_what_the_operator_makes_but_for_the_owner() -> None:
    made = children_of(entity_of("plain-000", 7, {}), INSTALLATION)
    metadata: list[Any] = [manifest["metadata"] for _, manifest in made]
    assert [kind.name for kind, _ in made] == [
        "PersistentVolumeClaim",
        "ConfigMap",
        "NetworkPolicy",
        "Service",
        "Deployment",
    ]
    assert {(m["namespace"], "ownerReferences" in m) for m in metadata} == {("plain-000", False)}
    assert all("aegate.dev/wished" in m["annotations"] for m in metadata)


def test_deployment_is_available_when_all_of_its_pods_are_new_and_there() -> None:
    spec = {"replicas": 1}
    there = {"availableReplicas": 1, "updatedReplicas": 1}
    assert is_available({"spec": spec, "status": there})
    assert not is_available({"spec": spec, "status": {"updatedReplicas": 1}})
    assert not is_available({"spec": spec})


async def test_so_many_are_under_way_at_once_and_each_is_done_once() -> None:
    under_way, most, done = 0, 0, list[int]()

    async def work(number: int) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await pass_turns(1)
        under_way -= 1
        done.append(number)

    await at_once(range(20), work, count=3)
    assert (most, sorted(done)) == (3, list(range(20)))


def test_metrics_are_read_as_the_operator_writes_them() -> None:
    metrics = OperatorMetrics()
    metrics.reconciles.labels("written").inc(3)
    metrics.reconciles.labels("unchanged").inc()
    metrics.queue_depth.set(2)
    for name, value in (("a", 1), ("b", 0), ("c", 1)):
        metrics.ready.labels("radiology", name).set(value)
    assert read_metrics(generate_latest(metrics.registry).decode()) == Metrics(looks=4, depth=2, ready=2)
