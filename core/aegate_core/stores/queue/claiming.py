"""Taking up work: a slot of a destination that may be sent to, then what goes first for it, in one transaction.

A slot is one association we may open: as many rows as ``maxConnections``, so the limit is exact over all workers. The
fencing token of the taking stands in the slot and in its deliveries; whoever lost the slot can change neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from aegate_core.database import Database, as_datetime
from aegate_core.stores.queue.history import Note, record

IMAGES_AT_ONCE = 50
"""How many Image-level deliveries go over one association: by feel; a slot is then given back, which is fair."""


@dataclass(frozen=True, slots=True)
class ClaimedInstance:
    """An instance that the peer has not acknowledged yet, and where its bytes are."""

    id: int
    delivery_id: int
    study_id: int
    arrival_id: str
    blob_key: str
    sha256: str
    """Of the data set as it arrived: what goes out is compared with it."""
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    attempts: int
    breaks: int
    broke_at: datetime | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A slot that we hold, and what is to be sent over its association."""

    slot_id: int
    slot_n: int
    token: int
    destination_id: int
    ae: str
    delivery_ids: tuple[int, ...]
    instances: tuple[ClaimedInstance, ...]


_FREE_SLOT = """
SELECT s.id AS id, s.n AS n, s.destination_id AS destination_id, d.ae AS ae, d.breaker AS breaker
FROM slot s JOIN destination d ON d.id = s.destination_id
WHERE (s.token IS NULL OR s.expires_at < $1) AND s.n <= d.max_connections
  AND d.gone_at IS NULL AND d.held_at IS NULL AND d.enabled AND d.invalid_condition IS NULL
  AND (d.breaker = 'CLOSED' OR (d.breaker = 'TRIAL' AND NOT EXISTS (
    SELECT 1 FROM slot t WHERE t.destination_id = d.id AND t.token IS NOT NULL AND t.expires_at >= $1)))
  AND (SELECT count(*) FROM slot t WHERE t.destination_id = d.id AND t.token IS NOT NULL AND t.expires_at >= $1)
    < d.max_connections
  AND EXISTS (SELECT 1 FROM delivery q WHERE q.destination_id = d.id AND q.state = 'SCHEDULED')
ORDER BY s.last_used_at NULLS FIRST, s.id
LIMIT 1
"""

_HEAD = """
SELECT id, level FROM delivery WHERE destination_id = $1 AND state = 'SCHEDULED'
ORDER BY rank, id LIMIT 1 FOR UPDATE SKIP LOCKED
"""

_MORE_IMAGES = """
SELECT id FROM delivery WHERE destination_id = $1 AND state = 'SCHEDULED' AND level = 'Image' AND id <> $2
ORDER BY rank, id LIMIT $3 FOR UPDATE SKIP LOCKED
"""

_INSTANCES = """
SELECT i.id AS id, i.delivery_id AS delivery_id, q.study_id AS study_id, i.arrival_id AS arrival_id,
  i.attempts AS attempts, i.breaks AS breaks, i.broke_at AS broke_at, i.available_at AS available_at,
  a.blob_key AS blob_key, a.sha256 AS sha256, a.sop_class_uid AS sop_class_uid, a.sop_instance_uid AS sop_instance_uid,
  a.transfer_syntax_uid AS transfer_syntax_uid
FROM delivery_instance i JOIN delivery q ON q.id = i.delivery_id JOIN arrival a ON a.id = i.arrival_id
WHERE i.delivery_id = ANY($1) AND i.state = 'PENDING'
ORDER BY i.breaks, q.rank, q.id, i.id
"""


async def work_waits(db: Database, *, now: datetime) -> bool:
    """Whether a claim would find something: a read that locks nothing, for polling."""
    return await db.fetch_one(_FREE_SLOT, now) is not None


