"""A worker ends in time though its database does not come back; what it could not write is sent again."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from aegate_core.database import migrate
from aegate_scp.sink import Sink, SinkOptions
from tests.dicom import ct_study
from tests.integration.postgres import postgres_server
from tests.integration.scu.clinic import clinic, entity, reaches
from tests.integration.waiting import eventually_async


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
