"""What has already been put into the queue of which destination, by what was received; read only.

What receivers acknowledged counts for ever: retention removes queue items, and leaves that in ``delivered``.

It reads the queue's tables by their SQL: the question joins arrivals with deliveries, and both lie in one database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aegate_core.database import Database


@dataclass(frozen=True, slots=True)
class Queued:
    """What destinations have in their queues, whatever became of it."""

    arrivals: frozenset[tuple[str, str]]
    """(destination, arrival id)."""
    contents: frozenset[tuple[str, str, str]]
    """(destination, SOP Instance UID, digest)."""


async def queued(db: Database, study_id: int, digests: Sequence[str]) -> Queued:
    """Return what of a study, among ``digests``, was ever enqueued."""
    rows = await db.fetch(
        "SELECT dest.ae, a.id, a.sop_instance_uid, a.sha256 FROM arrival a "
        "JOIN delivery_instance di ON di.arrival_id = a.id JOIN delivery d ON d.id = di.delivery_id "
        "JOIN destination dest ON dest.id = d.destination_id WHERE a.sha256 = ANY($1) AND a.study_id = $2 "
        "UNION SELECT dest.ae, a.id, a.sop_instance_uid, a.sha256 FROM arrival a "
        "JOIN delivered d ON d.arrival_id = a.id JOIN destination dest ON dest.id = d.destination_id "
        "WHERE a.sha256 = ANY($1) AND a.study_id = $2",
        list(digests),
        study_id,
    )
    return Queued(
        frozenset((r["ae"], r["id"]) for r in rows),
        frozenset((r["ae"], r["sop_instance_uid"], r["sha256"]) for r in rows),
    )


async def sent_from(db: Database, digests: Sequence[str]) -> dict[str, set[str]]:
    """Return, by digest, the source AEs of arrivals that we sent on or began to send on."""
    rows = await db.fetch(
        "SELECT a.sha256 AS digest, a.ae FROM arrival a JOIN delivery_instance di ON di.arrival_id = a.id "
        "JOIN delivery d ON d.id = di.delivery_id "
        "WHERE a.sha256 = ANY($1) AND (d.started_at IS NOT NULL OR di.state IN ('STORED', 'WARNING')) "
        "UNION SELECT di.delivered_sha256, a.ae FROM delivery_instance di JOIN arrival a ON a.id = di.arrival_id "
        "WHERE di.delivered_sha256 = ANY($1) "
        "UNION SELECT a.sha256, a.ae FROM arrival a JOIN delivered d ON d.arrival_id = a.id WHERE a.sha256 = ANY($1) "
        "UNION SELECT d.delivered_sha256, a.ae FROM delivered d JOIN arrival a ON a.id = d.arrival_id "
        "WHERE d.delivered_sha256 = ANY($1)",
        list(digests),
    )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["digest"], set()).add(row["ae"])
    return found
