"""Quarantined objects that a person released: they wait for a worker that takes them into the index.

The arrival of one gives way to what indexing makes of it, as one that was only found does. Its row tells who released
it until that is through: killed anywhere, the next worker takes it up again. Until then its row on the list tells of
which AE it is: of an object that a check found, a person says it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from aegate_core.database import Database, as_datetime
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.stores.index.found import UNKNOWN_SENDER

RELEASED = (
    "(a.outcome = 'QUARANTINED' AND a.removed_at IS NULL AND EXISTS (SELECT 1 FROM quarantined_object w "
    "WHERE w.arrival_id = a.id AND w.released_at IS NOT NULL AND w.resolved_at IS NULL))"
)
"""SQL: the row ``a`` of an arrival gives way."""

_OF_ITS_ARRIVAL = "(SELECT a.ae FROM arrival a WHERE a.id = quarantined_object.arrival_id)"
_WAITS = "released_at IS NOT NULL AND resolved_at IS NULL"


async def release(
    tx: Database, arrival_ids: Sequence[str], *, by: str, now: datetime, sender: ResourceKey | None = None
) -> list[str]:
    """Let quarantined objects be indexed; return those that were not waiting for it before, and can be.

    ``sender`` is the AE that sent those of which nobody knew it, and then these alone are released: whose patients they
    are goes by it.
    """
    is_unknown = "ae = $4" if sender is not None else "ae <> $4"
    rows = await tx.fetch(
        "UPDATE quarantined_object SET released_at = $2, released_by = $3, release_tried_at = NULL, "
        "release_attempts = 0, resolved_at = NULL, resolved_by = NULL, resolution = NULL, ae = COALESCE($5::text, ae) "
        f"WHERE arrival_id = ANY($1) AND {is_unknown} AND NOT ({_WAITS}) AND EXISTS (SELECT 1 FROM arrival a "
        "WHERE a.id = quarantined_object.arrival_id AND a.outcome = 'QUARANTINED' AND a.removed_at IS NULL) "
        "RETURNING arrival_id",
        sorted(arrival_ids),
        now,
        by[:256],
        str(UNKNOWN_SENDER),
        None if sender is None else str(sender),
    )
    return sorted(str(r["arrival_id"]) for r in rows)


async def why_not(tx: Database, arrival_ids: Sequence[str]) -> dict[str, str]:
    """Return what keeps objects from being released: REMOVED, INDEXED, WAITING, UNKNOWN_SENDER or SENDER_KNOWN."""
    rows = await tx.fetch(
        "SELECT q.arrival_id AS id, CASE "
        "WHEN a.id IS NULL OR a.removed_at IS NOT NULL THEN 'REMOVED' "
        "WHEN a.outcome <> 'QUARANTINED' THEN 'INDEXED' "
        "WHEN q.released_at IS NOT NULL AND q.resolved_at IS NULL THEN 'WAITING' "
        "WHEN q.ae = $2 THEN 'UNKNOWN_SENDER' ELSE 'SENDER_KNOWN' END AS because "
        "FROM quarantined_object q LEFT JOIN arrival a ON a.id = q.arrival_id WHERE q.arrival_id = ANY($1)",
        sorted(arrival_ids),
        str(UNKNOWN_SENDER),
    )
    return {str(r["id"]): str(r["because"]) for r in rows}


async def partitions_of(tx: Database, arrival_ids: Sequence[str]) -> list[str]:
    """Return the patient partitions of quarantined objects; of an AE that never was its own key, which is none."""
    rows = await tx.fetch(
        "SELECT DISTINCT COALESCE(e.partition, q.ae) AS partition FROM quarantined_object q "
        "LEFT JOIN application_entity e ON e.namespace || '/' || e.name = q.ae WHERE q.arrival_id = ANY($1)",
        sorted(arrival_ids),
    )
    return sorted(str(r["partition"]) for r in rows)


@dataclass(frozen=True, slots=True)
class ReleasedArrival:
    """A released object, as its row knows it; ``attempts`` counts this one, too."""

    id: str
    ae: str
    calling_title: str
    called_title: str
    peer_address: str
    received_at: datetime
    transfer_syntax_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    size_bytes: int
    sha256: str
    blob_key: str
    attempts: int


_SIDE = (
    "a.id, q.ae, a.calling_title, a.called_title, a.peer_address, a.received_at, a.transfer_syntax_uid, "
    "a.sop_class_uid, a.sop_instance_uid, a.size_bytes, a.sha256, a.blob_key"
)


async def take(db: Database, lease: timedelta, *, now: datetime) -> ReleasedArrival | None:
    """Take the one that waited longest, for as long as the lease; None where there is none, which costs no write."""
    free = f"{_WAITS} AND (release_tried_at IS NULL OR release_tried_at < $1 OR release_tried_at > $2)"
    oldest = (
        f"SELECT arrival_id FROM quarantined_object WHERE {free} ORDER BY released_at, arrival_id LIMIT 1"
    )
    if await db.fetch_one(oldest, now - lease, now) is None:
        return None

    async def work(tx: Database) -> ReleasedArrival | None:
        lock = "" if tx.is_sqlite else " FOR UPDATE SKIP LOCKED"
        rows = await tx.fetch(
            "UPDATE quarantined_object SET release_tried_at = $2, release_attempts = COALESCE(release_attempts, 0) + 1 "
            f"WHERE arrival_id = ({oldest}{lock}) RETURNING arrival_id, release_attempts",
            now - lease,
            now,
        )
        if not rows:
            return None
        row = await tx.fetch_one(
            f"SELECT {_SIDE} FROM arrival a JOIN quarantined_object q ON q.arrival_id = a.id WHERE a.id = $1",
            rows[0]["arrival_id"],
        )
        assert row is not None, "an object is listed with its arrival, whose row stays for ever"
        values = {**row, "received_at": as_datetime(row["received_at"])}
        return ReleasedArrival(**values, attempts=int(rows[0]["release_attempts"]))

    return await db.atomically(work)


async def let_wait(db: Database, arrival_id: str) -> None:
    """Count an attempt as none: what was in the way was none of the object's. It is due when its lease is over."""
    await db.execute(
        f"UPDATE quarantined_object SET release_attempts = 0 WHERE arrival_id = $1 AND {_WAITS}", arrival_id
    )


