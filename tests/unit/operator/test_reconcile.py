"""One look at an AE: what is written, what is left alone, and what a second look writes: nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterError, ClusterRefused, ClusterUnavailable
from aegate_core.resources.reference import ResourceRef
from aegate_core.stores.cluster.kinds import (
    APPLICATION_ENTITY,
    CONFIG_MAP,
    DEPLOYMENT,
    IMAGE_ROUTE,
    NETWORK_POLICY,
    PATIENT_PARTITION,
    POD,
    SERVICE,
    VOLUME_CLAIM,
    Kind,
)
from aegate_operator.manifests.child import base_name
from aegate_operator.pods import REVISION
from aegate_operator.reports import Report
from tests.unit.operator.fake_cluster import Write
from tests.unit.operator.ground import INSTALLATION, Ground

GOOD = {
    "Accepted": ("True", "Accepted"),
    "ResolvedRefs": ("True", "ResolvedRefs"),
    "Ready": ("True", "Ready"),
}
OWNED = (CONFIG_MAP, NETWORK_POLICY, SERVICE, DEPLOYMENT)


@pytest.fixture
def ground() -> Ground:
    return Ground()


def child(key: ResourceKey) -> ResourceKey:
    return ResourceKey(key.namespace, base_name(key.name))


async def served(ground: Ground, name: str = "ct1", **spec: object) -> ResourceKey:
    key = ground.add_ae(name, **spec)
    await ground.settle()
    await ground.serve(key)
    ground.cluster.writes.clear()
    ground.cluster.events.clear()
    return key


async def test_first_sight_writes_each_child_once_and_the_status(ground: Ground) -> None:
    key = ground.add_ae()
    await ground.settle()
    kinds = [write.kind for write in ground.cluster.writes]
    assert kinds == [
        "PersistentVolumeClaim",
        "ConfigMap",
        "NetworkPolicy",
        "Service",
        "Deployment",
        "ApplicationEntity",
    ]
    assert ground.conditions(key) == {
        **GOOD,
        "Ready": ("False", "ListenerNotReady"),
        "Reconciling": ("True", "RollingOut"),
    }
    assert ground.cluster.events == []


async def test_ready_only_when_the_pod_reports_the_wished_configuration(ground: Ground) -> None:
    key = ground.add_ae()
    await ground.settle()
    ground.cluster.roll_out()
    ground.reader.said["ct1-a"] = Report("of-another-generation", "ready")
    ground.add_pod(key, "ct1-a")
    await ground.settle()
    await ground.ask_pods()
    assert ground.conditions(key)["Ready"] == ("False", "ListenerNotReady")
    assert ground.message(key) == "0 of 1 pods answer and serve this generation."
    assert ground.cluster.of(POD, ResourceKey(key.namespace, "ct1-a"))["metadata"]["annotations"] == {
        REVISION: ground.revision(key)
    }, "kubelet is told to look at once"
    ground.reader.said["ct1-a"] = Report(ground.revision(key), "ready")
    ground.clock.pass_(1)
    await ground.ask_pods()
    assert ground.conditions(key) == GOOD
    status = ground.cluster.of(APPLICATION_ENTITY, key)["status"]
    assert status["observedGeneration"] == 1
    assert status["listener"] == {
        "mode": "Dedicated",
        "endpoint": "ae-ct1.radiology.svc:11112",
        "replicas": 1,
        "readyReplicas": 1,
    }
    assert [event["reason"] for event in ground.cluster.events] == ["Ready"]


async def test_a_second_look_and_a_restart_write_nothing(ground: Ground) -> None:
    key = await served(ground)
    ground.queue.add(ResourceRef("ApplicationEntity", key))
    await ground.settle()
    assert ground.cluster.writes == []
    again = Ground(ground.cluster)
    again.reader.said = ground.reader.said
    await again.settle()
    await again.ask_pods()
    assert again.cluster.writes == []
    assert again.cluster.events == []
    assert again.conditions(key) == GOOD


@pytest.mark.parametrize("kind", OWNED)
async def test_a_deleted_child_is_made_again_by_one_write(ground: Ground, kind: Kind) -> None:
    key = await served(ground)
    ground.cluster.lose(kind, child(key))
    await ground.settle()
    assert [w for w in ground.cluster.writes if w.kind != "ApplicationEntity"] == [
        Write("apply", kind.name, "ae-ct1")
    ]
    assert ground.metrics.drift.labels(kind.name)._value.get() == 1


async def test_a_child_edited_by_hand_is_put_right_by_one_write(ground: Ground) -> None:
    key = await served(ground)
    live = ground.cluster.of(SERVICE, child(key))
    spec = {**live["spec"], "selector": {"app": "other"}}
    ground.cluster.put(
        SERVICE,
        {
            **live,
            "spec": spec,
            "metadata": {**live["metadata"], "labels": {**live["metadata"]["labels"], "team": "x"}},
        },
    )
    await ground.settle()
    assert ground.cluster.writes == [Write("apply", "Service", "ae-ct1")]
    assert ground.cluster.of(SERVICE, child(key))["spec"]["selector"]["aegate.dev/ae"] == "ct1"
    assert ground.cluster.of(SERVICE, child(key))["metadata"]["labels"]["team"] == "x"


async def test_an_edit_that_the_running_listener_takes_up_writes_its_configuration_alone(
    ground: Ground,
) -> None:
    key = await served(ground)
    ground.add_ae(listener={"maxAssociations": 3})
    await ground.settle()
    assert [(w.verb, w.kind) for w in ground.cluster.writes] == [
        ("apply", "ConfigMap"),
        ("merge", "Pod"),
        ("status", "ApplicationEntity"),
    ]
    assert ground.conditions(key)["Ready"] == ("False", "ListenerNotReady")


async def test_what_is_no_longer_wished_is_pruned(ground: Ground) -> None:
    key = await served(ground)
    ground.add_ae(networkPolicy="Disabled")
    await ground.settle()
    assert Write("delete", "NetworkPolicy", "ae-ct1") in ground.cluster.writes
    assert ground.cluster.names(NETWORK_POLICY) == []
    ground.add_ae(enabled=False)
    await ground.settle()
    assert ground.cluster.names(DEPLOYMENT) == []
    assert ground.cluster.names(SERVICE) == ["radiology/ae-ct1"]
    assert ground.cluster.names(VOLUME_CLAIM) == ["radiology/ae-ct1-spool"]
    assert ground.conditions(key)["Ready"] == ("True", "Disabled")


async def test_suspended_keeps_everything_as_it_is(ground: Ground) -> None:
    key = await served(ground)
    ground.add_ae(suspend=True, networkPolicy="Disabled", port=105)
    await ground.settle()
    assert [w.kind for w in ground.cluster.writes] == ["ApplicationEntity"]
    assert ground.conditions(key)["Ready"] == ("True", "Suspended")


async def test_deleted_one_leaves_its_children_to_the_cluster(ground: Ground) -> None:
    key = await served(ground)
    ground.cluster.lose(APPLICATION_ENTITY, key)
    await ground.settle()
    assert ground.cluster.writes == []
    assert key not in ground.outcomes.facts


async def test_one_that_is_being_deleted_is_not_fought_over(ground: Ground) -> None:
    key = await served(ground)
    live = ground.cluster.of(APPLICATION_ENTITY, key)
    ground.cluster.put(
        APPLICATION_ENTITY,
        {
            **live,
            "metadata": {
                **live["metadata"],
                "deletionTimestamp": "now",
                "finalizers": ["foregroundDeletion"],
            },
        },
    )
    ground.cluster.lose(DEPLOYMENT, child(key))
    await ground.settle()
    assert ground.cluster.writes == []


async def test_stored_before_a_rule_existed_it_says_so_and_keeps_what_runs(ground: Ground) -> None:
    key = await served(ground)
    ground.add_ae(maxConnections=-1)
    await ground.settle()
    assert [w.kind for w in ground.cluster.writes] == ["ApplicationEntity"]
    assert ground.conditions(key) == {
        "Accepted": ("False", "Invalid"),
        "ResolvedRefs": ("Unknown", "Invalid"),
        "Ready": ("False", "Invalid"),
        "Stalled": ("True", "Invalid"),
    }
    assert ground.message(key).startswith("spec.maxConnections must be ")
    assert ground.declared.wrong() == {ResourceRef("ApplicationEntity", key): ground.message(key)}
    assert ground.declared.right() == []


async def test_a_field_of_a_newer_crd_is_no_fault(ground: Ground) -> None:
    key = await served(ground)
    ground.add_ae(futureField={"a": 1})
    await ground.settle()
    await ground.serve(key)
    assert ground.conditions(key) == GOOD


async def test_an_object_of_that_name_that_is_not_ours_is_left_alone(ground: Ground) -> None:
    ground.cluster.put(
        SERVICE, {"metadata": {"namespace": "radiology", "name": "ae-ct1"}, "spec": {}}, is_told=False
    )
    key = ground.add_ae()
    await ground.settle()
    assert ground.cluster.of(SERVICE, child(key))["spec"] == {}
    assert ground.conditions(key)["Ready"] == ("False", "ListenerNotReady")
    assert ground.message(key).startswith("Service radiology/ae-ct1 is not of aegate and is left alone: ")
    assert ground.cluster.names(DEPLOYMENT) == ["radiology/ae-ct1"], "the others are made all the same"
    ground.cluster.lose(SERVICE, child(key), is_told=False)
    ground.clock.pass_(1)
    await ground.settle()
    await ground.serve(key)
    assert ground.conditions(key) == GOOD


async def test_a_refusal_is_said_in_the_servers_words_and_heals(ground: Ground) -> None:
    def refuse(verb: str, kind: Kind, key: ResourceKey) -> ClusterError | None:
        is_meant = (verb, kind) == ("apply", DEPLOYMENT)
        return (
            ClusterRefused("apply Deployment radiology/ae-ct1: exceeded quota: few", status=403)
            if is_meant
            else None
        )

    ground.cluster.refuse = refuse
    key = ground.add_ae()
    await ground.settle()
    assert ground.conditions(key)["Ready"] == ("False", "ListenerNotReady")
    assert ground.message(key) == "apply Deployment radiology/ae-ct1: exceeded quota: few."
    ground.cluster.writes.clear()
    for _ in range(10):
        ground.clock.pass_(60)
        await ground.settle()
    assert ground.cluster.writes == [], "the same status is not written twice"
    ground.cluster.refuse = lambda verb, kind, key: None
    ground.clock.pass_(300)
    await ground.settle()
    await ground.serve(key)
    assert ground.conditions(key) == GOOD


async def test_an_api_server_that_is_away_stops_the_look_and_the_next_one_finishes_it(ground: Ground) -> None:
    def away(verb: str, kind: Kind, key: ResourceKey) -> ClusterError | None:
        return ClusterUnavailable("away") if kind == SERVICE and verb == "apply" else None

    ground.cluster.refuse = away
    key = ground.add_ae()
    await ground.settle()
    assert ground.errors[ResourceRef("ApplicationEntity", key)] == "away"
    assert ground.cluster.names(DEPLOYMENT) == []
    ground.cluster.refuse = lambda verb, kind, key: None
    ground.clock.pass_(1)
    await ground.settle()
    await ground.serve(key)
    assert ground.conditions(key) == GOOD


async def test_an_event_that_cannot_be_posted_holds_nothing_up(ground: Ground) -> None:
    ground.cluster.refuse = lambda verb, kind, key: (
        ClusterRefused("no", status=403) if verb == "create" else None
    )
    key = await served(ground)
    assert ground.conditions(key) == GOOD


async def test_the_installation_changes_a_few_listeners_at_a_time(ground: Ground) -> None:
    keys = [await served(ground, f"ct{n}", title=f"CT{n}") for n in range(4)]
    newer = replace(INSTALLATION, image="localhost/aegate:2", max_concurrent_rollouts=2)
    after = Ground(ground.cluster, newer)
    after.reader.said = ground.reader.said
    await after.settle()
    await after.ask_pods()
    rolled = [w.name for w in after.cluster.writes if w.kind == "Deployment"]
    assert rolled == ["ae-ct0", "ae-ct1"]
    assert after.conditions(keys[3])["Ready"] == ("True", "Ready"), "it serves its generation"
    assert after.conditions(keys[3])["Reconciling"] == ("True", "RollingOut")
    assert after.message(keys[3], "Reconciling").startswith(
        "The new version waits for its turn: 2 listeners roll"
    )
    after.cluster.roll_out(child(keys[0]))
    await after.settle()
    assert [w.name for w in after.cluster.writes if w.kind == "Deployment"] == ["ae-ct0", "ae-ct1", "ae-ct2"]
    after.cluster.roll_out()
    await after.settle()
    after.cluster.roll_out()
    await after.settle()
    assert [after.conditions(key) for key in keys] == [GOOD] * 4


async def take_up(ground: Ground, key: ResourceKey) -> None:
    """The pod that runs takes up the newest configuration, as it does when its Deployment has not rolled yet."""
    await ground.settle()
    ground.cluster.put(
        DEPLOYMENT, {**ground.cluster.of(DEPLOYMENT, child(key)), "status": {"updatedReplicas": 0}}
    )
    name = f"{key.namespace}-{key.name}"
    ground.reader.said[name] = Report(ground.revision(key), "ready")
    ground.clock.pass_(60)
    await ground.settle()
    await ground.ask_pods()


async def test_an_own_change_does_not_wait_for_the_installation(ground: Ground) -> None:
    keys = [await served(ground, f"ct{n}", title=f"CT{n}") for n in range(2)]
    after = Ground(
        ground.cluster, replace(INSTALLATION, image="localhost/aegate:2", max_concurrent_rollouts=1)
    )
    after.reader.said = ground.reader.said
    await after.settle()
    after.add_ae("ct1", listener={"replicas": 2})
    await after.settle()
    assert [w.name for w in after.cluster.writes if w.kind == "Deployment"] == ["ae-ct0", "ae-ct1"]
    assert after.gate.counts == {"rolling": 1, "waiting": 0, "failed": 0}
    await after.serve(*keys)
    after.add_ae("ct1", listener={"pod": {"nodeSelector": {"zone": "a"}}})
    await take_up(after, keys[1])
    assert after.message(keys[1]) == "0 of 1 pods are of this generation."
    after.cluster.roll_out()
    await after.settle()
    assert after.conditions(keys[1]) == GOOD


async def test_an_own_change_of_one_that_rolls_is_served_when_its_pods_are_new(ground: Ground) -> None:
    key = await served(ground)
    after = Ground(ground.cluster, replace(INSTALLATION, image="localhost/aegate:2"))
    after.reader.said = ground.reader.said
    await after.settle()
    await after.ask_pods()
    assert after.conditions(key)["Ready"] == ("True", "Ready")
    after.add_ae(listener={"pod": {"nodeSelector": {"zone": "a"}}})
    await take_up(after, key)
    assert after.message(key) == "0 of 1 pods are of this generation."
    again = Ground(ground.cluster, after.installation)
    again.reader.said = ground.reader.said
    await again.settle()
    await again.ask_pods()
    assert again.message(key) == "0 of 1 pods are of this generation.", "nor does a restart forget it"


@pytest.mark.parametrize("spec", [{"suspend": True}, {"port": 0}], ids=["suspended", "wrong"])
async def test_one_that_is_left_alone_holds_up_no_upgrade(ground: Ground, spec: dict[str, Any]) -> None:
    keys = [await served(ground, f"ct{n}", title=f"CT{n}") for n in range(3)]
    after = Ground(
        ground.cluster, replace(INSTALLATION, image="localhost/aegate:2", max_concurrent_rollouts=1)
    )
    after.reader.said = ground.reader.said
    await after.settle()
    await after.ask_pods()
    after.add_ae("ct1", **spec)
    await after.settle()
    after.cluster.roll_out(child(keys[0]))
    await after.settle()
    assert [w.name for w in after.cluster.writes if w.kind == "Deployment"] == ["ae-ct0", "ae-ct2"]
    after.cluster.roll_out()
    await after.settle()
    assert after.gate.counts == {"rolling": 0, "waiting": 0, "failed": 0}


async def test_a_pod_that_waits_for_its_certificate_says_so_and_heals(ground: Ground) -> None:
    key = ground.add_ae(listener={"tls": {"secretName": "ct1-tls"}})
    await ground.settle()
    said = Report(
        "", "degraded", certificate_problem="SecretNotFound", certificate_message="It is not there."
    )
    ground.reader.said["ct1-a"] = said
    ground.add_pod(key, "ct1-a", is_ready=False)
    await ground.settle()
    await ground.ask_pods()
    assert ground.conditions(key)["ResolvedRefs"] == ("False", "SecretNotFound")
    assert ground.message(key, "ResolvedRefs") == "It is not there."
    ground.reader.said["ct1-a"] = Report(ground.revision(key), "ready")
    ground.add_pod(key, "ct1-a")
    ground.cluster.roll_out()
    ground.clock.pass_(1)
    await ground.settle()
    await ground.ask_pods()
    assert ground.conditions(key) == GOOD


async def test_routes_and_partitions_say_how_they_are(ground: Ground) -> None:
    def add(kind: Kind, name: str, spec: dict[str, object]) -> ResourceKey:
        ground.cluster.put(kind, {"metadata": {"namespace": "radiology", "name": name}, "spec": spec})
        return ResourceKey("radiology", name)

    def said(kind: Kind, key: ResourceKey) -> dict[str, tuple[str, str]]:
        conditions = ground.cluster.of(kind, key)["status"]["conditions"]
        return {c["type"]: (c["status"], c["reason"]) for c in conditions}

    route = add(IMAGE_ROUTE, "r1", {"to": ["pacs"], "from": {"aes": ["ct1"], "partitions": ["imaging"]}})
    await ground.settle()
    assert said(IMAGE_ROUTE, route)["ResolvedRefs"] == ("False", "EntityNotFound")
    for name in ("ct1", "pacs"):
        ground.add_ae(name)
    await ground.settle()
    assert said(IMAGE_ROUTE, route)["ResolvedRefs"] == ("False", "PartitionNotFound")
    partition = add(PATIENT_PARTITION, "imaging", {})
    await ground.settle()
    assert said(IMAGE_ROUTE, route) == said(PATIENT_PARTITION, partition) == GOOD
    ground.cluster.lose(PATIENT_PARTITION, partition)
    await ground.settle()
    assert said(IMAGE_ROUTE, route)["ResolvedRefs"] == ("False", "PartitionNotFound")


async def test_a_thousand_at_once_cost_each_the_same(ground: Ground) -> None:
    async def looks_and_writes(count: int) -> tuple[int, int]:
        ground = Ground()
        for number in range(count):
            ground.add_ae(f"ct{number}", title=f"CT{number}")
        return await ground.settle(), len(ground.cluster.writes)

    assert await looks_and_writes(100) == (200, 600)
    assert await looks_and_writes(300) == (600, 1800)
