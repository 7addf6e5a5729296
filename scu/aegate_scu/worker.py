"""The worker: loops that close due units, take up work, promote retries, take back what was lost, probe, and remove
what is old enough.

No loop is busy: each asks one cheap question and sleeps. Two workers may run any of them at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Literal

from aegate_core.database import Database, DatabaseClock
from aegate_core.dicom.identifiers import parse_resource_key
from aegate_core.errors import AegateError, InvalidInput, SerializationConflict, StorageError
from aegate_core.events import (
    BUCKET_AWAY,
    BUCKET_BACK,
    CLOCK_SET_BACK,
    DATABASE_AWAY,
    DATABASE_BACK,
    PROBE_FAILED,
    QUARANTINE_FAILED,
    RETENTION_FAILED,
    WORK_RETURNED,
    Log,
    fault_text,
)
from aegate_core.resources.values import ApplicationEntity
from aegate_core.services import pushing
from aegate_core.services.entities import Configuration, load_configuration
from aegate_core.services.pushing import Claim, Ending, Probe, SlotLost
from aegate_core.services.releasing import index_released
from aegate_core.services.rewording import reword
from aegate_core.services.studies import close_due
from aegate_core.stopping import until_stopped
from aegate_core.stores.blobs import open_blobs
from aegate_core.stores.queue import breakers, operations, upkeep, verifying
from aegate_scu.delivering import Delivering, deliver, persist
from aegate_scu.exporting import AuditExport
from aegate_scu.metrics import WorkerMetrics
from aegate_scu.peer import PeerAddress
from aegate_scu.probe import ProbeAnswer, probe
from aegate_scu.push import Control
from aegate_scu.retaining import retain_and_report
from aegate_scu.settings import WorkerSettings
from aegate_scu.tls import client_context, identity_expires_at
from aegate_scu.verifying import in_any_case, verify

POLL_S = 0.15
"""How long new work waits at most before it is seen. By feel: one indexed read, 7 times a second, on an idle worker."""

CLOSE_S = 0.5
UPKEEP_S = 0.5
PROBE_S = 1.0
RETRY_S = 1.0
RELEASE_S = 1.0
REWORD_S = 600.0
"""How often it is asked whether search texts are of older rules: they are after an update alone."""
REWORD_PAUSE_S = 0.05
"""Between two batches: on SQLite others write in it."""
LAST_STEP_S = 5.0
"""How long a step may take after a stop; within `settle`."""
FORGET_S = 1.0
LOOK_AT_BLOBS_S = 5.0
EXPORT_S = 1.0
RETAIN_S = 3600.0
"""What may go by age may go an hour later; where nothing is old enough, the question costs an indexed read or two."""

LOOK_AT_IDENTITY_S = 60.0
"""A renewed certificate is in force with the next association; this only tells when it ends."""

STALLED = 56
"""How many pushes may wait for peers that do not answer, beside those that move. By feel: threads that sleep, and each
reads a row twice a second; 14 receivers with 4 connections each may hang before the others feel it."""

PROBES = 8
"""How many destinations in trouble are asked at once. By feel: each takes up to 40 s where nothing answers."""

_DOUBTFUL = timedelta(days=1)
"""A clock that went ahead at once by more may be wrong: nothing is removed by it for good. By feel: ages are days."""

_TOLD = timedelta(days=1)
"""How long an operation that failed is counted: somebody looked by then."""

_SEE = timedelta(seconds=10)
"""How often a worker shows that it lives, and looks at the clock: well within `WORKER_SILENCE`."""

log = Log("scu")


class Worker:
    """One worker process's loops. `run` until `stop` is called."""

    def __init__(
        self,
        db: Database,
        settings: WorkerSettings,
        metrics: WorkerMetrics,
        clock: DatabaseClock | None = None,
    ) -> None:
        self.db = db
        self.clock = clock or DatabaseClock()
        self.settings = settings
        self.metrics = metrics
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._running: dict[asyncio.Task[None], Control] = {}
        self._configuration: Configuration | None = None
        self._executor = ThreadPoolExecutor(settings.pushes + STALLED, thread_name_prefix="push")
        self._probers = ThreadPoolExecutor(PROBES, thread_name_prefix="probe")
        self._verifiers = ThreadPoolExecutor(PROBES, thread_name_prefix="verify")
        self._verifying: set[asyncio.Task[None]] = set()
        blobs = open_blobs(settings.data)
        self._export = AuditExport(db, self.clock, settings, metrics)
        self._env = Delivering(db, self.clock, settings, metrics, self._executor, blobs)
        self._beat = time.monotonic()
        self._claiming = timedelta()
        """How long the last claim took: on a slow database a lease would be over when the claim is there."""
        self._settle_by = 0.0
        self._away_since: float | None = None
        self._troubles: dict[object, str] = {}
        """By loop: why its step cannot be done now."""
        self._blobs_trouble: str | None = None

    def trouble(self) -> str | None:
        """Return why the worker is not well, or None."""
        if self._troubles:
            return next(iter(self._troubles.values()))
        if self._blobs_trouble:
            return self._blobs_trouble
        silent_s = time.monotonic() - self._beat
        return f"the loop for new work has been silent for {silent_s:.0f} s" if silent_s > 60 else None

    def stop(self) -> None:
        """End in good order: nothing new is taken up, what is being sent stops before its next instance."""
        self._settle_by = time.monotonic() + self.settings.settle.total_seconds()
        self._stopping.set()
        self._wake.set()
        for control in self._running.values():
            control.stop.set()

    async def run(self) -> None:
        """Work until `stop`; return when everything that was under way is settled, or cannot be in time.

        A fault of ours in a loop is raised, and ends the others in the same order: they would go on without it.
        """
        try:
            await until_stopped(self._loops(), self._stopping, within_s=LAST_STEP_S)
        finally:
            if not self._stopping.is_set():
                self.stop()
            await self._settle()

    async def _settle(self) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=max(0.0, self._settle_by - time.monotonic()))
        for unsettled in self._running:
            unsettled.cancel()
        with contextlib.suppress(StorageError, TimeoutError):
            # Its sign of life runs out by itself.
            async with asyncio.timeout(FORGET_S):
                await upkeep.forget_worker(self.db, self.settings.worker)
                await self._export.end()
        self._executor.shutdown(wait=False)
        self._probers.shutdown(wait=False)
        self._verifiers.shutdown(wait=False)

    async def _loops(self) -> None:
        await self._again_until_done(self._see)
        loops = [
            self._loop(self._take_up, POLL_S, wake=self._wake),
            self._loop(self._close, CLOSE_S),
            self._loop(self._keep_up, UPKEEP_S),
            self._loop(self._probe, PROBE_S),
            self._loop(self._verify, POLL_S),
            self._loop(self._index_released, RELEASE_S),
            self._loop(self._reword, REWORD_S),
            self._loop(self._see, min(self.settings.heartbeat, _SEE).total_seconds()),
            self._loop(self._look_at_blobs, LOOK_AT_BLOBS_S),
            self._loop(self._export.step, EXPORT_S),
            self._loop(self._look_at_identity, LOOK_AT_IDENTITY_S),
        ]
        if self.settings.retains:
            loops.append(self._loop(self._retain, RETAIN_S))
        await asyncio.gather(*loops)

    async def _loop(
        self, step: Callable[[], Awaitable[object]], pause_s: float, *, wake: asyncio.Event | None = None
    ) -> None:
        """Do ``step`` again and again; database trouble is waited out. ``wake`` ends a pause early."""
        signal = wake or self._stopping
        while not self._stopping.is_set():
            await self._again_until_done(step)
            if wake is not None:
                wake.clear()
            await _pause(signal, pause_s)

    async def _again_until_done(self, step: Callable[[], Awaitable[object]]) -> None:
        while not self._stopping.is_set():
            try:
                await step()
            except StorageError as error:
                self._note_away(step, error)
                await _pause(self._stopping, RETRY_S)
                continue
            self._note_back(step)
            return

    def _note_away(self, step: object, error: StorageError) -> None:
        self._troubles[step] = error.message
        if self._away_since is None and not isinstance(error, SerializationConflict):
            self._away_since = time.monotonic()
            self.metrics.is_database_away.set(1)
            log(DATABASE_AWAY, error=error.message, retry_s=RETRY_S)

    def _note_back(self, step: object) -> None:
        self._troubles.pop(step, None)
        if self._away_since is not None and not self._troubles:
            log(DATABASE_BACK, away_s=round(time.monotonic() - self._away_since, 1))
            self._away_since = None
            self.metrics.is_database_away.set(0)

    async def _look_at_blobs(self) -> None:
        """Say what is wrong with the images' store, also while nothing is to be sent."""
        trouble = await asyncio.to_thread(self._env.blobs.trouble)
        known, self._blobs_trouble = self._blobs_trouble, trouble
        if trouble and trouble != known:
            log(BUCKET_AWAY, error=trouble)
        elif known and not trouble:
            log(BUCKET_BACK)

    async def _look_at_identity(self) -> None:
        expires_at = await asyncio.to_thread(identity_expires_at, self.settings.secrets)
        self.metrics.identified(expires_at)

    async def _see(self) -> None:
        await self.clock.look(self.db)
        now = self.clock.now()
        await upkeep.see_worker(self.db, self.settings.worker, len(self._running), now=now)
        if brought := await pushing.bring_back(self.db, self.settings.lease, now=now):
            log(CLOCK_SET_BACK, times=brought)
        self.metrics.troubled(await breakers.in_trouble(self.db))
        self.metrics.operations_failed.set(await operations.failed_since(self.db, now - _TOLD))

    async def _take_up(self) -> None:
        """Claim until there is nothing more, or no thread is free."""
        self._beat = time.monotonic()
        while self._has_room() and not self._stopping.is_set():
            asked = time.monotonic()
            leaped, lease = self._leaped(), self.settings.lease + self._claiming
            now = self.clock.now() - leaped
            claim = await pushing.claim(self.db, self.settings.worker, lease + leaped, now=now)
            if claim is None:
                return
            self._claiming = min(timedelta(seconds=time.monotonic() - asked), 4 * self.settings.lease)
            control = Control(lease_until=asked + lease.total_seconds())
            if self._stopping.is_set():
                control.stop.set()
            task = asyncio.create_task(self._deliver(claim, control))
            self._running[task] = control
            task.add_done_callback(self._done)

    def _has_room(self) -> bool:
        """Whether another push may begin: peers that do not answer take no place from those that do."""
        stalled = min(sum(c.is_stalled() for c in self._running.values()), STALLED)
        return len(self._running) - stalled < self.settings.pushes

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._wake.set()
        if not task.cancelled() and task.exception() is not None:
            # A fault of ours: the lease runs out, and the reaper returns the work. The loops go on.
            asyncio.get_running_loop().call_exception_handler(
                {"message": "delivery ended by a fault", "exception": task.exception()}
            )

    async def _deliver(self, claim: Claim, control: Control) -> None:
        try:
            peer = self._peer(await persist(lambda: self._entity(claim.ae)))
        except InvalidInput as error:
            ending = Ending(f"{error.code}: {error.message}")
            with contextlib.suppress(SlotLost):
                await persist(lambda: pushing.settle(self.db, claim, ending, self._env.moment()))
            return
        await deliver(self._env, claim, peer, control)

    async def _entity(self, ae: str) -> ApplicationEntity:
        """Return the AE as it is configured now. Raises InvalidInput when it was removed a moment ago."""
        self._configuration = await load_configuration(self.db, self._configuration)
        entity = self._configuration.entities.get(parse_resource_key(ae))
        if entity is None:
            raise InvalidInput(f"the Application Entity {ae} is not configured any more")
        return entity

    def _peer(self, entity: ApplicationEntity) -> PeerAddress:
        title = entity.push.calling_title or self.settings.calling_title
        tls = client_context(self.settings.secrets, entity.push.tls) if entity.push.tls else None
        return PeerAddress(entity, title.value, tls)

    def _leaped(self) -> timedelta:
        """Return by how much the clock has just leaped ahead: others are given a lease's time to see that, too."""
        return self.clock.leaped(self.settings.lease)

    async def _close(self) -> None:
        """Close what is due; not just after a leap, before the indexers could say how far they are by the new time."""
        if self._leaped():
            return
        closed = await close_due(self.db, now=self.clock.now(), configuration=self._configuration)
        for close in closed:
            self.metrics.closed.labels(close.outcome).inc()
        if closed:
            self._wake.set()

    async def _keep_up(self) -> None:
        """Promote retries that are due and take back what lost workers held."""
        now = self.clock.now()
        slots, deliveries = await pushing.reap(self.db, now=now - self._leaped())
        if deliveries:
            self.metrics.returned.inc(deliveries)
            log(WORK_RETURNED, slots=slots, deliveries=deliveries)
        if await pushing.promote(self.db, now=now) or deliveries or slots:
            self._wake.set()
        await pushing.pack_counts(self.db, now=now)

    async def _retain(self) -> None:
        """Remove what may go by age; what a disk does not let go waits for the next time."""
        if self.clock.stepped > _DOUBTFUL:
            days = round(self.clock.stepped / timedelta(days=1))
            doubt = f"the database's clock went ahead by {days} days at once: set it right, or start anew if it is"
            log(RETENTION_FAILED, error=doubt)
            return
        try:
            await retain_and_report(
                self.db, self.settings.data, now=self.clock.now(), is_stopped=self._stopping.is_set
            )
        except AegateError:
            raise
        except Exception as fault:  # housekeeping: a fault in it must not keep images from going out
            log(RETENTION_FAILED, error=fault_text(fault))

    async def _probe(self) -> None:
        """Probe what is due, several at once: one that does not answer keeps no other waiting, nor the end of us."""
        due: list[Probe] = []
        while len(due) < PROBES and not self._stopping.is_set():
            taken = await pushing.take_probe(self.db, now=self.clock.now())
            if taken is None:
                break
            due.append(taken)
        if not due:
            return
        asking = asyncio.gather(*map(self._probe_one, due), return_exceptions=True)
        stopping = asyncio.ensure_future(self._stopping.wait())
        first: set[asyncio.Future[list[BaseException | None]] | asyncio.Future[Literal[True]]] = {
            asking,
            stopping,
        }
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not asking.done():
            asking.cancel()  # due again when their patience is over
            return
        for outcome in asking.result():
            if outcome is not None:
                raise outcome

    async def _probe_one(self, due: Probe) -> None:
        """Probe a destination; an answer permits one trial delivery."""
        answer = await self._ask(due)
        after = await pushing.finish_probe(
            self.db, due, answer.error, self._env.moment(), rejected=answer.rejected
        )
        self.metrics.probes.labels(due.ae, "ok" if answer.error is None else "failed").inc()
        if answer.error is None:
            self._wake.set()
            return
        log(PROBE_FAILED, destination=due.ae, reason=answer.error, next_probe=str(after.next_probe_at))

    async def _verify(self) -> None:
        """Ask receivers about which somebody waits for an answer; they come before everything else."""
        while not self._stopping.is_set() and len(self._verifying) < PROBES:
            taken = await verifying.take(self.db, self.settings.worker, now=self.clock.now())
            if taken is None:
                return
            task = asyncio.create_task(self._verify_one(taken))
            self._verifying.add(task)
            task.add_done_callback(self._verifying.discard)

    async def _verify_one(self, taken: verifying.Verification) -> None:
        answer = await in_any_case(taken.ae, self._asked_now(taken.ae))
        with contextlib.suppress(StorageError):  # whoever waits hears of the time that is over
            await verifying.finish(self.db, taken.id, answer)

    async def _asked_now(self, ae: str) -> dict[str, object]:
        peer = self._peer(await self._entity(ae))
        return await asyncio.get_running_loop().run_in_executor(self._verifiers, verify, peer)

    async def _index_released(self) -> None:
        """Take what people released from quarantine into the index."""
        try:
            while not self._stopping.is_set():
                self._configuration = await load_configuration(self.db, self._configuration)
                if not await index_released(
                    self.db,
                    self._env.blobs,
                    self._configuration,
                    lease=self.settings.lease,
                    now=self.clock.now(),
                ):
                    return
        except AegateError:
            raise
        except (
            Exception
        ) as fault:  # one object's fault must not keep others from going out; its tries are counted
            log(QUARANTINE_FAILED, error=fault_text(fault))

    async def _reword(self) -> None:
        """Make search texts of older rules anew."""
        while not self._stopping.is_set() and await reword(self.db):
            await _pause(self._stopping, REWORD_PAUSE_S)

    async def _ask(self, due: Probe) -> ProbeAnswer:
        try:
            peer = self._peer(await self._entity(due.ae))
        except InvalidInput as error:
            return ProbeAnswer(f"{error.code}: {error.message}")
        return await asyncio.get_running_loop().run_in_executor(self._probers, probe, peer)


async def _pause(signal: asyncio.Event, seconds: float) -> None:
    """Sleep, or until ``signal`` is set."""
    try:
        async with asyncio.timeout(seconds):
            await signal.wait()
    except TimeoutError:
        return
