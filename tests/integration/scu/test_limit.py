"""The limit ``maxConnections`` over several worker processes, proved at the receiver."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian

from aegate_scp.sink import Sink, SinkOptions
from tests.dicom import ct_study
from tests.integration.processes import process
from tests.integration.scu.clinic import clinic, entity
from tests.integration.waiting import eventually_async

LIMIT, WORKERS, STUDIES, INSTANCES = 3, 4, 40, 20


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


async def test_limit_is_exact_and_used_though_a_worker_is_killed(database_url: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        sink = stack.enter_context(
            Sink(SinkOptions(tmp_path / "sink", delay_ms=50, transfer_syntaxes=(ExplicitVRLittleEndian,)))
        )
        async with clinic(database_url, tmp_path) as here:
            await here.configure(entity(sink.port, max_connections=LIMIT))
            for study in range(STUDIES):
                await here.enqueue(*await here.store(*ct_study(f"s{study}", INSTANCES)))
            observer = Observer(sink)
            workers = {}
            for n in range(WORKERS):
                environ = {
                    "AEGATE_DATA": str(here.data.root),
                    "AEGATE_DATABASE_URL": database_url,
                    "AEGATE_WORKER": f"w{n}",
                    "AEGATE_LEASE_SECONDS": "1.5",
                }
                log = tmp_path / f"w{n}.log"
                workers[f"w{n}"] = stack.enter_context(
                    process([sys.executable, "-m", "aegate_scu"], log=log, environ=environ)
                )
            await eventually_async(lambda: len(sink.received) > STUDIES * INSTANCES // 4, deadline_s=30)
            holder = await here.db.fetch_value("SELECT worker FROM slot WHERE token IS NOT NULL ORDER BY n")
            workers[holder].kill()

            async def all_done() -> bool:
                return set((await here.states()).values()) == {"COMPLETED"}

            began = time.monotonic()
            await eventually_async(all_done, deadline_s=60)
            assert time.monotonic() - began < 45
            assert sink.peak_associations == LIMIT
            assert observer.share_at_limit() >= 0.8
            arrived = {r.sop_instance_uid for r in sink.received}
            assert len(arrived) == STUDIES * INSTANCES
            # What was on its way when the worker died may come twice; it is recorded once.
            assert len(sink.received) - len(arrived) <= 2 * INSTANCES * LIMIT
            stored = await here.db.fetch_value(
                "SELECT count(*) FROM delivery_instance WHERE state = 'STORED'"
            )
            assert stored == STUDIES * INSTANCES
