"""Resources beside one another, kept current one at a time: the same answers as when all are looked at anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aegate_core.decisions.neighbours import Neighbours
from aegate_core.decisions.references import Surroundings, conditions_of, decide_conditions
from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.reference import ResourceRef, ref_of
from aegate_core.resources.values import Resource
from tests.unit.resources.builders import ae, partition, resource, route

CT, PACS = (resource(ae(name), uid=name) for name in ("ct1", "pacs"))
ALL: list[Resource] = [
    CT,
    PACS,
    resource(ae("ct1", title="CT 1", patientPartition="imaging"), labels={"department": "er"}, uid="9"),
    resource(ae("mr1", title="ct 1"), labels={"department": "er", "floor": "1"}, uid="1"),
    resource(ae("mr1", title="PACS"), uid="0"),
    resource(partition("imaging")),
    resource(route("to-pacs", to=["pacs"], source={"aes": ["ct1"], "partitions": ["imaging"]})),
    resource(route("to-pacs", to=["ct1"], source={"selector": {"matchLabels": {"department": "er"}}})),
    resource(
        route("er", to=["mr1"], source={"selector": {"matchLabels": {"department": "er", "floor": "1"}}})
    ),
]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(ALL)), max_size=20))
def test_kept_one_by_one_they_judge_as_all_at_once(steps: list[tuple[bool, Resource]]) -> None:
    neighbours, live = Neighbours(), dict[ResourceRef, Resource]()
    for comes, value in steps:
        if comes:
            neighbours.put(value)
            live[ref_of(value)] = value
        else:
            neighbours.remove(ref_of(value))
            live.pop(ref_of(value), None)
    at_once = decide_conditions(list(live.values()), Surroundings())
    one_by_one = {ref: conditions_of(r, neighbours, Surroundings()) for ref, r in live.items()}
    assert one_by_one == at_once


@given(st.lists(st.sampled_from(ALL), max_size=8), st.sampled_from(ALL))
def test_whoever_is_judged_differently_after_a_change_was_named(
    before: list[Resource], new: Resource
) -> None:
    live = {ref_of(value): value for value in before}
    neighbours = Neighbours(live.values())
    was = decide_conditions(list(live.values()), Surroundings())
    old = live.get(ref_of(new))
    concerned = neighbours.concerned(old) if old else set()
    neighbours.put(new)
    concerned |= neighbours.concerned(new)
    live[ref_of(new)] = new
    now = decide_conditions(list(live.values()), Surroundings())
    changed = {ref for ref in was if was[ref] != now[ref]} - {ref_of(new)}
    assert changed <= concerned


def test_nobody_owns_a_title_that_nobody_claims() -> None:
    neighbours = Neighbours([CT])
    neighbours.remove(ref_of(CT))
    neighbours.remove(ref_of(CT))
    assert neighbours.owner(AETitle("CT1")) is None
    assert neighbours.entity(ResourceKey("default", "ct1")) is None


def test_accepted_one_keeps_its_title_until_it_loses_it() -> None:
    young, old = resource(ae("a", title="X"), uid="2"), resource(ae("b", title="x"), uid="1")
    neighbours = Neighbours([young, old], accepted=[young.key])
    assert neighbours.owner(AETitle("X")) is young
    neighbours.accept(young.key, False)
    assert neighbours.owner(AETitle("X")) is old
    assert neighbours.accepted == frozenset()
