"""The work of an indexer: look, index in batches, say how far it is; and go on when the database comes back.

What it says (`stores.index.progress`) is a promise to whoever closes studies: all that lay in the spool at
``scanned_at`` is indexed, or stands in the backlog that is written with it. So a backlog larger than a batch is
written *before* its first batch is committed.

Times are the database's (`DatabaseClock`): closes go by them. What a listener's clock says counts only within what is
known from our own looks: an arrival came after the look that found the spool empty, and not later than now.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path

from aegate_core.database import Database, DatabaseClock
from aegate_core.disk import storage_error
from aegate_core.errors import AegateError, DatabaseUnavailable, SerializationConflict
from aegate_core.events import (
    ARRIVAL_LEFT,
    BATCH_INDEXED,
    DATABASE_AWAY,
    DATABASE_BACK,
    INDEX_FAILED,
    SPOOL_SWEPT,
    Log,
    fault_text,
)
from aegate_core.services.associations import take_up
from aegate_core.services.entities import Configuration, load_configuration
from aegate_core.services.intake import BatchResult, index_batch
from aegate_core.services.ownership import must_be_ours
from aegate_core.services.studies import open_dues
from aegate_core.settings import DataFolder
from aegate_core.stopping import until_stopped
from aegate_core.stores.blobs import open_blobs
from aegate_core.stores.index.progress import (
    Progress,
    Waiting,
    forget_progress,
    indexers_of,
    write_progress,
)
from aegate_core.stores.spool import SpooledArrival, clear, is_dead, scan, sweep
from aegate_scp.indexer.duty import Duty
from aegate_scp.indexer.metrics import IndexerMetrics
from aegate_scp.indexer.spool_watch import LOOK_EVERY_S, SpoolWatch, survey

BATCH = 256
BATCH_BYTES = 512 << 20
"""All of it is read for the digest: ten seconds of a slow disk."""
AT_ONCE = 16 * BATCH
LOOK_AGAIN_S = 5.0
"""Taken from the spool before it is looked at again: so many arrivals, or for so long; by feel."""

SAY_OFTEN_S = 1.0
"""While units are open: they close no later than that after they are due."""
SAY_SELDOM_S = 10.0
SWEEP_EVERY_S = 300.0
OTHERS_EVERY_S = 15.0
LOOK_AT_CLOCK_S = 5.0
"""So much later than everybody else an indexer sees a step of the database's clock."""
FIRST_RETRY_S, LONGEST_RETRY_S = 0.25, 10.0
FIRST_STUCK_S, LONGEST_STUCK_S = 1.0, 300.0
"""What cannot be read is tried again after a second, then ever more seldom: a disk may take long over a bad sector."""
STARVED = 3
"""So often in a row memory may be short before only a new process helps; once may be due to the object."""
LAST_TURN_S = 15.0
"""How long the batch at hand may take after a stop; well within the grace period. What is cut short is done again."""
LOG_EVERY_S = 1.0

_EXPECTED = "spool must be readable and writable"

log = Log("indexer")


@dataclass(slots=True)
class _Tally:
    """Results that are not logged yet: one line a second under load, not twenty."""

    results: list[BatchResult] = field(default_factory=list)
    seconds: float = 0.0
    since: float = field(default_factory=time.monotonic)

    def flush(self) -> None:
        """Log what was gathered."""
        if sum(r.arrivals for r in self.results):
            log(
                BATCH_INDEXED,
                arrivals=sum(r.arrivals for r in self.results),
                new=sum(r.new for r in self.results),
                duplicates=sum(r.duplicates for r in self.results),
                conflicts=sum(r.conflicts for r in self.results),
                quarantined=sum(r.quarantined for r in self.results),
                seconds=round(self.seconds, 3),
            )
        self.results, self.seconds, self.since = [], 0.0, time.monotonic()


