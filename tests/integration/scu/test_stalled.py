"""Receivers that take a connection and then say nothing hold up nobody else, though a worker has no push left."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from aegate_core.dicom.identifiers import ResourceKey
from aegate_scp.sink import Sink, SinkOptions
from tests.dicom import ct_study
from tests.integration.flapping import Mood, flapping_way
from tests.integration.scu.clinic import clinic, entity, reaches
from tests.integration.waiting import eventually_async

HANGING = ("hang1", "hang2")
CONNECTIONS, PUSHES = 4, 8


async def test_receivers_that_hang_hold_up_nobody_else(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        with ExitStack() as stack:
            sink = stack.enter_context(Sink(SinkOptions(tmp_path / "sink")))
            ways = [stack.enter_context(flapping_way(sink.port)) for _ in HANGING]
            hanging = [
                entity(way.port, name=name, title=name.upper(), max_connections=CONNECTIONS)
                for name, way in zip(HANGING, ways, strict=True)
            ]
            for way in ways:
                way.be(Mood.SILENT)
            await here.configure(entity(sink.port), *hanging)
            for name in HANGING:
                for n in range(CONNECTIONS):
                    study = await here.store(*ct_study(f"{name} {n}", 1))
                    await here.enqueue(*study, to=ResourceKey("default", name))
            async with here.worker(pushes=PUSHES):
                await eventually_async(
                    lambda: sum(w.connections for w in ways) == PUSHES, deadline_s=30, what="all hang"
                )
                good = await here.enqueue(*await here.store(*ct_study("good", 3)))
                # Well before the 30 s after which a receiver that does not answer is given up (timeouts.acse).
                await reaches(here, good, "COMPLETED", deadline_s=20)
                assert sum(w.connections for w in ways) == PUSHES
                for way in ways:
                    way.be(Mood.REFUSING)
            states = await here.states()
        assert (states.pop(good), set(states.values()) <= {"SCHEDULED", "RETRY"}) == ("COMPLETED", True)
        assert len(sink.received) == 3
