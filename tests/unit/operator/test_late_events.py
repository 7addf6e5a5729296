"""An edit that comes while the status is written: its event comes after the answer that holds it already."""

from __future__ import annotations

from typing import Any

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.stores.cluster.client import Manifest
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, Kind
from tests.unit.operator.ground import Ground


async def test_an_edit_during_the_write_of_the_status_is_looked_at() -> None:
    ground, late = Ground(), list[tuple[Kind, str, Manifest]]()
    key = ground.add_ae()

    def edit(verb: str, kind: Kind, of: ResourceKey) -> None:
        if kind == APPLICATION_ENTITY and verb == "apply" and not late:
            ground.cluster.saw = lambda *event: late.append(event)
            live = ground.cluster.of(kind, of)
            ground.cluster.put(kind, {**live, "spec": {**live["spec"], "comment": "edited"}})

    ground.cluster.refuse = edit
    await ground.settle()
    ground.cluster.saw = ground.informer.saw
    for event in late:
        ground.informer.saw(*event)
    await ground.settle()

    status: Any = ground.cluster.of(APPLICATION_ENTITY, key)["status"]
    assert status["observedGeneration"] == 2
    assert {c["observedGeneration"] for c in status["conditions"]} == {2}
