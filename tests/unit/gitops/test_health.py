"""What Argo CD's script and kstatus' rules say of the conditions that the operator really writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lupa.lua54 import LuaRuntime
from ruamel.yaml import YAML

from aegate_core.decisions.references import Surroundings, decide_conditions, invalid_conditions
from aegate_core.resources.parse import parse_resource
from aegate_core.resources.reference import ref_of
from aegate_operator.status import stalled

ARGO_CD = Path(__file__).parents[3] / "docs" / "operations" / "examples" / "argocd"
SCRIPT = (ARGO_CD / "health.lua").read_text()
NEW = "Progressing"


def judged(obj: dict[str, Any]) -> tuple[str, str]:
    """Status and message, as Argo CD runs it: ``obj`` is a global, the script returns a table."""
    lua = LuaRuntime(register_eval=False, attribute_filter=lambda *_: (_ for _ in ()).throw(AttributeError))
    lua.globals().obj = lua.table_from(obj, recursive=True)
    found = lua.execute(SCRIPT)
    return found["status"], found["message"]


def entity(conditions: Any = None, *, generation: int = 3, observed: int = 3, **spec: Any) -> dict[str, Any]:
    """An AE as the API server has it."""
    metadata = {"namespace": "radiology", "name": "ct1", "generation": generation}
    filled = {"title": "CT1", "node": "10.1.2.3", "port": 104, **spec}
    obj = {
        "apiVersion": "aegate.dev/v1alpha1",
        "kind": "ApplicationEntity",
        "metadata": metadata,
        "spec": filled,
    }
    if conditions is not None:
        obj["status"] = {"observedGeneration": observed, "conditions": [c.to_json() for c in conditions]}
    return obj


def conditions_of(obj: dict[str, Any], **known: Any) -> Any:
    """What the operator writes of an AE in these surroundings."""
    ae = parse_resource(obj)
    around = {name: {ae.key: value} for name, value in known.items()}
    return stalled(decide_conditions([ae], Surroundings(**around))[ref_of(ae)])


def test_what_nobody_has_looked_at_is_on_its_way() -> None:
    assert judged(entity()) == (NEW, "The operator has not looked at it yet.")
    assert judged(entity(()))[0] == NEW
    old = entity(conditions_of(entity(generation=2)), observed=2)
    assert judged(old) == (NEW, "The operator has not looked at this version yet.")


@pytest.mark.parametrize(
    ("spec", "known", "status", "words"),
    [
        ({"patientPartition": "default"}, {}, "Healthy", "Ready."),
        ({"enabled": False}, {}, "Healthy", "no listener"),
        ({"suspend": True}, {}, "Suspended", "left as it is"),
        ({}, {"progress": "1 of 2 pods.", "listener_troubles": "1 of 2 pods."}, NEW, "1 of 2 pods."),
        ({}, {"listener_troubles": "Pod a: CrashLoopBackOff."}, "Degraded", "CrashLoopBackOff"),
        ({"patientPartition": "missing"}, {}, "Degraded", "is no PatientPartition"),
    ],
)
def test_what_the_operator_says_is_understood(
    spec: dict[str, Any], known: dict[str, str], status: str, words: str
) -> None:
    obj = entity(**spec)
    found = judged(entity(conditions_of(obj, **known), **spec))
    assert found[0] == status, found
    assert words in found[1]


def test_what_no_retry_helps_is_degraded() -> None:
    wrong = entity(invalid_conditions("spec.port must be a number", generation=3))
    assert judged(wrong) == ("Degraded", "spec.port must be a number")


def test_the_patch_has_the_script_for_each_kind() -> None:
    patch = YAML(typ="safe", pure=True).load((ARGO_CD / "argocd-cm.yaml").read_text())
    kinds = ("ApplicationEntity", "ImageRoute", "PatientPartition")
    assert patch == {"data": {f"resource.customizations.health.aegate.dev_{kind}": SCRIPT for kind in kinds}}
