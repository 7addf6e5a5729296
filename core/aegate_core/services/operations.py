"""Changes of many: each is asked for once, and done in batches that are one transaction each, with its audit row.

A batch does to its items what the mutation of that name does to one: the same code. Any number of processes may do
batches; the one that does is the one that holds the operation's row. Nothing is remembered outside of the database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from aegate_core.database import Database
from aegate_core.decisions.priority import bumped_rank
from aegate_core.errors import InvalidInput, NotFound, StorageError
from aegate_core.services import audit
from aegate_core.services.audit import Deed
from aegate_core.services.deliveries import Changed
from aegate_core.services.wanted import ACTIONS, Now, Wanted, act, kept_wish
from aegate_core.stores.partitions import partition_of
from aegate_core.stores.queue import operations as store
from aegate_core.stores.queue.list_items import lock_versions
from aegate_core.stores.queue.operations import Fate, Found, NewOperation, OperationRow
from aegate_core.stores.scope import ALL_ROWS, Scope

MOST = 100_000
"""Things of one operation. By feel: 200 batches, a minute or two; measure the time of a batch before raising it."""

BATCH = 500
"""Things of one batch: it holds up the workers of these items for its one transaction. By feel."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An operation that was just made, or the one that the same key made before."""

    id: int
    is_new: bool
    at_once: bool = False
    """It was done in the transaction that made it, and never waited for its batches."""


async def begin(tx: Database, wanted: Wanted, key: str | None, said: object, *, now: datetime) -> Begun:
    """Make an operation that is about nothing yet, or return the one of the same key.

    ``said`` is all that the caller said; raises InvalidInput where the key was used for something else.
    """
    fingerprint = hashlib.sha256(repr((wanted.action, wanted.arguments, said)).encode()).hexdigest()
    kind = ACTIONS[wanted.action].kind
    new = NewOperation(wanted.action, kind, wanted.actor, wanted.address, key, fingerprint, wanted.arguments)
    made = await store.insert(tx, new, now=now)
    if made is not None:
        return Begun(int(made), is_new=True)
    known = await store.by_key(tx, wanted.actor, key or "")
    if known is None or known.fingerprint != fingerprint:
        raise InvalidInput(
            "idempotencyKey must be a new one for a new wish, this one was used for another: make another key, or ask "
            "as before"
        )
    return Begun(known.id, is_new=False, at_once=known.finished_at == known.created_at)


async def about(tx: Database, operation_id: int, targets: Sequence[int]) -> int:
    """Say what an operation is about; return how many that is."""
    await store.add(tx, operation_id, targets)
    await store.seal(tx, operation_id, len(targets))
    return len(targets)


async def about_found(tx: Database, operation_id: int, found: Found, scope: Scope) -> int:
    """Say that an operation is about what a filter finds now; return how many that is."""
    total = await store.add_found(tx, operation_id, found, scope)
    await store.seal(tx, operation_id, total)
    return total


async def done_at_once(
    tx: Database, operation_id: int, ids: Sequence[int], changed: Changed, *, now: datetime
) -> None:
    """Keep what a change did that was done in the transaction that began it: its key then answers the same."""
    await about(tx, operation_id, ids)
    await store.record(tx, operation_id, _fates(list(enumerate(ids, start=1)), changed), now=now)
    await store.finish(tx, operation_id, "COMPLETED", now=now)


async def what_was_done(tx: Database, operation_id: int) -> Changed:
    """Return what a change did that was done at once."""
    fates = await store.fates_of(tx, operation_id, BATCH)
    return Changed(
        tuple(sorted(t for t, outcome, _ in fates if outcome == "CHANGED")),
        tuple(sorted(t for t, outcome, _ in fates if outcome == "ASKED")),
        {t: because or "" for t, outcome, because in fates if outcome == "LEFT"},
    )


@dataclass(frozen=True, slots=True)
class Stepped:
    """One batch that was done."""

    operation_id: int
    action: str
    state: str
    processed: int
    total: int


class _TakenBack(Exception):
    """Rolls back the batch of a dry run; carries what it would have done."""

    def __init__(self, operation: OperationRow, done: _Batch) -> None:
        super().__init__("dry run")
        self.operation = operation
        self.done = done


@dataclass(frozen=True, slots=True)
class _Batch:
    """What was done to the next things, by (place, row id)."""

    places: list[tuple[int, int]]
    changed: Changed


async def step(db: Database, *, batch: int = BATCH, taken: list[int] | None = None) -> Stepped | None:
    """Do the next batch of the operation that waited longest; None when there is nothing to do.

    Of a fault, ``taken`` tells the operation. What can never be done ends the operation as FAILED.
    """
    held: list[int] = [] if taken is None else taken

    async def work(tx: Database) -> Stepped | None:
        operation = await store.take(tx, now=await tx.time())
        if operation is None:
            return None
        held.append(operation.id)
        return await _do(tx, operation, batch)

    if not await store.any_open(db):
        return None
    try:
        return await db.atomically(work)
    except _TakenBack as dry:
        known = dry
        return await db.atomically(lambda tx: _write_down(tx, known.operation, known.done))
    except (InvalidInput, NotFound) as refusal:
        await fail(db, held[-1], refusal.code, refusal.message)
        return Stepped(held[-1], "", "FAILED", 0, 0)


