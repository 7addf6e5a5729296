"""Finished queue items that may go by age; what receivers acknowledged in them is remembered in ``delivered``.

A failed item whose images are here, and which its destination did not get otherwise, stays: it is the only thing that
says that something is missing there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from aegate_core.database import Database, as_datetime

AT_ONCE = 50
"""Items removed in one transaction, which holds up SQLite's other writers: 0.4 s at 500 images each."""


class Finished(NamedTuple):
    """A finished queue item that nothing needs any more."""

    id: int
    partition: str
    finished_at: datetime


_MAY_GO = """
q.state IN ('COMPLETED', 'WARNING', 'CANCELED', 'FAILED') AND NOT (q.state = 'FAILED' AND EXISTS (
  SELECT 1 FROM delivery_instance i JOIN arrival a ON a.id = i.arrival_id WHERE i.delivery_id = q.id
  AND i.state NOT IN ('STORED', 'WARNING', 'CANCELED') AND a.removed_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM delivery_instance j JOIN delivery r ON r.id = j.delivery_id
    WHERE j.arrival_id = i.arrival_id AND r.destination_id = q.destination_id AND j.state IN ('STORED', 'WARNING'))
  AND NOT EXISTS (SELECT 1 FROM delivered d
    WHERE d.arrival_id = i.arrival_id AND d.destination_id = q.destination_id)))
"""


async def old_deliveries(
    db: Database, due_before: datetime, after: tuple[datetime, int] | None
) -> list[Finished]:
    """Return a page of items that finished before, and may go; of all partitions, oldest first."""
    arguments: list[object] = [due_before, AT_ONCE]
    further = ""
    if after is not None:
        further = "AND (q.finished_at > $3 OR (q.finished_at = $3 AND q.id > $4)) "
        arguments += after
    rows = await db.fetch(
        f"SELECT q.id, q.partition, q.finished_at FROM delivery q WHERE q.finished_at <= $1 AND {_MAY_GO} {further}"
        "ORDER BY q.finished_at, q.id LIMIT $2",
        *arguments,
    )
    return [Finished(int(r["id"]), str(r["partition"]), as_datetime(r["finished_at"])) for r in rows]


async def remove_deliveries(tx: Database, ids: Sequence[int]) -> list[int]:
    """Remove those that may still go, with their history; return which. Somebody may retry one meanwhile."""
    rows = await tx.fetch(
        f"SELECT q.id FROM delivery q WHERE q.id = ANY($1) AND q.finished_at IS NOT NULL AND {_MAY_GO} "
        "ORDER BY q.id FOR UPDATE OF q SKIP LOCKED",
        list(ids),
    )
    going = [int(r["id"]) for r in rows]
    await tx.execute(
        "INSERT INTO delivered (destination_id, arrival_id, delivered_sha256) "
        "SELECT q.destination_id, i.arrival_id, i.delivered_sha256 FROM delivery_instance i "
        "JOIN delivery q ON q.id = i.delivery_id WHERE q.id = ANY($1) AND i.state IN ('STORED', 'WARNING')",
        going,
    )
    for table in ("delivery_event", "delivery_instance"):
        await tx.execute(f"DELETE FROM {table} WHERE delivery_id = ANY($1)", going)
    await tx.execute("DELETE FROM delivery WHERE id = ANY($1)", going)
    return going


async def remove_operations(tx: Database, due_before: datetime) -> int:
    """Remove a few operations that ended before, with what became of each of their things; return how many."""
    rows = await tx.fetch(
        "SELECT id FROM operation WHERE finished_at <= $1 ORDER BY finished_at, id LIMIT 2 FOR UPDATE SKIP LOCKED",
        due_before,
    )
    ids = [int(r["id"]) for r in rows]
    for table in ("operation_item", "operation_partition"):
        await tx.execute(f"DELETE FROM {table} WHERE operation_id = ANY($1)", ids)
    return await tx.execute("DELETE FROM operation WHERE id = ANY($1)", ids)