class Settled(NamedTuple):
    """A released object that is through; ``reason`` '': it is indexed, else why it is in quarantine again."""

    arrival_id: str
    by: str
    reason: str


async def settle(tx: Database, reasons: Mapping[str, str], *, now: datetime) -> list[Settled]:
    """Bring the list of quarantined objects to what became of those that were released, and return these.

    ``reasons`` is that of `found.settle_found`. Whose they are is what their arrivals say by now.
    """
    rows = await tx.fetch(
        f"SELECT arrival_id, released_by FROM quarantined_object WHERE arrival_id = ANY($1) AND {_WAITS}",
        sorted(reasons),
    )
    settled = [Settled(r["arrival_id"], r["released_by"] or "", reasons[r["arrival_id"]]) for r in rows]
    for one in sorted(settled):
        if one.reason:
            await tx.execute(
                "UPDATE quarantined_object SET reason = $2, released_at = NULL, released_by = NULL, "
                f"ae = {_OF_ITS_ARRIVAL} WHERE arrival_id = $1",
                one.arrival_id,
                one.reason[:256],
            )
        else:
            await tx.execute(
                "UPDATE quarantined_object SET resolved_at = $2, resolved_by = $3, resolution = 'INDEXED', "
                f"ae = {_OF_ITS_ARRIVAL} WHERE arrival_id = $1",
                one.arrival_id,
                now,
                one.by,
            )
    return sorted(settled)
