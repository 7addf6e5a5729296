"""What must hold between the rows of the queue, as questions: each is one statement, so it sees one instant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from aegate_core.database import Database
from aegate_core.stores.queue.history import FINISHED

LONGEST_LEASE = timedelta(hours=1)
"""No worker asks for more; a lease that runs longer was written by a clock that was wrong."""


@dataclass(frozen=True, slots=True)
class WrongDelivery:
    """A delivery whose counters are not what its instances say: (total, done, failed)."""

    id: int
    said: tuple[int, int, int]
    counted: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class FinishedDelivery:
    """A delivery that is over, with how many of its instances are in which state."""

    id: int
    state: str
    instances: dict[str, int]


_COUNTED = """
SELECT q.id AS id, q.instances_total AS total, q.instances_done AS done, q.instances_failed AS failed,
  COALESCE(c.n, 0) AS n, COALESCE(c.stored, 0) AS stored, COALESCE(c.dead, 0) AS dead
FROM delivery q LEFT JOIN (
  SELECT delivery_id, count(*) AS n, count(CASE WHEN state IN ('STORED', 'WARNING') THEN 1 END) AS stored,
    count(CASE WHEN state = 'DEAD' THEN 1 END) AS dead FROM delivery_instance GROUP BY delivery_id) c
  ON c.delivery_id = q.id
WHERE q.instances_total <> COALESCE(c.n, 0) OR q.instances_done <> COALESCE(c.stored, 0)
  OR q.instances_failed <> COALESCE(c.dead, 0)
ORDER BY q.id
"""

_STATES = """
SELECT q.id AS id, q.state AS state, i.state AS instance_state, count(*) AS n
FROM delivery q JOIN delivery_instance i ON i.delivery_id = q.id
WHERE q.state = ANY($1) GROUP BY q.id, q.state, i.state
HAVING NOT (q.state = 'COMPLETED' AND i.state = 'STORED') ORDER BY q.id
"""


async def wrong_deliveries(db: Database) -> list[WrongDelivery]:
    """Return deliveries whose counters are not those of their instances."""
    return [
        WrongDelivery(
            int(r["id"]),
            (int(r["total"]), int(r["done"]), int(r["failed"])),
            (int(r["n"]), int(r["stored"]), int(r["dead"])),
        )
        for r in await db.fetch(_COUNTED)
    ]


async def recount(tx: Database, row: WrongDelivery) -> None:
    """Write the counters anew."""
    await tx.execute(
        "UPDATE delivery SET instances_total = $2, instances_done = $3, instances_failed = $4, "
        "version = version + 1 WHERE id = $1",
        row.id,
        *row.counted,
    )


async def finished(db: Database) -> list[FinishedDelivery]:
    """Return finished deliveries with the states of their instances; completed ones, with what is not stored alone."""
    found: dict[int, FinishedDelivery] = {}
    for r in await db.fetch(_STATES, list(FINISHED)):
        delivery = found.setdefault(int(r["id"]), FinishedDelivery(int(r["id"]), str(r["state"]), {}))
        delivery.instances[str(r["instance_state"])] = int(r["n"])
    return list(found.values())


async def without_arrival(db: Database) -> list[tuple[int, str]]:
    """Return (delivery, arrival) of instances still to be sent whose arrival has no row, or was removed."""
    rows = await db.fetch(
        "SELECT i.delivery_id AS delivery, i.arrival_id AS arrival FROM delivery_instance i "
        "WHERE i.state = 'PENDING' AND NOT EXISTS "
        "(SELECT 1 FROM arrival a WHERE a.id = i.arrival_id AND a.removed_at IS NULL) "
        "ORDER BY i.delivery_id, i.arrival_id"
    )
    return [(int(r["delivery"]), str(r["arrival"])) for r in rows]


async def endless_leases(db: Database, *, now: datetime) -> list[tuple[int, str]]:
    """Return (slot, worker) of slots that are taken and do not run out."""
    rows = await db.fetch(
        "SELECT id, worker FROM slot WHERE token IS NOT NULL AND (expires_at IS NULL OR expires_at > $1) "
        "ORDER BY id",
        now + LONGEST_LEASE,
    )
    return [(int(r["id"]), str(r["worker"])) for r in rows]


async def end_lease(tx: Database, slot_id: int, *, now: datetime) -> None:
    """Let the lease run out in a minute: a worker that lives renews it, the reaper takes it from one that does not."""
    await tx.execute(
        "UPDATE slot SET expires_at = $2 WHERE id = $1 AND token IS NOT NULL",
        slot_id,
        now + timedelta(minutes=1),
    )
