"""Times that a clock wrote which was ahead, and was then set right: nothing waits for them to come round.

A power cut, or the first word of a time server, may set a clock back by an hour. What was written before lies in the
future then: the lease of a worker that died, a backoff, the next probe. None of ours is ever further ahead than
`FURTHEST`; what is, was written by a wrong clock.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from aegate_core.database import Database

FURTHEST = timedelta(minutes=10)
"""Above every lease, backoff and pause between probes (six minutes)."""

_AHEAD = """
SELECT EXISTS (SELECT 1 FROM slot WHERE token IS NOT NULL AND expires_at > $1) AS slots,
  EXISTS (SELECT 1 FROM delivery WHERE state = 'RETRY' AND available_at > $1) AS retries,
  EXISTS (SELECT 1 FROM destination WHERE next_probe_at > $1) AS probes
"""


async def are_ahead(db: Database, *, now: datetime) -> bool:
    """Whether any time lies further ahead than we write: a read that locks nothing."""
    row = await db.fetch_one(_AHEAD, now + FURTHEST)
    return row is not None and any(row.values())


async def bring_back(tx: Database, lease: timedelta, *, now: datetime) -> int:
    """Let what waits for such a time be due now, and a lease end unless its holder renews it; return how many."""
    ahead = now + FURTHEST
    slots = await tx.execute(
        "UPDATE slot SET expires_at = $2 WHERE token IS NOT NULL AND expires_at > $1", ahead, now + lease
    )
    await tx.execute(
        "UPDATE delivery_instance SET available_at = $2 WHERE state = 'PENDING' AND available_at > $1 AND delivery_id "
        "IN (SELECT id FROM delivery WHERE state = 'RETRY' AND available_at > $1)",
        ahead,
        now,
    )
    retries = await tx.execute(
        "UPDATE delivery SET available_at = $2 WHERE state = 'RETRY' AND available_at > $1", ahead, now
    )
    probes = await tx.execute(
        "UPDATE destination SET next_probe_at = $2 WHERE next_probe_at > $1", ahead, now
    )
    return slots + retries + probes
