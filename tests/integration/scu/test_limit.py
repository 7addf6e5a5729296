"""The limit ``maxConnections`` over several worker processes, proved at the receiver: also with one killed or paused.

A killed worker's slot is free when its lease ends; the studies are long enough for that to be a small part of the time.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from aegate_scp.sink import Sink, SinkOptions
from tests.dicom import ct_study
from tests.integration import sqlite
from tests.integration.processes import process
from tests.integration.scu.clinic import Clinic, clinic, entity, reaches
from tests.integration.waiting import eventually_async

LIMIT, WORKERS, STUDIES, INSTANCES = 3, 4, 16, 25
DELAY_MS = 200
"""For which the receiver keeps each instance: few that take long cost the machine less than many."""
LEASE_S = 2


class Observer:
    """Count the receiver's open associations every few milliseconds."""

    def __init__(self, sink: Sink) -> None:
        self.samples: list[int] = []
        self._sink = sink
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self.samples.append(self._sink.open_associations)

    def share_at_limit(self) -> float:
        """Return for which part of the time all connections were in use, from first to last full use."""
        self._over.set()
        self._thread.join()
        full = [n for n, count in enumerate(self.samples) if count == LIMIT]
        window = self.samples[full[0] : full[-1] + 1]
        return window.count(LIMIT) / len(window)


@contextmanager
def worker(here: Clinic, name: str, *, lease_s: float) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker process that calls as ``name``."""
    environ = {
        "AEGATE_DATA": str(here.data.root),
        "AEGATE_DATABASE_URL": here.url,
        "AEGATE_WORKER": name,
        "AEGATE_CALLING_TITLE": name.upper(),
        "AEGATE_LEASE_SECONDS": str(lease_s),
    }
    command = [sys.executable, "-m", "aegate_scu"]
    with process(command, log=log_of(here, name), environ=environ) as child:
        yield child


def log_of(here: Clinic, name: str) -> Path:
    """Return where a worker's log goes."""
    return here.data.root.parent / f"{name}.log"


def slots_lost(here: Clinic, *names: str) -> int:
    """Return how many leases these workers outlived: more than none when the machine stood still for seconds."""
    return sum(log_of(here, name).read_text().count('"slot.lost"') for name in names)


@pytest.mark.timeout(300)
async def test_limit_is_exact_and_used_though_a_worker_is_killed(database_url: str, tmp_path: Path) -> None:
    options = SinkOptions(tmp_path / "sink", delay_ms=DELAY_MS, transfer_syntaxes=(ExplicitVRLittleEndian,))
    async with clinic(database_url, tmp_path) as here:
        with ExitStack() as stack:
            sink = stack.enter_context(Sink(options))
            await here.configure(entity(sink.port, max_connections=LIMIT))
            for study in range(STUDIES):
                await here.enqueue(*await here.store(*ct_study(f"s{study}", INSTANCES)))
            observer = Observer(sink)
            names = [f"w{n}" for n in range(WORKERS)]
            workers = {n: stack.enter_context(worker(here, n, lease_s=LEASE_S)) for n in names}
            total = STUDIES * INSTANCES
            await eventually_async(lambda: len(sink.received) > total // 4, deadline_s=100)
            holder = await here.db.fetch_value("SELECT worker FROM slot WHERE token IS NOT NULL ORDER BY n")
            workers[holder].kill()

            async def all_done() -> bool:
                return set((await here.states()).values()) == {"COMPLETED"}

            await eventually_async(all_done, deadline_s=180)
            # Whoever is kept from renewing its lease holds one association more until its next instance (queue.md).
            assert LIMIT <= sink.peak_associations <= LIMIT + slots_lost(here, *names)
            assert observer.share_at_limit() >= 0.8
            arrived = {r.sop_instance_uid for r in sink.received}
            assert len(arrived) == total
            # What was on its way when the worker died may come twice; it is recorded once.
            assert len(sink.received) - len(arrived) <= 2 * INSTANCES * LIMIT
            assert await here.stored_count() == total


async def pause(here: Clinic, child: subprocess.Popen[bytes]) -> None:
    """Stop a worker outside of a transaction: within one its locks would stay, for a minute on PostgreSQL."""

    async def stopped() -> bool:
        child.send_signal(signal.SIGSTOP)
        if await nobody_writes(here):
            return True
        child.send_signal(signal.SIGCONT)
        return False

    await eventually_async(stopped, what="the worker stands outside of a transaction")


async def nobody_writes(here: Clinic) -> bool:
    """Whether no other connection is in a transaction."""
    if here.db.is_sqlite:
        return sqlite.nobody_writes(Path(here.url.removeprefix("sqlite://")))
    others = "datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
    return not await here.db.fetch_value(f"SELECT count(*) FROM pg_stat_activity WHERE {others}")


async def test_paused_worker_leaves_before_its_next_instance(database_url: str, tmp_path: Path) -> None:
    images = 40
    options = SinkOptions(tmp_path / "sink", delay_ms=100, transfer_syntaxes=(ExplicitVRLittleEndian,))
    async with clinic(database_url, tmp_path) as here:
        with Sink(options) as sink, worker(here, "w1", lease_s=1.5) as paused:
            await here.configure(entity(sink.port, max_connections=1))
            delivery = await here.enqueue(*await here.store(*ct_study("s", images)))

            def came(name: str) -> int:
                return sum(r.calling_title == name for r in sink.received)

            await eventually_async(lambda: came("W1") >= 5, deadline_s=30)
            await pause(here, paused)
            with worker(here, "w2", lease_s=30):
                await eventually_async(lambda: came("W2") >= 3, deadline_s=60)
                before = came("W1")
                assert sink.open_associations == 2
                paused.send_signal(signal.SIGCONT)
                await eventually_async(lambda: slots_lost(here, "w1") == 1, deadline_s=30)
                await eventually_async(lambda: sink.open_associations == 1, deadline_s=30)
                # The one that it was stopped in the middle of may still come to its end.
                assert came("W1") - before <= 1
                assert came("W2") < images
                await reaches(here, delivery, "COMPLETED", deadline_s=60)
            states = ["SCHEDULED", "IN_PROGRESS", "SCHEDULED", "IN_PROGRESS", "COMPLETED"]
            assert await here.history(delivery) == states
            row = await here.delivery(delivery)
            assert (row["instances_done"], row["instances_failed"], row["attempts"]) == (images, 0, 0)
            assert await here.stored_count() == images
            assert {r.sop_instance_uid for r in sink.received} == {
                str(o.SOPInstanceUID) for o in ct_study("s", images)
            }
            assert slots_lost(here, "w2") == 0
