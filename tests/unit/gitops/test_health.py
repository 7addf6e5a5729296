"""What Argo CD's script says of what the operator really writes. What kstatus says is tried in the third ring."""

from __future__ import annotations

from typing import Any

import pytest
from ruamel.yaml import YAML

from aegate_core.resources.conditions import Reason
from tests.unit.gitops.argo_cd import FOLDER, SCRIPT, SCRIPTED, argo_cd
from tests.unit.gitops.states import unseen
from tests.unit.gitops.table import AGREEING, STATES
from tests.unit.operator.ground import CRDS, Ground


@pytest.mark.parametrize("name", STATES)
async def test_every_state_is_understood(name: str) -> None:
    state = STATES[name]
    status, message = argo_cd(await state.object())
    assert status == state.argo_cd, message
    assert state.words in message


def test_argo_cd_and_kstatus_agree() -> None:
    pairs = {name: (state.kstatus, state.argo_cd) for name, state in STATES.items()}
    assert {name: pair for name, pair in pairs.items() if pair not in AGREEING} == {}


async def test_every_reason_that_there_is_stands_in_the_table() -> None:
    seen = set()
    for state in STATES.values():
        conditions = (await state.object()).get("status", {}).get("conditions", [])
        seen |= {condition["reason"] for condition in conditions}
    assert {reason.value for reason in Reason} - seen == set()


async def test_a_resource_says_from_its_first_moment_that_nobody_has_looked_at_it() -> None:
    """kstatus takes a resource that has no status for one without conditions, and that for good."""
    for kind in SCRIPTED:
        assert CRDS[kind].schema["properties"]["status"]["default"] == {"observedGeneration": -1}  # type: ignore[index]
    bare = await unseen(Ground())
    assert "status" not in bare
    assert argo_cd(bare)[0] == "Progressing"


def test_the_patch_has_the_script_for_each_kind() -> None:
    patch: Any = YAML(typ="safe", pure=True).load((FOLDER / "argocd-cm.yaml").read_text())
    assert patch == {
        "data": {f"resource.customizations.health.aegate.dev_{kind}": SCRIPT for kind in SCRIPTED}
    }