class Indexer:
    """Index what comes into the spool of ``data``, until `stop`."""

    def __init__(
        self,
        db: Database,
        data: DataFolder,
        duty: Duty,
        *,
        metrics: IndexerMetrics,
        say: Callable[[str], None],
    ) -> None:
        self._db = db
        self._spool: Path = data.spool
        self._blobs = open_blobs(data, moved=self._note_moved)
        self._is_store_ours = False
        """Looked at once: a mark does not change under those who use the store."""
        self._duty = duty
        self._metrics = metrics
        self._say = say
        self._watch = SpoolWatch(data.spool)
        self._stopping = asyncio.Event()
        self._configuration: Configuration | None = None
        self._stuck: set[str] = set()
        self._told: set[str] = set()
        """What was stuck at the last try: it is said once."""
        self._stuck_s = 0.0
        self._try_stuck_at = 0.0
        self._starved = 0
        self._clock = DatabaseClock()
        self._empty_at: datetime | None = None
        """The last look that found nothing in the spool."""
        self._say_again_at: float | None = None
        self._is_busy_time = True
        self._is_resting = False
        """Nothing of its AE waits and nothing is open: it says so to nobody, and needs no database."""
        self._others_looked_at: float | None = None
        self._swept_at: float | None = None
        self._away_since: float | None = None
        self._retry_s = 0.0
        self._tally = _Tally()
        self.is_done = False
        """Whether `run` returned because nothing is left."""
        self.looked_at = time.monotonic()
        """When it last looked into the spool, or a batch got on; what liveness is judged by."""

    def _note_moved(self) -> None:
        """A batch that takes long gets on: an object of 2 GiB may go to a bucket for minutes."""
        self.looked_at = time.monotonic()

    def stop(self) -> None:
        """Let `run` return after the batch at hand."""
        self._stopping.set()
        self._watch.wake()

    async def run(self) -> None:
        """Work until `stop`. Raises StorageError when there can be no spool."""
        try:
            await asyncio.to_thread(self._spool.mkdir, parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(_EXPECTED, error, self._spool.parent) from error
        watching = asyncio.create_task(self._watch.run())
        try:
            await until_stopped(self._turns(), self._stopping, within_s=LAST_TURN_S)
        finally:
            self._tally.flush()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _turns(self) -> None:
        while not self._stopping.is_set():
            await self._turn()
        with contextlib.suppress(AegateError, OSError):
            await self._say_farewell()

    async def _turn(self) -> None:
        """Look once, index what is there, and wait for more."""
        try:
            is_more = await self._look()
            await take_up(self._db, self._spool, self._takes, self._configuration)
            if not is_more and self._duty.is_until_empty and await self._is_done():
                self.is_done = True
                self._stopping.set()
        except AegateError as error:
            await self._wait_after(error)
            return
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise  # only a new process helps
            await self._wait_after(storage_error(_EXPECTED, error, self._spool))
            return
        self._recovered()
        if not is_more and not self._stopping.is_set():
            self._tally.flush()
            await self._watch.wait(LOOK_EVERY_S if not self._is_busy_time else SAY_OFTEN_S)

    async def _look(self) -> bool:
        """Index what lies in the spool; return whether to look again at once."""
        await self._sweep_sometimes()
        began = self.looked_at = time.monotonic()
        waiting = await asyncio.to_thread(survey, self._spool, without=frozenset(self._stuck))
        self._metrics.show_waiting(waiting)
        self._metrics.scanned_at.set_to_current_time()
        if not waiting and self._needs_no_database():
            self._empty_at = self._clock.at(began)
            return False
        if not waiting and not self._stuck and self._duty.is_until_empty:
            return False
        self._is_resting = False
        total = await asyncio.to_thread(self._count_ours, waiting)
        await self._clock.look_again(self._db, LOOK_AT_CLOCK_S if self._clock.is_set else 0.0)
        scanned_at = self._clock.at(began)
        await self._say_progress(scanned_at, _until(scanned_at, waiting), at_once=total > BATCH)
        total += self._release_stuck()
        if total:
            return await self._index(total)
        if not self._stuck:
            self._empty_at = scanned_at
        return False

    def _needs_no_database(self) -> bool:
        """Say whether, of one AE alone, nothing is to be said now: its connection may be another's meanwhile."""
        is_early = self._say_again_at is not None and self.looked_at < self._say_again_at
        return self._duty.ae is not None and not self._stuck and (self._is_resting or is_early)

    def _count_ours(self, waiting: Mapping[str, Waiting]) -> int:
        if waiting and self._duty.spool_process:
            waiting = survey(self._spool, without=frozenset(self._stuck), ours=self._takes)
        return sum(w.arrivals for w in waiting.values())

    def _takes(self, process: str) -> bool:
        return self._duty.takes(self._spool, process)

    async def _index(self, total: int) -> bool:
        """Index up to `AT_ONCE` arrivals; return whether that got anywhere."""
        if not self._is_store_ours:
            await must_be_ours(self._db, self._blobs)
            self._is_store_ours = True
        self._configuration = await load_configuration(self._db, self._configuration)
        taken = await asyncio.to_thread(self._take, min(total, AT_ONCE))
        look_again = time.monotonic() + LOOK_AGAIN_S
        indexed = 0
        for batch in batches(taken):
            began = self.looked_at = time.monotonic()
            result = await self._index_batch(batch)
            self._count(result, time.monotonic() - began)
            indexed += len(batch) - len(result.left)
            self._starved = 0 if indexed else self._starved
            self._is_busy_time = True
            if self._stopping.is_set() or time.monotonic() > look_again:
                break
        self._metrics.unreadable.set(len(self._stuck))
        if self._say_again_at is not None:  # what came may be due sooner than what was open before
            self._say_again_at = min(self._say_again_at, self.looked_at + SAY_OFTEN_S)
        return indexed > 0

    async def _index_batch(self, batch: Sequence[SpooledArrival]) -> BatchResult:
        """Index a batch; where something unforeseen happens one by one, and what is at fault stays in the spool.

        Raises what happened when it happens to every one of several: no object is at fault then.
        """
        try:
            return await index_batch(
                self._db, self._blobs, batch, now=self._clock.now(), configuration=self._configuration
            )
        except (AegateError, OSError):
            raise
        except Exception as fault:  # a fault over one object must not keep all others out of the index
            self._starved = self._starved + 1 if isinstance(fault, MemoryError) else 0
            if self._starved == STARVED:
                raise
            if len(batch) == 1:
                log(ARRIVAL_LEFT, arrival=batch[0].side.arrival_id, error=fault_text(fault))
                return BatchResult(left=(batch[0].side.arrival_id,))
            result = BatchResult()
            for arrival in batch:
                result += await self._index_batch([arrival])
            if len(result.left) == len(batch):
                raise
            return result

    def _take(self, count: int) -> list[SpooledArrival]:
        """Return arrivals out of the spool; what cannot be read is passed over until it is looked at again."""
        stuck: set[str] = set()

        def leave(path: Path, reason: str) -> None:
            if path.stem not in self._stuck:
                stuck.add(path.stem)
            if path.stem not in self._stuck | self._told:
                log(ARRIVAL_LEFT, arrival=path.stem, error=f"its side record cannot be read ({reason})")

        found = scan(self._spool, unreadable=leave, ours=self._takes)
        taken = list(islice((self._timed(a) for a in found if a.side.arrival_id not in self._stuck), count))
        self._leave(stuck)
        return taken

    def _timed(self, arrival: SpooledArrival) -> SpooledArrival:
        """Return the arrival with a time at which it can have come; a listener's clock may be an hour off."""
        now, said = self._clock.now(), arrival.side.received_at
        came = min(max(said, self._empty_at or said), now)
        return arrival if came == said else replace(arrival, side=replace(arrival.side, received_at=came))

    def _leave(self, arrivals: set[str]) -> None:
        """Pass over what cannot be read, for a while."""
        if arrivals and not self._stuck:
            self._stuck_s = min(max(FIRST_STUCK_S, 2 * self._stuck_s), LONGEST_STUCK_S)
            self._try_stuck_at = time.monotonic() + self._stuck_s
        self._stuck |= arrivals

    def _release_stuck(self) -> int:
        """Give what could not be read another try when its time has come; return how many that are.

        They hold up no study meanwhile: only what is said to wait does, and that was said before.
        """
        count = len(self._stuck)
        if not count:
            self._stuck_s = 0.0
            self._told = set()
        elif time.monotonic() >= self._try_stuck_at:
            self._stuck, self._told = set(), self._stuck
            return count
        return 0

    def _count(self, result: BatchResult, seconds: float) -> None:
        self._metrics.count(result, seconds)
        self._leave(set(result.left))
        self._tally.results.append(result)
        self._tally.seconds += seconds
        if time.monotonic() - self._tally.since >= LOG_EVERY_S:
            self._tally.flush()

    async def _say_progress(
        self, scanned_at: datetime, waiting: dict[str, Waiting], *, at_once: bool
    ) -> None:
        """Write how far we are: before a long backlog is indexed, every second while units are open, else every ten."""
        if not at_once and self._say_again_at is not None and self.looked_at < self._say_again_at:
            return
        ae = self._duty.ae
        progress = Progress(self._duty.process, scanned_at, waiting, ae=str(ae) if ae else None)
        async with self._db.transaction() as tx:
            await write_progress(tx, progress)
        dues = await open_dues(self._db, ae)
        self._is_busy_time = bool(waiting or dues)
        self._say_again_at = self.looked_at + self._silence_s(progress, dues)
        if ae:
            await self._forget_the_dead()
        if ae and not self._is_busy_time and not self._stuck:
            await self._rest()

    def _silence_s(self, said: Progress, dues: Sequence[datetime]) -> float:
        """Return how long nobody needs another word of ours.

        Of one AE alone what is due already has our word, and nothing else closes before it is due; a quiet period that
        is shortened meanwhile waits ten seconds.
        """
        if not self._is_busy_time:
            return SAY_SELDOM_S
        if said.waiting or self._duty.ae is None:
            return SAY_OFTEN_S
        ahead_s = [(due - said.scanned_at).total_seconds() for due in dues if due > said.scanned_at]
        return min(max(min(ahead_s), SAY_OFTEN_S), SAY_SELDOM_S) if ahead_s else SAY_SELDOM_S

    async def _rest(self) -> None:
        """Take back our word: nobody has to wait for another until there is something to say."""
        async with self._db.transaction() as tx:
            await forget_progress(tx, [self._duty.process])
        self._is_resting, self._say_again_at = True, None

    async def _say_farewell(self) -> None:
        """Rest for ever: who comes next sees what lies in the spool. What is ours and still there keeps our word."""
        if self._duty.ae and not self._is_resting and self._clock.is_set:
            waiting = await asyncio.to_thread(survey, self._spool)
            if not await asyncio.to_thread(self._count_ours, waiting):
                await self._rest()

    async def _forget_the_dead(self) -> None:
        """Let nobody wait for indexers of our AE whose listener is gone: what they left is ours now."""
        if self._others_looked_at is not None and self.looked_at - self._others_looked_at < OTHERS_EVERY_S:
            return
        self._others_looked_at = self.looked_at
        others = [p for p in await indexers_of(self._db, str(self._duty.ae)) if p != self._duty.process]
        dead = [p for p in others if await asyncio.to_thread(is_dead, self._spool, p)]
        if dead:
            async with self._db.transaction() as tx:
                await forget_progress(tx, dead)

    async def _is_done(self) -> bool:
        """Say whether nothing is left, and nobody lives who could add to it; the folders are gone then.

        The word of a pool is gone then, too: nobody else takes it back, because its pods all speak under one name.
        """
        if self._stuck or not await asyncio.to_thread(clear, self._spool):
            return False
        if self._duty.ae is None:
            async with self._db.transaction() as tx:
                await forget_progress(tx, [self._duty.process])
        return True

    async def _sweep_sometimes(self) -> None:
        """Remove what dead listeners left unacknowledged."""
        now = time.monotonic()
        if self._swept_at is not None and now - self._swept_at < SWEEP_EVERY_S:
            return
        self._swept_at = now
        swept = await asyncio.to_thread(sweep, self._spool, quiet_s=self._duty.quiet_s)
        if swept.parts or swept.arrivals:
            log(SPOOL_SWEPT, spool=str(self._spool), arrivals=swept.arrivals, parts=swept.parts)

    async def _wait_after(self, error: AegateError) -> None:
        """Say what is wrong, once, and wait a little longer each time; nothing leaves the spool meanwhile."""
        self._retry_s = min(max(FIRST_RETRY_S, self._retry_s * 2), LONGEST_RETRY_S)
        if isinstance(error, SerializationConflict):
            self._retry_s = FIRST_RETRY_S  # no outage: the same again may succeed
        if isinstance(error, DatabaseUnavailable):
            if self._away_since is None:
                self._away_since = time.monotonic()
                log(DATABASE_AWAY, error=error.message, retry_s=self._retry_s)
        else:
            log(INDEX_FAILED, error=error.message, retry_s=self._retry_s)
        self._metrics.is_database_away.set(1 if self._away_since is not None else 0)
        self._say(error.message)
        self.looked_at = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._retry_s):
                await self._stopping.wait()

    def _recovered(self) -> None:
        if self._away_since is not None:
            log(DATABASE_BACK, away_s=round(time.monotonic() - self._away_since, 1))
        self._away_since, self._retry_s = None, 0.0
        self._metrics.is_database_away.set(0)
        self._say("")


def _until(now: datetime, waiting: Mapping[str, Waiting]) -> dict[str, Waiting]:
    """Return what waits; nothing of it since later than now, whatever the clock of a listener said."""
    return {ae: replace(w, oldest_received_at=min(w.oldest_received_at, now)) for ae, w in waiting.items()}


def batches(arrivals: Sequence[SpooledArrival]) -> Iterator[list[SpooledArrival]]:
    """Yield them in their order, at most `BATCH` and `BATCH_BYTES` at a time, but always one."""
    batch: list[SpooledArrival] = []
    size_bytes = 0
    for arrival in arrivals:
        if batch and (len(batch) == BATCH or size_bytes + arrival.side.size_bytes > BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(arrival)
        size_bytes += arrival.side.size_bytes
    if batch:
        yield batch
