"""What keeps the queue going whoever died: due retries, what lost workers held, and who lives."""

from __future__ import annotations

from datetime import datetime

from aegate_core.database import Database
from aegate_core.stores.queue.history import Note, Transition, transition
from aegate_core.stores.queue.slots import free_expired

REAPER_LOCK = 0x61655F726561
"""PostgreSQL's advisory lock of the reaper; on SQLite the write lock does it."""

AT_ONCE = 500


async def promote(tx: Database, *, now: datetime) -> list[int]:
    """Make retries that are due ready again; return which."""
    due = await tx.fetch(
        "SELECT id FROM delivery WHERE state = 'RETRY' AND available_at <= $1 ORDER BY available_at LIMIT $2 "
        "FOR UPDATE SKIP LOCKED",
        now,
        AT_ONCE,
    )
    step = Transition("RETRY", "SCHEDULED", Note("aegate", now, "DUE"))
    return await transition(tx, [int(r["id"]) for r in due], step)


async def retries_wait(db: Database, *, now: datetime) -> bool:
    """Whether a retry is due: a read that locks nothing."""
    found = await db.fetch_one(
        "SELECT id FROM delivery WHERE state = 'RETRY' AND available_at <= $1 LIMIT 1", now
    )
    return found is not None


_ORPHANS = """
SELECT q.id AS id FROM delivery q WHERE q.state = 'IN_PROGRESS' AND NOT EXISTS (
  SELECT 1 FROM slot s WHERE s.id = q.slot_id AND s.token = q.token) LIMIT $1
"""


_UNSENT = (
    "EXISTS (SELECT 1 FROM delivery_instance i WHERE i.delivery_id = delivery.id AND i.state = 'PENDING')"
)
"""Something is left that a wish can be about; else all was acknowledged, and the next claim finishes it as it is."""


async def work_is_lost(db: Database, *, now: datetime) -> bool:
    """Whether a lease ran out or a delivery has no slot: a read that locks nothing."""
    expired = await db.fetch_one(
        "SELECT id FROM slot WHERE token IS NOT NULL AND expires_at < $1 LIMIT 1", now
    )
    return expired is not None or await db.fetch_one(_ORPHANS, 1) is not None


async def reap(tx: Database, *, now: datetime) -> tuple[int, list[int]]:
    """Free slots of workers that stopped renewing, and return their deliveries to where they go next.

    Returns how many slots, and which deliveries. One reaper at a time; the others return at once.
    """
    if not tx.is_sqlite and not await tx.fetch_value("SELECT pg_try_advisory_xact_lock($1)", REAPER_LOCK):
        return 0, []
    slots = await free_expired(tx, now=now)
    ids = [int(r["id"]) for r in await tx.fetch(_ORPHANS, AT_ONCE)]
    note = Note("aegate", now, "WORKER_LOST", "its worker stopped renewing the lease")
    canceled = Transition(
        "IN_PROGRESS",
        "CANCELED",
        note,
        {"finished_at": now},
        f"cancel_requested_by IS NOT NULL AND {_UNSENT}",
    )
    gone = await transition(tx, ids, canceled)
    if gone:
        await tx.execute(
            "UPDATE delivery_instance SET state = 'CANCELED', finished_at = $2 "
            "WHERE delivery_id = ANY($1) AND state = 'PENDING'",
            gone,
            now,
        )
    wanted = f"hold_requested_by IS NOT NULL AND {_UNSENT}"
    held = Transition("IN_PROGRESS", "HELD", note, {"hold_code": "PERSON"}, wanted)
    moved = await transition(tx, ids, held)
    if moved:
        await tx.execute("UPDATE delivery SET held_by = hold_requested_by WHERE id = ANY($1)", moved)
    removed = "destination_id IN (SELECT id FROM destination WHERE gone_at IS NOT NULL)"
    parked = Transition("IN_PROGRESS", "HELD", note, {"hold_code": "DESTINATION_GONE"}, removed)
    moved += await transition(tx, ids, parked)
    moved += await transition(tx, ids, Transition("IN_PROGRESS", "SCHEDULED", note))
    return slots, sorted(gone + moved)


async def see_worker(db: Database, worker: str, slots: int, *, now: datetime) -> None:
    """Say that a worker lives."""
    await db.execute(
        "INSERT INTO worker_state (worker, started_at, seen_at, slots) VALUES ($1, $2, $2, $3) "
        "ON CONFLICT (worker) DO UPDATE SET seen_at = excluded.seen_at, slots = excluded.slots",
        worker,
        now,
        slots,
    )


async def forget_worker(db: Database, worker: str) -> None:
    """Say that a worker ended in good order."""
    await db.execute("DELETE FROM worker_state WHERE worker = $1", worker)
