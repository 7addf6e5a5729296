"""What a worker does with a delivery, proved at real receivers."""

from __future__ import annotations

from pathlib import Path

from aegate_scp.sink import Sink, SinkOptions
from tests.dicom import ct_study
from tests.integration.scu.clinic import clinic, digests, entity
from tests.integration.waiting import eventually_async


async def test_study_arrives_byte_for_byte(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        with Sink(SinkOptions(tmp_path / "sink")) as sink:
            await here.configure(entity(sink.port))
            arrivals = await here.store(*ct_study("s1", 5))
            delivery = await here.enqueue(*arrivals)
            async with here.worker():
                await eventually_async(lambda: _is(here, delivery, "COMPLETED"))
            assert digests([r.path for r in sink.received]) == digests(list(here.stored.values()))
            assert {r.calling_title for r in sink.received} == {"AEGATE"}
            assert await here.history(delivery) == ["SCHEDULED", "IN_PROGRESS", "COMPLETED"]
            assert await here.instances(delivery) == [("STORED", 0, None)] * 5


async def _is(here, delivery: int, state: str) -> bool:
    return (await here.states())[delivery] == state
