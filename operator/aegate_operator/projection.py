"""The rows that workers and API read, kept as the cluster is: by the same service that the local assembly uses.

Many changes become one write. While the database is away the cluster is looked after all the same, and the rows
follow. What was deleted while no operator ran is not in the first lists: it leaves the database with the first write.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from aegate_core.database import Database
from aegate_core.decisions.references import Surroundings, conditions_of
from aegate_core.errors import SchemaMismatch, StorageError
from aegate_core.events import DATABASE_AWAY, DATABASE_BACK, Log
from aegate_core.resources.reference import ResourceRef
from aegate_core.services.entities import Observed, apply_configuration, apply_some
from aegate_core.stores.index.freshness import seen
from aegate_core.stores.index.projections import newest_change, read_locations
from aegate_operator.declared import Declared
from aegate_operator.reconcile import Outcomes
from aegate_operator.resync import INTERVAL_S

QUIET_S = 0.5
"""How long to wait for more before a write."""
LOOK_S = 30.0
"""How often locations are read that others edit: an unknown one is known within a minute."""
RETRY_S = 2.0
LONGEST_RETRY_S = 30.0
SHARE = 9.0
"""A write that took a second is followed by the next after that many: it looks at all rows. Never later than a look."""
EDITED_S = 0.2
"""How often, between two writes, the rows of what somebody has changed are brought up by themselves: who changed an AE
looks for it within a second."""
TICKS = 20
"""So often at most in a pause: whoever reads the rows reads all of them then."""
MOST_EDITED = 5
"""Of them at once: people change a few. Hundreds follow with the next write, which is cheaper for each."""

log = Log("operator")


@dataclass(frozen=True, slots=True)
class ProjectionTimes:
    """When rows are written; a test makes them short."""

    quiet_s: float = QUIET_S
    edited_s: float = EDITED_S
    ticks: int = TICKS
    look_s: float = LOOK_S
    retry_s: float = RETRY_S
    resync_s: int = int(INTERVAL_S)

    def pause_s(self, took_s: float) -> float:
        """Return how long after a write that took so long the rows are left alone, whatever changes meanwhile."""
        return max(self.quiet_s, min(self.look_s, took_s * SHARE))

    def tick_s(self, pause_s: float) -> float:
        """Return how often during such a pause a few are written all the same."""
        return max(self.edited_s, pause_s / self.ticks)


class Projection:
    """Writes the rows; `mark` says that they may differ."""

    def __init__(
        self,
        db: Database,
        declared: Declared,
        outcomes: Outcomes,
        *,
        times: ProjectionTimes,
        locations_changed: Callable[[], None],
    ) -> None:
        self._db = db
        self._declared = declared
        self._outcomes = outcomes
        self._times = times
        self._locations_changed = locations_changed
        self._marked = asyncio.Event()
        self._edited: set[ResourceRef] = set()
        """Changed or removed by somebody, and not looked at yet as it is now."""
        self._due: set[ResourceRef] = set()
        """Looked at since: it is known what may be said of them."""
        self._failures = 0
        self._has_written = False
        self._is_compared = True
        self._left = ""
        """The version of the rows as the last write left them."""
        self._away_since: float | None = None

    @property
    def is_away(self) -> bool:
        """Whether the database did not answer when it was asked last."""
        return self._away_since is not None

    @property
    def is_current(self) -> bool:
        """Whether the rows say what is known."""
        return self._has_written and not self._marked.is_set()

    def mark(self) -> None:
        """Say that rows may differ from the cluster."""
        self._marked.set()

    def edited(self, ref: ResourceRef) -> None:
        """Say that somebody changed or removed a resource."""
        self._edited.add(ref)
        self._marked.set()

    def looked_at(self, ref: ResourceRef) -> None:
        """Say that a resource was looked at, and all that it needs done; it may be another again by now."""
        if ref in self._edited and (self._declared.is_right(ref) or not self._declared.is_known(ref)):
            self._edited.discard(ref)
            self._due.add(ref)

    def compared(self) -> None:
        """Say that all of the cluster was listed just now: once they are written, the rows are as current as that."""
        self._is_compared = True
        self._marked.set()

    async def prepare(self) -> None:
        """Read what conditions need of the database, if it is there: a restart says nothing else than before."""
        with contextlib.suppress(StorageError):
            await self._look()

    async def run(self) -> None:
        """Keep the rows as the cluster is, until cancelled."""
        self._marked.set()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._times.look_s):
                    await self._marked.wait()
            is_marked = self._marked.is_set()
            self._marked.clear()
            self._due.clear()
            began = time.monotonic()
            try:
                await self._look()
                if is_marked or await self._is_others():
                    await self._write()
            except StorageError as error:
                await self._wait_for_it(error)
                continue
            self._is_there()
            await self._rest(self._times.pause_s(time.monotonic() - began))

    async def _rest(self, pause_s: float) -> None:
        """Leave the rows alone for so long, but for those of the few resources that somebody has changed meanwhile."""
        end_s, tick_s = time.monotonic() + pause_s, self._times.tick_s(pause_s)
        while (left_s := end_s - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, tick_s))
            if not self._due or self._declared.wrong():
                continue  # what is judged beside a last good version only the write of all knows
            due, self._due = self._due, set()
            if len(due) <= MOST_EDITED:
                with contextlib.suppress(StorageError):  # the next write, of all, says so
                    await self._write_some(due)

    async def _write_some(self, due: Collection[ResourceRef]) -> None:
        declared = self._declared
        changed = {
            ref: declared.get(ref) for ref in due if declared.is_right(ref) or not declared.is_known(ref)
        }
        live = {ref: resource for ref, resource in changed.items() if resource is not None}
        surroundings = self._outcomes.surroundings([ref.key for ref in live])
        decided = {ref: conditions_of(one, declared.neighbours, surroundings) for ref, one in live.items()}
        if changed:
            observed = self._observed(surroundings)
            await apply_some(self._db, changed, decided, observed=observed, now=datetime.now(UTC))

    async def _look(self) -> None:
        locations = await read_locations(self._db)
        if locations != self._outcomes.locations:
            self._outcomes.locations = locations
            self._locations_changed()

    async def _is_others(self) -> bool:
        """Say whether somebody else wrote: a release that left a namespace may have taken with it what is ours."""
        return self._has_written and await newest_change(self._db) != self._left

    async def _write(self) -> None:
        applied = await apply_configuration(
            self._db,
            self._declared.right(),
            source_errors=self._declared.wrong(),
            observed=self._observed(self._outcomes.surroundings()),
            now=datetime.now(UTC),
        )
        if self._is_compared:
            async with self._db.transaction() as tx:
                await seen(
                    tx, self._declared.namespaces, resync_s=self._times.resync_s, now=datetime.now(UTC)
                )
            self._is_compared = False
        self._has_written, self._left = True, applied.version

    def _observed(self, said: Surroundings) -> Observed:
        return Observed(
            listener_troubles=said.listener_troubles,
            unresolved=said.unresolved,
            progress=said.progress,
            remarks=said.remarks,
            accepted=self._declared.neighbours.accepted,
            endpoints=dict(self._outcomes.endpoints),
            namespaces=self._declared.namespaces,
            projector=self._declared.release,
            takes_over=not self._has_written,
        )

    async def _wait_for_it(self, error: StorageError) -> None:
        """Say it once, and try again: sooner or later also with a schema that a migration has still to bring."""
        self._marked.set()
        delay_s = min(LONGEST_RETRY_S, self._times.retry_s * 2.0 ** min(self._failures, 8))
        self._failures += 1
        if self._away_since is None:
            self._away_since = time.monotonic()
            code = f" ({error.code})" if isinstance(error, SchemaMismatch) else ""
            log(DATABASE_AWAY, error=error.message + code, retry_s=delay_s)
        await asyncio.sleep(delay_s)

    def _is_there(self) -> None:
        self._failures = 0
        if self._away_since is not None:
            log(DATABASE_BACK, away_s=round(time.monotonic() - self._away_since, 1))
            self._away_since = None
