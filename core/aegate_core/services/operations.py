"""Changes of many: each is asked for once, and done in batches that are one transaction each, with its audit row.

A batch does to its items what the mutation of that name does to one: the same code. Any number of processes may do
batches; the one that does is the one that holds the operation's row. Nothing is remembered outside of the database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from aegate_core.database import Database
from aegate_core.decisions.priority import bumped_rank
from aegate_core.errors import InvalidInput, NotFound
from aegate_core.services import audit, deliveries
from aegate_core.services.audit import Deed
from aegate_core.services.deliveries import Changed
from aegate_core.stores.queue import operations as store
from aegate_core.stores.queue.list_items import lock_versions
from aegate_core.stores.queue.operations import Fate, Found, NewOperation, OperationRow
from aegate_core.stores.scope import ALL_ROWS, Scope

MOST = 100_000
"""Things of one operation. By feel: 200 batches, a minute or two; measure the time of a batch before raising it."""

BATCH = 500
"""Things of one batch: it holds up the workers of these items for its one transaction. By feel."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants to be done with queue items."""

    action: str
    """The mutation's name, one of ACTIONS."""
    actor: str
    address: str = ""
    reason: str | None = None
    priority: int | None = None

    @property
    def arguments(self) -> dict[str, object]:
        """What is kept of it beside who and what."""
        said = {"reason": self.reason, "priority": self.priority}
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Now:
    """When it is done; ``place``: where a part of a bump of many begins, see `deliveries.bump`."""

    at: datetime
    place: int | None = None


Act = Callable[[Database, Sequence[int], Wanted, Now], Awaitable[Changed]]


async def _hold(tx: Database, ids: Sequence[int], wanted: Wanted, now: Now) -> Changed:
    return await deliveries.hold(tx, ids, actor=wanted.actor, reason=wanted.reason, now=now.at)


async def _resume(tx: Database, ids: Sequence[int], wanted: Wanted, now: Now) -> Changed:
    return await deliveries.resume(tx, ids, actor=wanted.actor, reason=wanted.reason, now=now.at)


async def _retry(tx: Database, ids: Sequence[int], wanted: Wanted, now: Now) -> Changed:
    return await deliveries.retry(tx, ids, actor=wanted.actor, reason=wanted.reason, now=now.at)


async def _cancel(tx: Database, ids: Sequence[int], wanted: Wanted, now: Now) -> Changed:
    return await deliveries.cancel(tx, ids, actor=wanted.actor, reason=wanted.reason, now=now.at)


async def _set_priority(tx: Database, ids: Sequence[int], wanted: Wanted, now: Now) -> Changed:
    if wanted.priority is None:
        raise InvalidInput("setQueueItemPriority needs a priority, got none: give 0 to 100")
    return await deliveries.set_priority(tx, ids, wanted.priority)


async def _bump(tx: Database, ids: Sequence[int], wanted: Wanted, now: Now) -> Changed:
    return await deliveries.bump(tx, ids, now=now.at, place=now.place)


ACTIONS: Mapping[str, Act] = {
    "holdQueueItems": _hold,
    "resumeQueueItems": _resume,
    "retryQueueItems": _retry,
    "cancelQueueItems": _cancel,
    "setQueueItemPriority": _set_priority,
    "bumpQueueItems": _bump,
}


async def act(tx: Database, wanted: Wanted, ids: Sequence[int], now: Now) -> Changed:
    """Do what is wanted with these items, in the caller's transaction."""
    return await ACTIONS[wanted.action](tx, ids, wanted, now)


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
    new = NewOperation(
        wanted.action, "QueueItem", wanted.actor, wanted.address, key, fingerprint, wanted.arguments
    )
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
    await store.seal(tx, operation_id, len(targets), "QueueItem")
    return len(targets)


async def about_found(tx: Database, operation_id: int, found: Found, scope: Scope) -> int:
    """Say that an operation is about what a filter finds now; return how many that is."""
    total = await store.add_found(tx, operation_id, found, scope)
    await store.seal(tx, operation_id, total, "QueueItem")
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


async def step(db: Database, *, batch: int = BATCH, taken: list[int] | None = None) -> Stepped | None:
    """Do the next batch of the operation that waited longest; None when there is nothing to do.

    Of a fault, ``taken`` tells the operation. What can never be done ends the operation as FAILED.
    """
    held: list[int] = [] if taken is None else taken

    async def work(tx: Database) -> Stepped | None:
        operation = await store.take(tx)
        if operation is None:
            return None
        held.append(operation.id)
        return await _batch(tx, operation, batch)

    if not await store.any_open(db):
        return None
    try:
        return await db.atomically(work)
    except (InvalidInput, NotFound) as refusal:
        await fail(db, held[-1], refusal.code)
        return Stepped(held[-1], "", "FAILED", 0, 0)


async def defer(db: Database, operation_id: int) -> None:
    """Let others go first: the database does not take this one's next batch. Raises StorageError: it takes nothing."""

    async def work(tx: Database) -> None:
        await store.defer(tx, operation_id, now=await tx.time())

    await db.atomically(work)


async def fail(db: Database, operation_id: int, code: str) -> None:
    """End an operation of which nothing more can be done; what was done stays."""

    async def work(tx: Database) -> None:
        await store.finish(tx, operation_id, "FAILED", now=await tx.time(), because=code)

    await db.atomically(work)


async def _batch(tx: Database, operation: OperationRow, batch: int) -> Stepped:
    now = await tx.time()
    places = await store.next_targets(tx, operation, batch)
    if places:
        wanted = _wanted(operation)
        there = await lock_versions(tx, [target for _, target in places], ALL_ROWS)
        first = bumped_rank(operation.created_at) - operation.total + operation.processed
        changed = await act(tx, wanted, sorted(there), Now(now, first))
        await store.record(tx, operation.id, _fates(places, changed), now=now)
        await audit.record(tx, _deed(operation, wanted, changed), now=now)
    processed = operation.processed + len(places)
    state = "RUNNING"
    if not places or processed >= operation.total:
        state = "COMPLETED"
        await store.finish(tx, operation.id, state, now=now)
    return Stepped(operation.id, operation.action, state, processed, operation.total)


def _wanted(operation: OperationRow) -> Wanted:
    said = operation.arguments
    reason, priority = said.get("reason"), said.get("priority")
    return Wanted(
        operation.action,
        operation.actor,
        operation.address,
        reason=None if reason is None else str(reason),
        priority=None if priority is None else int(str(priority)),
    )


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
