"""A title is one over all namespaces; the next AE takes over at once; a loser touches nothing of its owner's."""

from __future__ import annotations

import pytest

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, DEPLOYMENT, SERVICE
from tests.unit.operator.ground import Ground


@pytest.fixture
def ground() -> Ground:
    return Ground()


CONFLICT = {
    "Accepted": ("False", "TitleConflict"),
    "ResolvedRefs": ("True", "ResolvedRefs"),
    "Ready": ("False", "TitleConflict"),
    "Stalled": ("True", "TitleConflict"),
}


async def two(ground: Ground) -> tuple[ResourceKey, ResourceKey]:
    owner = ground.add_ae("ct1", "radiology")
    await ground.settle()
    other = ground.add_ae("ct1", "cardiology")
    await ground.settle()
    return owner, other


async def test_the_second_gets_no_children_and_names_the_owner(ground: Ground) -> None:
    owner, other = await two(ground)
    assert ground.conditions(owner)["Accepted"] == ("True", "Accepted")
    assert ground.conditions(other) == CONFLICT
    assert ground.message(other).startswith("The title CT1 belongs to radiology/ct1 ")
    assert ground.cluster.names(DEPLOYMENT) == ["radiology/ae-ct1"]
    assert [event["reason"] for event in ground.cluster.events] == ["TitleConflict", "TitleConflict"]


async def test_when_the_owner_goes_the_next_takes_over_at_once(ground: Ground) -> None:
    owner, other = await two(ground)
    ground.cluster.lose(APPLICATION_ENTITY, owner)
    await ground.settle()
    assert ground.conditions(other)["Accepted"] == ("True", "Accepted")
    assert "cardiology/ae-ct1" in ground.cluster.names(DEPLOYMENT)


async def test_the_losers_deletion_touches_nothing_of_the_owner(ground: Ground) -> None:
    owner, other = await two(ground)
    ground.cluster.writes.clear()
    ground.cluster.lose(APPLICATION_ENTITY, other)
    await ground.settle()
    assert ground.cluster.writes == []
    assert ground.cluster.names(DEPLOYMENT) == ["radiology/ae-ct1"]
    assert ground.conditions(owner)["Accepted"] == ("True", "Accepted")


async def test_a_restart_keeps_the_owner_though_the_other_is_older(ground: Ground) -> None:
    owner, other = await two(ground)
    live = ground.cluster.of(APPLICATION_ENTITY, other)
    older = {**live["metadata"], "creationTimestamp": "2001-01-01T00:00:00Z"}
    ground.cluster.put(APPLICATION_ENTITY, {**live, "metadata": older})
    ground.cluster.writes.clear()
    again = Ground(ground.cluster)
    await again.settle()
    assert again.conditions(owner)["Accepted"] == ("True", "Accepted")
    assert again.conditions(other) == CONFLICT
    assert again.cluster.writes == []


async def test_a_suspended_owner_keeps_it_over_a_restart(ground: Ground) -> None:
    owner, other = await two(ground)
    ground.add_ae("ct1", "radiology", suspend=True)
    await ground.settle()
    again = Ground(ground.cluster)
    await again.settle()
    assert again.conditions(owner)["Ready"] == ("True", "Suspended")
    assert again.conditions(other) == CONFLICT


async def test_both_created_in_the_same_second_end_with_one_owner(ground: Ground) -> None:
    keys = [ground.add_ae("ct1", namespace) for namespace in ("radiology", "cardiology")]
    for key in keys:
        live = ground.cluster.of(APPLICATION_ENTITY, key)
        same = {**live["metadata"], "creationTimestamp": "2026-01-01T00:00:00Z"}
        ground.cluster.put(APPLICATION_ENTITY, {**live, "metadata": same})
    await ground.settle()
    assert sorted(ground.conditions(key)["Accepted"][0] for key in keys) == ["False", "True"]
    assert len(ground.cluster.names(DEPLOYMENT)) == 1


async def test_two_that_both_claim_to_be_accepted_end_with_one(ground: Ground) -> None:
    keys = [ground.add_ae("ct1", namespace) for namespace in ("radiology", "cardiology")]
    for key in keys:
        live = ground.cluster.of(APPLICATION_ENTITY, key)
        accepted = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "by hand"}
        condition = {**accepted, "lastTransitionTime": "2026-01-01T00:00:00Z"}
        ground.cluster.put(APPLICATION_ENTITY, {**live, "status": {"conditions": [condition]}})
    await ground.settle()
    assert sorted(ground.conditions(key)["Accepted"][0] for key in keys) == ["False", "True"]
    assert len(ground.cluster.names(DEPLOYMENT)) == 1


async def test_an_owner_whose_status_was_wiped_keeps_what_it_serves(ground: Ground) -> None:
    owner, other = await two(ground)
    live = ground.cluster.of(APPLICATION_ENTITY, owner)
    ground.cluster.put(APPLICATION_ENTITY, {**live, "status": {}})
    again = Ground(ground.cluster)
    await again.settle()
    assert again.conditions(owner)["Accepted"] == ("True", "Accepted")
    assert again.conditions(other) == CONFLICT


async def test_who_loses_its_title_loses_its_children_alone(ground: Ground) -> None:
    owner = ground.add_ae("ct1", "radiology")
    await ground.settle()
    ground.add_ae("ct1", "cardiology", title="CT2")
    await ground.settle()
    loser = ground.add_ae("ct1", "cardiology", title="CT1")
    await ground.settle()
    assert ground.conditions(loser) == CONFLICT
    assert ground.cluster.names(SERVICE) == ["radiology/ae-ct1"]
    assert ground.conditions(owner)["Accepted"] == ("True", "Accepted")
