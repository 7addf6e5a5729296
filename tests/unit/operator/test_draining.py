"""What an ApplicationEntity that is gone has left in its spool: indexed by a Job, and only then its claim goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterRefused
from aegate_core.resources.reference import ResourceRef
from aegate_core.stores.cluster.kinds import (
    APPLICATION_ENTITY,
    DEPLOYMENT,
    JOB,
    NETWORK_POLICY,
    POD,
    VOLUME_CLAIM,
)
from aegate_operator.manifests.child import AE_LABEL, DRAIN_APP
from tests.unit.operator.fake_cluster import Write
from tests.unit.operator.ground import INSTALLATION, Ground
from tests.unit.operator.test_reconcile import served

CLAIM, SPOOL, DRAIN = (
    "ae-ct1-spool",
    ResourceKey("radiology", "ae-ct1-spool"),
    ResourceKey("radiology", "ae-ct1-drain"),
)
POLICY = ResourceKey("radiology", "drain-ae-ct1")
BEGUN = [Write("apply", "Job", "ae-ct1-drain"), Write("apply", "NetworkPolicy", "drain-ae-ct1")]
"""What is written when nobody fills a spool any more."""


@pytest.fixture
def ground() -> Ground:
    return Ground()


async def with_spool(ground: Ground, **spec: Any) -> ResourceKey:
    """An AE that is served, and whose claim has a volume."""
    key = await served(ground, **spec)
    phase(ground, "Bound")
    await ground.settle()
    ground.cluster.writes.clear()
    return key


def phase(ground: Ground, value: str) -> None:
    ground.cluster.put(VOLUME_CLAIM, {**ground.cluster.of(VOLUME_CLAIM, SPOOL), "status": {"phase": value}})


def pod_name(key: ResourceKey) -> ResourceKey:
    return ResourceKey(key.namespace, f"{key.namespace}-{key.name}")


async def delete(ground: Ground, key: ResourceKey) -> None:
    """Somebody deletes the AE; its Deployment is collected, its pod still drains."""
    ground.cluster.lose(APPLICATION_ENTITY, key)
    for kind, name in [known for known in ground.cluster.objects if known[0] not in (VOLUME_CLAIM, POD, JOB)]:
        ground.cluster.lose(kind, name)
    await ground.settle()


async def complete(ground: Ground) -> None:
    """The Job says that nothing is left."""
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    ground.cluster.put(JOB, {**ground.cluster.of(JOB, DRAIN), "status": done})
    await ground.settle()


async def test_claim_of_a_deleted_entity_is_emptied_when_its_pods_are_gone_and_then_goes(
    ground: Ground,
) -> None:
    key = await with_spool(ground)
    await delete(ground, key)
    assert ground.cluster.writes == [], "its pod still indexes"

    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()
    assert ground.cluster.writes == BEGUN

    await complete(ground)
    assert ground.cluster.writes[2:] == [Write("delete", "PersistentVolumeClaim", CLAIM)]


async def test_job_goes_when_its_claim_is_going_because_that_waits_for_its_pods(ground: Ground) -> None:
    key = await with_spool(ground)
    await delete(ground, key)
    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()
    claim = ground.cluster.of(VOLUME_CLAIM, SPOOL)
    leaving = {**claim["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    ground.cluster.put(VOLUME_CLAIM, {**claim, "metadata": leaving})
    await ground.settle()
    assert ground.cluster.writes[-1] == Write("delete", "Job", "ae-ct1-drain")


async def test_pod_of_the_job_itself_is_not_waited_for(ground: Ground) -> None:
    key = await with_spool(ground)
    await delete(ground, key)
    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()
    labels = {AE_LABEL: "ct1", "app.kubernetes.io/name": DRAIN_APP}
    ground.cluster.put(
        POD, {"metadata": {"namespace": key.namespace, "name": "ae-ct1-drain-x", "labels": labels}}
    )
    await ground.settle()

    await complete(ground)
    assert ground.cluster.names(VOLUME_CLAIM) == []


async def test_entity_deleted_while_the_operator_was_away_is_found_by_its_claim(ground: Ground) -> None:
    key = await with_spool(ground)
    await delete(ground, key)
    again = Ground(ground.cluster)
    assert ResourceRef("ApplicationEntity", key) in again.informer.everything()

    again.cluster.lose(POD, pod_name(key))
    await again.settle()
    assert again.cluster.names(JOB) == ["radiology/ae-ct1-drain"]


async def test_entity_that_comes_back_gets_its_claim_and_the_job_goes(ground: Ground) -> None:
    key = await with_spool(ground)
    uid = ground.cluster.of(VOLUME_CLAIM, SPOOL)["metadata"]["uid"]
    await delete(ground, key)
    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()

    ground.add_ae("ct1")
    await ground.settle()
    assert ground.cluster.names(JOB) == []
    assert ground.cluster.of(VOLUME_CLAIM, SPOOL)["metadata"]["uid"] == uid


async def test_claim_that_never_had_a_volume_just_goes(ground: Ground) -> None:
    key = await with_spool(ground)
    phase(ground, "Pending")
    await delete(ground, key)
    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()
    assert ground.cluster.writes == [Write("delete", "PersistentVolumeClaim", CLAIM)]


async def test_disabled_entity_is_emptied_and_keeps_its_claim(ground: Ground) -> None:
    key = await with_spool(ground)
    ground.add_ae("ct1", enabled=False)
    await ground.settle()
    assert ground.cluster.names(JOB) == []
    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()
    assert ground.cluster.names(JOB) == ["radiology/ae-ct1-drain"]

    await complete(ground)
    assert ground.cluster.names(VOLUME_CLAIM) == ["radiology/ae-ct1-spool"]

    ground.add_ae("ct1", enabled=True)
    await ground.settle()
    assert ground.cluster.names(JOB) == []


async def test_spool_that_newer_pods_do_not_use_is_emptied_when_the_older_ones_are_gone(
    ground: Ground,
) -> None:
    key = await with_spool(ground)
    ground.add_ae("ct1", listener={"acknowledge": "Indexed", "spool": {"type": "EmptyDir"}})
    await ground.settle()
    assert ground.cluster.names(JOB) == [], "it is rolling"

    await ground.serve(key)
    assert ground.cluster.names(JOB) == ["radiology/ae-ct1-drain"]
    await complete(ground)
    assert ground.cluster.names(VOLUME_CLAIM) == []
    assert ground.cluster.names(DEPLOYMENT) == ["radiology/ae-ct1"]


async def test_suspended_entity_keeps_all_it_has(ground: Ground) -> None:
    key = await with_spool(ground)
    ground.add_ae("ct1", suspend=True, enabled=False)
    await ground.settle()
    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()
    assert ground.cluster.names(JOB) == []


async def test_job_that_is_refused_is_tried_again_and_said_of_an_entity_that_is_there(ground: Ground) -> None:
    key = await with_spool(ground)
    ground.cluster.refuse = lambda verb, kind, name: (
        ClusterRefused("apply Job: exceeded quota") if (verb, kind) == ("apply", JOB) else None
    )
    ground.add_ae("ct1", enabled=False)
    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()
    ref = ResourceRef("ApplicationEntity", key)
    assert ground.errors[ref] == "apply Job: exceeded quota."

    ground.cluster.refuse = lambda verb, kind, name: None
    ground.clock.pass_(600)
    await ground.settle()
    assert ground.cluster.names(JOB) == ["radiology/ae-ct1-drain"]
    assert ground.errors == {}


async def test_a_second_look_writes_nothing(ground: Ground) -> None:
    key = await with_spool(ground)
    await delete(ground, key)
    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()
    ground.cluster.writes.clear()
    ground.queue.add(ResourceRef("ApplicationEntity", key))
    await ground.settle()
    assert ground.cluster.writes == []


async def test_claim_that_was_restored_and_waits_for_its_volume_is_not_taken_for_empty(
    ground: Ground,
) -> None:
    key = await with_spool(ground)
    claim = ground.cluster.of(VOLUME_CLAIM, SPOOL)
    ground.cluster.put(VOLUME_CLAIM, {**claim, "spec": {**claim["spec"], "volumeName": "pv-7"}})
    phase(ground, "Pending")
    await delete(ground, key)
    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()
    assert ground.cluster.writes == BEGUN


async def test_word_of_a_job_of_an_earlier_claim_does_not_count(ground: Ground) -> None:
    key = await with_spool(ground)
    await delete(ground, key)
    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()
    job = ground.cluster.of(JOB, DRAIN)
    owner = {**job["metadata"]["ownerReferences"][0], "uid": "of-another-life"}
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    ground.cluster.put(
        JOB, {**job, "metadata": {**job["metadata"], "ownerReferences": [owner]}, "status": done}
    )
    await ground.settle()
    assert ground.cluster.names(VOLUME_CLAIM) == ["radiology/ae-ct1-spool"]
    assert "is not this claim's" in ground.errors[ResourceRef("ApplicationEntity", key)]


async def test_claim_that_a_deployment_mounts_which_may_not_roll_yet_is_left_alone(ground: Ground) -> None:
    key = await with_spool(ground)
    ground.cluster.refuse = lambda verb, kind, name: (
        ClusterRefused("apply Deployment: denied") if (verb, kind) == ("apply", DEPLOYMENT) else None
    )
    ground.add_ae("ct1", listener={"acknowledge": "Indexed", "spool": {"type": "EmptyDir"}})
    await ground.settle()
    assert ground.cluster.names(JOB) == []
    assert ground.cluster.names(VOLUME_CLAIM) == ["radiology/ae-ct1-spool"]
    assert key


async def test_job_of_a_disabled_entity_goes_before_its_pods_come(ground: Ground) -> None:
    key = await with_spool(ground)
    ground.add_ae("ct1", enabled=False)
    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()
    await complete(ground)
    ground.cluster.writes.clear()

    ground.add_ae("ct1", enabled=True)
    await ground.settle()
    kinds = [(w.verb, w.kind) for w in ground.cluster.writes]
    assert kinds.index(("delete", "Job")) < kinds.index(("apply", "Deployment"))


async def test_claim_stays_when_the_entity_is_there_again_and_no_watch_has_told(ground: Ground) -> None:
    key = await with_spool(ground)
    await delete(ground, key)
    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()
    filled = {"title": "CT1", "node": "10.1.2.3", "port": 104}
    back = {"metadata": {"namespace": key.namespace, "name": key.name}, "spec": filled}
    ground.cluster.put(APPLICATION_ENTITY, back, is_told=False)
    await complete(ground)
    assert ground.cluster.names(VOLUME_CLAIM) == ["radiology/ae-ct1-spool"]


async def test_pod_that_has_ended_fills_nothing(ground: Ground) -> None:
    key = await with_spool(ground)
    await delete(ground, key)
    name = pod_name(key)
    ground.cluster.put(POD, {**ground.cluster.of(POD, name), "status": {"phase": "Failed"}})
    await ground.settle()
    assert ground.cluster.writes == BEGUN


async def test_job_of_an_older_image_is_made_anew(ground: Ground) -> None:
    key = await with_spool(ground)
    await delete(ground, key)
    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()
    old = ground.cluster.of(JOB, DRAIN)["metadata"]["uid"]

    newer = Ground(ground.cluster, replace(INSTALLATION, image="localhost/aegate:2"))
    await newer.settle()
    job = newer.cluster.of(JOB, DRAIN)
    assert job["metadata"]["uid"] != old
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "localhost/aegate:2"
    newer.cluster.writes.clear()
    newer.queue.add(ResourceRef("ApplicationEntity", key))
    await newer.settle()
    assert newer.cluster.writes == []


async def test_job_of_a_deleted_entity_is_let_onto_the_nodes_that_its_pods_were_on(ground: Ground) -> None:
    tolerations = [{"key": "storage", "operator": "Exists"}]
    key = await with_spool(ground, listener={"pod": {"tolerations": tolerations}})
    await delete(ground, key)
    ground.cluster.lose(POD, pod_name(key))

    again = Ground(ground.cluster)
    await again.settle()

    assert again.cluster.of(JOB, DRAIN)["spec"]["template"]["spec"]["tolerations"] == tolerations


async def test_policy_of_the_job_is_mended_and_made_again_while_it_runs(ground: Ground) -> None:
    key = await with_spool(ground)
    await delete(ground, key)
    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()
    good = ground.cluster.of(NETWORK_POLICY, POLICY)
    assert good["spec"]["ingress"] == []

    ground.cluster.put(NETWORK_POLICY, {**good, "spec": {**good["spec"], "ingress": [{}]}})
    await ground.settle()
    assert ground.cluster.of(NETWORK_POLICY, POLICY)["spec"] == good["spec"]

    ground.cluster.lose(NETWORK_POLICY, POLICY)
    await ground.settle()
    assert ground.cluster.of(NETWORK_POLICY, POLICY)["spec"] == good["spec"]


async def test_a_policy_that_cannot_be_made_keeps_no_image_out_of_the_index(ground: Ground) -> None:
    key = await with_spool(ground)
    ground.cluster.refuse = lambda verb, kind, name: (
        ClusterRefused("apply NetworkPolicy: denied") if (verb, kind) == ("apply", NETWORK_POLICY) else None
    )
    await delete(ground, key)
    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()
    assert ground.cluster.names(JOB) == ["radiology/ae-ct1-drain"]
    assert ground.errors[ResourceRef("ApplicationEntity", key)] == "apply NetworkPolicy: denied."

    await complete(ground)
    assert ground.cluster.names(VOLUME_CLAIM) == []


async def test_a_strangers_policy_of_that_name_is_left_alone(ground: Ground) -> None:
    key = await with_spool(ground)
    await delete(ground, key)
    theirs = {"metadata": {"namespace": key.namespace, "name": POLICY.name}, "spec": {"podSelector": {}}}
    ground.cluster.put(NETWORK_POLICY, theirs)
    ground.cluster.lose(POD, pod_name(key))
    await ground.settle()
    assert ground.cluster.of(NETWORK_POLICY, POLICY)["spec"] == {"podSelector": {}}
    assert "is left alone: delete or rename it" in ground.errors[ResourceRef("ApplicationEntity", key)]
    assert ground.cluster.names(JOB) == ["radiology/ae-ct1-drain"]
