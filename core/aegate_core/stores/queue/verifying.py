"""Requests to ask a receiver now whether it answers: rows that a worker takes ahead of all deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from aegate_core.database import Database, as_datetime, as_json

WANTED_FOR = timedelta(seconds=5)
"""How long somebody waits for the answer; what nobody took by then is not asked any more."""
JOINED_FOR = timedelta(seconds=2)
"""How old a request may be for others to wait for its answer, too: by feel, so that most of its time is left."""
KEPT_FOR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Verification:
    """One request."""

    id: int
    ae: str
    taken_by: str | None = None
    answer: Mapping[str, object] | None = None


async def ask(tx: Database, ae: str, *, now: datetime) -> int:
    """Ask for it, and forget what is old; return the request's id, which is one of just now if that is not answered.

    Two that ask at once may get two requests: the device is asked twice.
    """
    await tx.execute("DELETE FROM verification WHERE asked_at < $1", now - KEPT_FOR)
    under_way = await tx.fetch_value(
        "SELECT id FROM verification WHERE ae = $1 AND answer IS NULL AND asked_at > $2 ORDER BY id DESC LIMIT 1",
        ae,
        now - JOINED_FOR,
    )
    if under_way is not None:
        return int(under_way)
    found: int = await tx.fetch_value(
        "INSERT INTO verification (ae, asked_at) VALUES ($1, $2) RETURNING id", ae, now
    )
    return found


async def look(db: Database, id: int) -> Verification | None:
    """Return the request as it is now."""
    row = await db.fetch_one("SELECT id, ae, taken_by, answer FROM verification WHERE id = $1", id)
    if row is None:
        return None
    answer = None if row["answer"] is None else cast("Mapping[str, object]", as_json(row["answer"]))
    return Verification(int(row["id"]), row["ae"], row["taken_by"], answer)


async def take(db: Database, worker: str, *, now: datetime) -> Verification | None:
    """Take one that somebody still waits for; each is taken once."""
    wanted = "taken_by IS NULL AND asked_at > $1"
    if await db.fetch_one(f"SELECT id FROM verification WHERE {wanted} LIMIT 1", now - WANTED_FOR) is None:
        return None  # the usual case, without a write

    async def work(tx: Database) -> Verification | None:
        lock = "" if tx.is_sqlite else " FOR UPDATE SKIP LOCKED"
        rows = await tx.fetch(
            f"UPDATE verification SET taken_by = $2 WHERE id = (SELECT id FROM verification WHERE {wanted} "
            f"ORDER BY id LIMIT 1{lock}) RETURNING id, ae",
            now - WANTED_FOR,
            worker,
        )
        return Verification(int(rows[0]["id"]), rows[0]["ae"], worker) if rows else None

    return await db.atomically(work)


async def finish(db: Database, id: int, answer: Mapping[str, object]) -> None:
    """Write what came of it."""
    await db.execute("UPDATE verification SET answer = $1 WHERE id = $2", dict(answer), id)


async def newest_sign_of_life(db: Database) -> tuple[str, datetime] | None:
    """Return the worker that was seen last, and when; None: there is none."""
    row = await db.fetch_one("SELECT worker, seen_at FROM worker_state ORDER BY seen_at DESC LIMIT 1")
    return (str(row["worker"]), as_datetime(row["seen_at"])) if row else None
