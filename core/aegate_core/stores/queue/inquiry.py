"""What the queue knows of items, for answering why one does not move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from aegate_core.database import Database, as_datetime

COUNTED_IN_LINE = 1_000
"""Positions beyond are not counted: it would read the whole backlog."""


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item with its destination, as columns."""

    item: dict[str, object]
    slots_used: int
    position: int


_ITEMS = """
SELECT q.id AS id, q.destination_id AS destination_id, q.state AS state, q.attempts AS attempts,
  q.available_at AS available_at, q.hold_code AS hold_code, q.held_by AS held_by, q.hold_reason AS hold_reason,
  q.instances_total AS instances_total, q.instances_done AS instances_done, q.instances_failed AS instances_failed,
  q.started_at AS started_at, q.error_code AS error_code, q.error_message AS error_message, q.rank AS rank,
  d.ae AS ae, d.max_connections AS max_connections, d.enabled AS enabled, d.gone_at AS gone_at,
  d.invalid_condition AS invalid_condition, d.held_at AS destination_held_at, d.held_by AS destination_held_by,
  d.hold_reason AS destination_hold_reason, d.breaker AS breaker, d.breaker_since AS breaker_since,
  d.last_error AS last_error, d.next_probe_at AS next_probe_at
FROM delivery q JOIN destination d ON d.id = q.destination_id WHERE q.id = ANY($1)
"""

_USED = """
SELECT destination_id, count(*) AS n FROM slot WHERE destination_id = ANY($1) AND token IS NOT NULL
AND expires_at >= $2 GROUP BY destination_id
"""

_BEFORE = """
SELECT q.id AS id, (SELECT count(*) FROM (SELECT 1 AS one FROM delivery o WHERE o.destination_id = q.destination_id
  AND o.state = 'SCHEDULED' AND (o.rank, o.id) < (q.rank, q.id) LIMIT $2) AS ahead) AS ahead
FROM delivery q WHERE q.id = ANY($1) AND q.state = 'SCHEDULED'
"""

_LATELY = """
SELECT destination_id, started_at, finished_at FROM (
  SELECT destination_id, started_at, finished_at, attempts, state FROM delivery WHERE finished_at >= $2
  ORDER BY finished_at DESC, id DESC LIMIT $3) AS lately
WHERE destination_id = ANY($1) AND attempts = 0 AND started_at IS NOT NULL AND state IN ('COMPLETED', 'WARNING')
"""

LATELY = timedelta(minutes=15)
LOOKED_AT = 500
"""Items that finished lately, of all destinations together: enough for a mean, and it reads no more."""


async def items(db: Database, delivery_ids: Sequence[int], *, now: datetime) -> list[ItemRow]:
    """Return those of ``delivery_ids`` that exist."""
    found = await db.fetch(_ITEMS, list(delivery_ids))
    destinations = sorted({int(r["destination_id"]) for r in found})
    used = {int(r["destination_id"]): int(r["n"]) for r in await db.fetch(_USED, destinations, now)}
    before = await db.fetch(_BEFORE, list(delivery_ids), COUNTED_IN_LINE)
    ahead = {int(r["id"]): int(r["ahead"]) for r in before}
    return [
        ItemRow(row, used.get(int(row["destination_id"]), 0), ahead.get(int(row["id"]), -1) + 1)
        for row in found
    ]


async def durations(
    db: Database, destinations: Sequence[int], *, now: datetime
) -> dict[int, list[timedelta]]:
    """Return how long items took, by destination, that it finished lately at the first try."""
    result: dict[int, list[timedelta]] = {}
    for row in await db.fetch(_LATELY, list(destinations), now - LATELY, LOOKED_AT):
        took = as_datetime(row["finished_at"]) - as_datetime(row["started_at"])
        result.setdefault(int(row["destination_id"]), []).append(took)
    return result


async def worker_last_seen(db: Database) -> datetime | None:
    """Return when any worker was last seen."""
    seen = await db.fetch_value("SELECT max(seen_at) FROM worker_state")
    return None if seen is None else as_datetime(seen)
