"""What is set and does nothing yet is said where people look: in the condition, and by `kubectl explain`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from aegate_core.decisions.references import Surroundings, decide_conditions
from aegate_core.decisions.without_effect import WITHOUT_EFFECT, without_effect
from aegate_core.resources.conditions import ConditionType, Status
from aegate_core.resources.crds import load_crds
from aegate_core.resources.reference import ref_of
from aegate_core.resources.values import ApplicationEntity
from tests.unit.resources.builders import ae, resource

SAID = "Not in effect yet"


def entity(**spec: Any) -> ApplicationEntity:
    found = resource(ae("ct1", **spec))
    assert isinstance(found, ApplicationEntity)
    return found


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({"push": {"reconcilePatientData": "MR"}}, "spec.push.reconcilePatientData"),
        ({"push": {"reconcileAccessionNumber": "EncounterID"}}, "spec.push.reconcileAccessionNumber"),
        ({"push": {"compression": {"mode": "Lossless"}}}, "spec.push.compression"),
        (
            {"push": {"storageCommitment": True}, "allowModalityWorklistQuery": True},
            "spec.push.storageCommitment, spec.allowModalityWorklistQuery",
        ),
    ],
)
def test_what_is_set_and_has_no_effect_is_named_and_keeps_nothing_from_being_ready(
    spec: dict[str, Any], names: str
) -> None:
    one = entity(**spec)
    conditions = decide_conditions([one], Surroundings(remarks={one.key: "One pod."}))[ref_of(one)]
    (ready,) = [c for c in conditions if c.type is ConditionType.READY]
    assert ready.status is Status.TRUE
    assert ready.message == f"Ready. One pod. Kept, and not in effect yet: {names}."


@pytest.mark.parametrize(
    "push",
    [{}, {"reconcilePatientData": "None", "storageCommitment": False, "compression": {"mode": "None"}}],
)
def test_nothing_is_said_of_what_asks_for_nothing(push: dict[str, Any]) -> None:
    assert without_effect(entity(push=push)) == ""


def test_the_crd_says_the_same_of_the_same_fields() -> None:
    spec = load_crds()["ApplicationEntity"].schema["properties"]["spec"]
    said = {path for path, node in _fields(spec, "") if SAID in node.get("description", "")}
    assert said == {*WITHOUT_EFFECT, "print"}


def _fields(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _fields(child, f"{path}.{name}".lstrip("."))