FIRST_RETRY_S, LONGEST_RETRY_S = 1, 60
MOST_FAILURES = 12
"""So often in a row a batch is tried, over seven minutes: a lock or a full disk has gone by then, or needs a person."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """An operation whose batch failed: it is tried again, or has ended."""

    failures: int
    has_ended: bool


async def defer(
    db: Database, operation_id: int, error: StorageError, *, most: int = MOST_FAILURES
) -> Deferred | None:
    """Let others go first: the database does not take this one's next batch; after ``most`` times it has FAILED.

    None: it has ended meanwhile. Raises StorageError: the database takes nothing at all, which is not counted.
    """

    async def work(tx: Database) -> Deferred | None:
        operation = await store.lock(tx, operation_id)
        if operation is None:
            return None
        now, failures = await tx.time(), operation.failures + 1
        if failures >= most:
            told = f"a batch failed {failures} times, last by: {error.message}"
            await store.finish(tx, operation_id, "FAILED", now=now, because=error.code, message=told)
            return Deferred(failures, has_ended=True)
        pause = timedelta(seconds=min(FIRST_RETRY_S * 2 ** (failures - 1), LONGEST_RETRY_S))
        await store.defer(tx, operation_id, error.message, now=now, retry_at=now + pause)
        return Deferred(failures, has_ended=False)

    return await db.atomically(work)


async def fail(db: Database, operation_id: int, code: str, message: str | None = None) -> None:
    """End an operation of which nothing more can be done; what was done stays."""

    async def work(tx: Database) -> None:
        await store.finish(tx, operation_id, "FAILED", now=await tx.time(), because=code, message=message)

    await db.atomically(work)


async def _do(tx: Database, operation: OperationRow, batch: int) -> Stepped:
    """Do a batch. Raises _TakenBack where it is a dry run."""
    now = await tx.time()
    wanted = kept_wish(
        operation.action, operation.actor, operation.address, operation.id, operation.arguments
    )
    action = ACTIONS[operation.action]
    places = await store.next_targets(tx, operation, min(batch, action.most))
    ids = sorted(target for _, target in places)
    if action.kind == "QueueItem":
        ids = sorted(await lock_versions(tx, ids, ALL_ROWS))
    first = bumped_rank(operation.created_at) - operation.total + operation.processed
    changed = await act(tx, wanted, ids, Now(now, first)) if ids else Changed((), (), {})
    done = _Batch(places, changed)
    if wanted.dry_run and places:
        raise _TakenBack(operation, done)
    if places:
        deed = _deed(operation, wanted, changed)
        partition = await partition_of(tx, action.kind, ids)
        await audit.record(tx, replace(deed, partition=partition), now=now)
    return await _write_down(tx, operation, done)


async def _write_down(tx: Database, seen: OperationRow, done: _Batch) -> Stepped:
    """Write what became of the next things, unless another has written that, or ended it."""
    operation = await store.lock(tx, seen.id)
    if operation is None or operation.processed != seen.processed:
        return Stepped(seen.id, seen.action, "RUNNING", seen.processed, seen.total)
    now = await tx.time()
    if done.places:
        await store.record(tx, operation.id, _fates(done.places, done.changed), now=now)
    processed = operation.processed + len(done.places)
    state = "RUNNING"
    if not done.places or processed >= operation.total:
        state = "COMPLETED"
        await store.finish(tx, operation.id, state, now=now)
    return Stepped(operation.id, operation.action, state, processed, operation.total)


def _fates(places: Sequence[tuple[int, int]], changed: Changed) -> list[Fate]:
    done, asked = set(changed.done), set(changed.asked)
    return [
        Fate(n, "CHANGED")
        if target in done
        else Fate(n, "ASKED")
        if target in asked
        else Fate(n, "LEFT", changed.refused.get(target, "NOT_FOUND"))
        for n, target in places
    ]


def detail_of(wanted: Wanted, changed: Changed) -> dict[str, object]:
    """Return what the audit says of a change."""
    done: dict[str, object] = {
        "changed": list(changed.done),
        "asked": list(changed.asked),
        "left": {str(i): why for i, why in changed.refused.items()},
    }
    return done | wanted.arguments


def _deed(operation: OperationRow, wanted: Wanted, changed: Changed) -> Deed:
    detail = detail_of(wanted, changed)
    return Deed(
        wanted.actor, wanted.action, f"Operation:{operation.id}", address=wanted.address, detail=detail
    )


async def cancel(tx: Database, operation_id: int, *, actor: str, now: datetime) -> bool:
    """End an operation before its next batch; return whether there was anything left to end. What was done stays."""
    return await store.finish(tx, operation_id, "CANCELED", now=now, because=actor)


async def reopen(tx: Database, operation_id: int, *, now: datetime) -> bool:
    """Let an operation that failed or was cancelled go on where it stopped; return whether there was anything left."""
    return await store.reopen(tx, operation_id, now=now)
