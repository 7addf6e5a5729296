"""Making an object ready for a receiver takes a while: what happens meanwhile counts, and others wait for the room."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.services import pushing
from aegate_core.services.pushing import Answer, Ending, Wishes
from aegate_core.stores.blobs import FolderStore
from aegate_scp.sink import Sink, SinkOptions
from aegate_scu.peer import PeerAddress
from aegate_scu.push import STALLED_S, Control, Push, push
from tests.dicom import ct_study
from tests.integration.hostile.objects import HANGING, damaged
from tests.integration.hostile.test_decoders import decoders
from tests.integration.processes import cpu_s
from tests.integration.scu.clinic import clinic, entity
from tests.integration.waiting import eventually_async


class Slow(FolderStore):
    """Blobs that are slow to be had: something happens before the second one is there."""

    def __init__(self, root: Path, control: Control, what: str) -> None:
        super().__init__(root)
        self.asked = 0
        self._control = control
        self._what = what

    def path(self, key: str) -> Path:
        self.asked += 1
        if self.asked == 2 and self._what == "cancel":
            self._control.wishes = Wishes(cancel=frozenset({1}))
        elif self.asked == 2:
            self._control.stop.set()
        return super().path(key)


@pytest.mark.parametrize("what", ["cancel", "stop"])
async def test_object_is_not_sent_that_was_cancelled_or_may_not_go_while_it_was_made_ready(
    database_url: str, tmp_path: Path, what: str
) -> None:
    async with clinic(database_url, tmp_path) as here:
        options = SinkOptions(tmp_path / "sink", transfer_syntaxes=(ImplicitVRLittleEndian,))
        with Sink(options) as sink:
            pacs = entity(sink.port)
            await here.configure(pacs)
            assert await here.enqueue(*await here.store(*ct_study("s1", 3))) == 1
            claim = await pushing.claim(here.db, "w1", timedelta(minutes=1), now=datetime.now(UTC))
            assert claim is not None
            control = Control(lease_until=time.monotonic() + 60)
            blobs = Slow(here.data.blobs, control, what)
            said: list[Answer] = []
            job = Push(claim, PeerAddress(pacs, "AEGATE"), blobs, control, lambda a, _: said.append(a))

            assert await asyncio.to_thread(push, job) == Ending()
        assert (len(sink.received), len(said), blobs.asked) == (1, 1, 2)


async def test_objects_that_take_long_to_convert_are_converted_no_more_at_once_than_may_be_pushed(
    database_url: str, tmp_path: Path
) -> None:
    hanging = tmp_path / "hanging.dcm"
    hanging.write_bytes(damaged(*HANGING))
    async with clinic(database_url, tmp_path) as here:
        options = SinkOptions(tmp_path / "sink", transfer_syntaxes=(ExplicitVRLittleEndian,))
        with Sink(options) as sink:
            await here.configure(entity(sink.port), entity(sink.port, name="ws"))
            arrivals = await here.store(hanging)
            for name in ("pacs", "ws"):
                await here.enqueue(*arrivals, to=ResourceKey("default", name))

            def at_work() -> list[int]:
                return [pid for pid in decoders() if cpu_s(pid) > STALLED_S + 1]

            async with here.worker(pushes=1):
                await eventually_async(lambda: bool(at_work()), deadline_s=60)
                assert sorted((await here.states()).values()) == ["IN_PROGRESS", "SCHEDULED"]
                await here.db.execute("UPDATE delivery SET state = 'HELD' WHERE state = 'SCHEDULED'")
                for pid in at_work():
                    os.kill(pid, signal.SIGKILL)
