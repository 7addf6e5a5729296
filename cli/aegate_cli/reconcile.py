"""Make the machine what the folder says: read, decide, write the projection, then the listeners, then how they are.

One task, one loop: whatever wakes it (a file, a process, a clock), it does the same steps; repeating does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime

from aegate_cli.folder import Desired, FolderMemory, read_folder, secret_names
from aegate_cli.installation import Installation
from aegate_cli.listeners import Listeners
from aegate_cli.watching import folder_changes
from aegate_core.database import Database
from aegate_core.disk import storage_error
from aegate_core.errors import DatabaseUnavailable, SerializationConflict, StorageError
from aegate_core.events import (
    DATABASE_AWAY,
    DATABASE_BACK,
    FOLDER_KEPT,
    FOLDER_WAITS,
    RESOURCE_REFUSED,
    Log,
)
from aegate_core.resources.crds import load_crds
from aegate_core.resources.locations import FILE_NAME
from aegate_core.resources.locations import read_locations as read_locations_file
from aegate_core.resources.problems import Problem
from aegate_core.resources.validation import ValidationResult
from aegate_core.resources.values import ApplicationEntity, Resource
from aegate_core.services.entities import Configuration, Observed, apply_configuration, load_configuration
from aegate_core.services.locations import import_locations
from aegate_core.stores.index.freshness import seen

SOON_S = 1.0
"""How long until the next look when something waits: an absence, a busy port."""
LOOK_AGAIN_S = 30.0
"""The same when nothing does: locations are edited in the database by others."""
DATABASE_RETRY_S = 2.0

log = Log("up")


class Reconciler:
    """Holds what is in force and what was read last; `run` keeps both together."""

    def __init__(self, installation: Installation, db: Database, listeners: Listeners) -> None:
        self._installation = installation
        self._db = db
        self._listeners = listeners
        self._crds = load_crds()
        self._memory = FolderMemory()
        self._configuration = Configuration()
        self._read = ValidationResult()
        self._is_stale = True
        self._reported: tuple[Problem, ...] = ()
        self._applied: tuple[Desired, Observed] | None = None
        self._applied_at = 0.0
        self._wake = asyncio.Event()
        self._away_since: float | None = None
        self._waits_for = ""

    @property
    def configuration(self) -> Configuration:
        """What is in force."""
        return self._configuration

    def wake(self) -> None:
        """Look again soon: a process changed."""
        self._wake.set()

    async def start(self) -> ValidationResult:
        """Load what is in force, read the folder and apply it; return what was read. Raises DatabaseUnavailable."""
        self._configuration = await load_configuration(self._db)
        await self._step()
        return self._read

    async def run(self, stop: asyncio.Event) -> None:
        """Keep to the folder until ``stop`` is set. A database that is away is waited for; listeners go on."""
        watching = asyncio.create_task(self._watch(stop))
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                delay_s = await self._step_or_wait()
                waking = asyncio.create_task(self._wake.wait())
                await asyncio.wait({waking, stopping}, timeout=delay_s, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
                self._wake.clear()
        finally:
            stopping.cancel()
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _watch(self, stop: asyncio.Event) -> None:
        async for _ in folder_changes(self._installation.folder, stop):
            self._is_stale = True
            self._wake.set()

    async def _step_or_wait(self) -> float:
        try:
            waits = await self._step()
        except (DatabaseUnavailable, SerializationConflict) as error:
            if self._away_since is None:
                self._away_since = time.monotonic()
                log(DATABASE_AWAY, error=error.message, retry_s=DATABASE_RETRY_S)
            self._applied, self._is_stale = None, True
            return DATABASE_RETRY_S
        except OSError as error:
            return self._wait_after(
                storage_error("data folder and folder of resources must be usable", error)
            )
        except StorageError as error:
            return self._wait_after(error)
        self._waits_for = ""
        if self._away_since is not None:
            log(DATABASE_BACK, away_s=round(time.monotonic() - self._away_since, 1))
            self._away_since = None
        return SOON_S if waits else LOOK_AGAIN_S

    def _wait_after(self, error: StorageError) -> float:
        """Say once what is wrong. A full disk, above all: the listeners answer that themselves, what runs goes on."""
        if self._waits_for != error.message:
            self._waits_for = error.message
            log(FOLDER_WAITS, error=error.message, code=error.code, retry_s=DATABASE_RETRY_S)
        self._applied, self._is_stale = None, True
        return DATABASE_RETRY_S

    async def _step(self) -> bool:
        """Do all steps once; True when something waits for the clock."""
        if self._is_stale:
            self._is_stale = False
            self._read = await asyncio.to_thread(
                read_folder, self._installation.folder, self._in_force(), self._crds
            )
            await self._import_locations()
        desired = self._memory.decide(self._read, self._in_force(), now=datetime.now(UTC))
        self._report(desired)
        await self._apply(desired)
        self._listeners.apply(self._configuration.accepted_entities)
        await self._apply(desired)
        return bool(desired.absent) or self._listeners.is_blocked

    def _in_force(self) -> list[Resource]:
        now = self._configuration
        return [*now.entities.values(), *now.routes.values(), *now.partitions.values()]

    async def _apply(self, desired: Desired) -> None:
        """Write projections and conditions, when the folder or what was observed around it has changed."""
        entities = [r for r in desired.resources if isinstance(r, ApplicationEntity)]
        observed = Observed(
            secrets=secret_names(self._installation.secrets),
            listener_troubles=self._listeners.troubles(entities),
            endpoints=self._listeners.endpoints(),
        )
        is_due = time.monotonic() - self._applied_at > LOOK_AGAIN_S
        if (desired, observed) == self._applied and not is_due:
            return
        await apply_configuration(
            self._db,
            desired.resources,
            source_errors=desired.source_errors,
            observed=observed,
            now=datetime.now(UTC),
        )
        async with self._db.transaction() as tx:
            await seen(tx, (), resync_s=int(LOOK_AGAIN_S), now=datetime.now(UTC))
        self._applied, self._applied_at = (desired, observed), time.monotonic()
        self._configuration = await load_configuration(self._db, self._configuration)

    async def _import_locations(self) -> None:
        path = self._installation.folder / FILE_NAME
        if not path.exists():
            return
        file = await asyncio.to_thread(read_locations_file, path)
        for problem in file.problems:
            log_problem(problem)
        if not file.problems:
            await import_locations(self._db, file.locations)

    def _report(self, desired: Desired) -> None:
        """Log what is wrong, once."""
        if desired.problems == self._reported:
            return
        self._reported = desired.problems
        for problem in desired.problems:
            log_problem(problem)
        if desired.is_kept:
            log(FOLDER_KEPT, path=str(self._installation.folder), resources=len(desired.resources))


def log_problem(problem: Problem) -> None:
    """Log one problem with file and line."""
    log(
        RESOURCE_REFUSED,
        file=problem.file,
        line=problem.line,
        field=problem.field,
        error=f"{problem.resource}: {problem.message}" if problem.resource else problem.message,
    )
