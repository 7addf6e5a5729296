"""What kstatus, with it Flux, says of every state that the operator writes. The table has Argo CD's words beside it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.judges.asking import ask
from tests.unit.gitops.table import STATES


def verdict(judges: Path, obj: Any) -> tuple[str, str]:
    """Return status and message."""
    (found,) = ask(judges / "kstatus", [obj])
    return found["status"], found["message"]


@pytest.mark.parametrize("name", STATES)
async def test_every_state_is_understood(judges: Path, name: str) -> None:
    state = STATES[name]
    status, message = verdict(judges, await state.object())
    assert status == state.kstatus, message
    assert state.words in message


async def test_without_the_crds_default_a_new_resource_would_count_as_done(judges: Path) -> None:
    new = await STATES["ApplicationEntity: nobody has looked at it"].object()
    assert new["status"] == {"observedGeneration": -1}
    assert verdict(judges, new)[0] == "InProgress"
    bare = copy.deepcopy(new)
    del bare["status"]
    assert verdict(judges, bare)[0] == "Current"