async def claim(tx: Database, worker: str, lease: timedelta, *, now: datetime) -> Claim | None:
    """Take a slot and what goes first over it; None when there is nothing, or others were faster."""
    slot = await tx.fetch_one(_FREE_SLOT + " FOR UPDATE OF s SKIP LOCKED", now)
    if slot is None or not await _still_within_limit(tx, slot, now):
        return None
    ids = await _first_in_line(tx, int(slot["destination_id"]), alone=slot["breaker"] == "TRIAL")
    if not ids:
        return None
    token = int(
        await tx.fetch_value(
            "UPDATE fencing SET last_token = last_token + 1 WHERE id = 1 RETURNING last_token"
        )
    )
    await tx.execute(
        "UPDATE slot SET token = $2, worker = $3, expires_at = $4, last_used_at = $5 WHERE id = $1",
        slot["id"],
        token,
        worker,
        now + lease,
        now,
    )
    await tx.execute(
        "UPDATE delivery SET state = 'IN_PROGRESS', slot_id = $2, token = $3, started_at = COALESCE(started_at, $4), "
        "cancel_requested_by = NULL, hold_requested_by = NULL, version = version + 1 WHERE id = ANY($1)",
        ids,
        slot["id"],
        token,
        now,
    )
    await record(tx, ids, "SCHEDULED", "IN_PROGRESS", Note(f"worker:{worker}", now, "CLAIMED"))
    return Claim(
        slot_id=int(slot["id"]),
        slot_n=int(slot["n"]),
        token=token,
        destination_id=int(slot["destination_id"]),
        ae=str(slot["ae"]),
        delivery_ids=tuple(ids),
        instances=await _instances(tx, ids, now),
    )


async def _still_within_limit(tx: Database, slot: dict[str, object], now: datetime) -> bool:
    """Look again, under the destination's lock, in the two cases in which a free slot alone does not prove room:

    the limit was made smaller while more slots are held, or a single trial is allowed.
    """
    above = "SELECT count(*) FROM slot s JOIN destination d ON d.id = s.destination_id WHERE d.id = $1 AND s.n > {} "
    held = "AND s.token IS NOT NULL AND s.expires_at >= $2"
    destination_id = slot["destination_id"]
    over = int(await tx.fetch_value(above.format("d.max_connections") + held, destination_id, now))
    if slot["breaker"] == "CLOSED" and not over:
        return True
    row = await tx.fetch_one(
        "SELECT breaker, max_connections FROM destination WHERE id = $1 FOR UPDATE", destination_id
    )
    live = int(await tx.fetch_value(above.format("0") + held, destination_id, now))
    if row is None or row["breaker"] not in ("CLOSED", "TRIAL"):
        return False
    return live < (1 if row["breaker"] == "TRIAL" else int(row["max_connections"]))


async def _first_in_line(tx: Database, destination_id: int, *, alone: bool) -> list[int]:
    head = await tx.fetch_one(_HEAD, destination_id)
    if head is None:
        return []
    if alone or head["level"] != "Image":
        return [int(head["id"])]
    more = await tx.fetch(_MORE_IMAGES, destination_id, head["id"], IMAGES_AT_ONCE - 1)
    return [int(head["id"]), *(int(r["id"]) for r in more)]


async def _instances(tx: Database, ids: Sequence[int], now: datetime) -> tuple[ClaimedInstance, ...]:
    """Return what is due of the deliveries; all that is pending when nothing is."""
    found = await tx.fetch(_INSTANCES, list(ids))
    due = [r for r in found if r["available_at"] is None or as_datetime(r["available_at"]) <= now]
    return tuple(
        ClaimedInstance(
            id=int(r["id"]),
            delivery_id=int(r["delivery_id"]),
            study_id=int(r["study_id"]),
            arrival_id=str(r["arrival_id"]),
            blob_key=str(r["blob_key"]),
            sha256=str(r["sha256"]),
            sop_class_uid=str(r["sop_class_uid"]),
            sop_instance_uid=str(r["sop_instance_uid"]),
            transfer_syntax_uid=str(r["transfer_syntax_uid"]),
            attempts=int(r["attempts"]),
            breaks=int(r["breaks"]),
            broke_at=None if r["broke_at"] is None else as_datetime(r["broke_at"]),
        )
        for r in due or found
    )
