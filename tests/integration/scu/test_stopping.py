"""A worker ends in time though database or peers do not answer; what it could not write is sent again."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

from aegate_core.database import migrate
from aegate_core.services import pushing
from aegate_scp.sink import Sink, SinkOptions
from tests.dicom import ct_study
from tests.integration.flapping import Mood, flapping_way
from tests.integration.postgres import postgres_server
from tests.integration.processes import free_port, process
from tests.integration.scu.clinic import clinic, entity, reaches
from tests.integration.waiting import eventually_async

BREAK = {
    "sqlite": (
        "CREATE TRIGGER broken BEFORE INSERT ON worker_state BEGIN SELECT RAISE(ABORT, 'broken'); END",
    ),
    "postgres": (
        "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''broken''; END'",
        "CREATE TRIGGER broken BEFORE INSERT ON worker_state FOR EACH ROW EXECUTE FUNCTION broken()",
    ),
}
"""What makes a worker's sign of life fail for a reason that nobody foresaw."""


async def test_worker_stops_while_the_database_is_away(tmp_path: Path) -> None:
    with postgres_server() as server, Sink(SinkOptions(tmp_path / "sink", delay_ms=20)) as sink:
        url = server.create("aegate")
        await migrate(url)
        async with clinic(url, tmp_path) as here:
            await here.configure(entity(sink.port))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 20)))
            async with here.worker("w1", settle=timedelta(seconds=1)):
                await eventually_async(lambda: len(sink.received) >= 2)
                await asyncio.to_thread(server.stop)
                # The block ends only when the worker has: it is given 20 s, and needs one.
            await asyncio.to_thread(server.start)
            async with here.worker("w2"):
                await reaches(here, delivery, "COMPLETED")
        assert len({one.sop_instance_uid for one in sink.received}) == 20


async def test_worker_process_stops_while_receivers_keep_it_waiting(
    database_url: str, tmp_path: Path
) -> None:
    async with clinic(database_url, tmp_path) as here:
        with flapping_way(free_port()) as pushed, flapping_way(free_port()) as probed:
            for way in (pushed, probed):
                way.be(Mood.SILENT)
            await here.configure(entity(pushed.port), entity(probed.port, name="ws", title="WS"))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 2)))
            await here.db.execute(
                "UPDATE destination SET breaker = 'OPEN', next_probe_at = $1 WHERE ae = 'default/ws'",
                await here.db.time(),
            )
            environ = {
                "AEGATE_DATA": str(here.data.root),
                "AEGATE_DATABASE_URL": here.url,
                "AEGATE_SETTLE_SECONDS": "1",
            }
            command = [sys.executable, "-m", "aegate_scu"]
            with process(command, log=tmp_path / "worker.log", environ=environ) as child:
                await eventually_async(
                    lambda: pushed.connections and probed.connections, deadline_s=60, what="both hang"
                )
                began = time.monotonic()
                child.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(child.wait, 60) == 0
                # Well before the 30 s after which a receiver that does not answer is given up (timeouts.acse).
                assert time.monotonic() - began < 15
        assert '"process.stopped"' in (tmp_path / "worker.log").read_text()
        assert await here.states() == {delivery: "IN_PROGRESS"}
        later = await here.db.time() + timedelta(minutes=1)
        assert await pushing.reap(here.db, now=later) == (1, 1)
        assert await here.states() == {delivery: "SCHEDULED"}


async def test_worker_process_that_fails_ends_at_once_though_a_receiver_keeps_it_waiting(
    database_url: str, tmp_path: Path
) -> None:
    async with clinic(database_url, tmp_path) as here:
        with flapping_way(free_port()) as way:
            way.be(Mood.SILENT)
            await here.configure(entity(way.port))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 2)))
            environ = {
                "AEGATE_DATA": str(here.data.root),
                "AEGATE_DATABASE_URL": here.url,
                "AEGATE_LEASE_SECONDS": "3",
                "AEGATE_SETTLE_SECONDS": "1",
            }
            command = [sys.executable, "-m", "aegate_scu"]
            with process(command, log=tmp_path / "worker.log", environ=environ) as child:
                await eventually_async(lambda: way.connections, deadline_s=60, what="it hangs")
                for statement in BREAK[here.db.dialect]:
                    await here.db.execute(statement)
                began = time.monotonic()
                assert await asyncio.to_thread(child.wait, 60) == 1
                # Well before the 30 s after which a receiver that does not answer is given up: it is started anew.
                assert time.monotonic() - began < 15
        assert await here.states() == {delivery: "IN_PROGRESS"}
