"""What people copy from is right, and the example hospital is what the demo needs."""

from __future__ import annotations

from aegate_core.decisions.references import Surroundings, decide_conditions
from aegate_core.resources.conditions import Reason
from aegate_core.resources.locations import read_locations
from aegate_core.resources.validation import validate_manifests
from aegate_core.resources.values import Ability, ApplicationEntity, ListenerMode
from tests.examples import HOSPITAL, MANIFESTS
from tests.unit.resources.builders import crds


def test_all_examples_are_valid_together() -> None:
    result = validate_manifests([str(file) for file in MANIFESTS], crds=crds())
    assert [str(p) for p in [*result.problems, *result.unreadable]] == []
    assert len(result.resources) == 16
    assert [str(policy.ref) for policy in result.policies] == ["AEPolicy hospital"]


def test_hospital_has_no_trouble_but_the_printer() -> None:
    resources = validate_manifests([str(HOSPITAL)], crds=crds()).resources
    places = read_locations(HOSPITAL / "locations.csv")
    assert places.problems == []
    codes = frozenset(place.code for place in places.locations)
    decided = decide_conditions(resources, Surroundings(locations=codes, secrets=frozenset()))
    failing = {str(ref): c.reason for ref, conditions in decided.items() for c in conditions if not c.is_true}
    assert failing == {"ApplicationEntity default/film-1": Reason.PRINT_NOT_AVAILABLE}


def test_hospital_is_what_the_demo_shows() -> None:
    resources = validate_manifests([str(HOSPITAL)], crds=crds()).resources
    entities = {r.key.name: r for r in resources if isinstance(r, ApplicationEntity)}
    assert sorted(entities) == ["ct-er", "film-1", "mr-1", "pacs", "us-cardio", "ws-read-1"]
    assert {ae.node for ae in entities.values()} == {"127.0.0.1"}
    assert [(entities[n].port, entities[n].listener.port) for n in ("ct-er", "mr-1")] == [
        (104, None),
        (104, None),
    ]
    assert entities["us-cardio"].listener.port == 11115
    assert {n for n, ae in entities.items() if ae.ability is Ability.PRINT} == {"film-1"}
    receivers = {n: ae.port for n, ae in entities.items() if ae.listener_mode is ListenerMode.NONE}
    assert receivers == {"pacs": 11113, "ws-read-1": 11114, "film-1": 11116}
    senders = [ae for ae in entities.values() if ae.listener_mode is not ListenerMode.NONE]
    assert {ae.study.quiet_period_s for ae in senders} == {2}
