"""What came of instances and deliveries, in batches: rows are found by primary key, counts are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from aegate_core.database import Database, as_datetime
from aegate_core.database.dialect import time_text
from aegate_core.stores.queue.lists import as_rows, rows
from aegate_core.stores.queue.slots import SlotLost


@dataclass(frozen=True, slots=True)
class InstanceOutcome:
    """The new row of an instance that was tried."""

    id: int
    delivery_id: int
    state: str
    status: int | None
    attempts: int
    breaks: int
    broke_at: datetime | None
    available_at: datetime | None
    error_code: str | None
    delivered_sha256: str | None = None


_WRITE = """
UPDATE delivery_instance SET state = o.state, status = o.status, attempts = o.attempts, breaks = o.breaks,
  broke_at = o.broke_at, available_at = o.available_at, error_code = o.error_code, finished_at = o.finished_at,
  delivered_sha256 = o.delivered_sha256
FROM (SELECT CAST(j.value ->> 'id' AS bigint) AS id, j.value ->> 'state' AS state,
    CAST(j.value ->> 'status' AS integer) AS status, CAST(j.value ->> 'attempts' AS integer) AS attempts,
    CAST(j.value ->> 'breaks' AS integer) AS breaks, (j.value ->> 'broke_at')::timestamptz AS broke_at,
    (j.value ->> 'available_at')::timestamptz AS available_at, j.value ->> 'error_code' AS error_code,
    (j.value ->> 'finished_at')::timestamptz AS finished_at, j.value ->> 'delivered_sha256' AS delivered_sha256
  FROM {rows}) AS o
WHERE delivery_instance.id = o.id AND delivery_instance.state = 'PENDING'
"""

_COUNT = """
UPDATE delivery SET instances_done = instances_done + o.done, instances_failed = instances_failed + o.failed,
  version = version + 1
FROM (SELECT CAST(j.value ->> 'id' AS bigint) AS id, CAST(j.value ->> 'done' AS integer) AS done,
    CAST(j.value ->> 'failed' AS integer) AS failed FROM {rows}) AS o
WHERE delivery.id = o.id
"""

DONE = ("STORED", "WARNING")


async def write(tx: Database, outcomes: Sequence[InstanceOutcome], *, now: datetime) -> None:
    """Write outcomes of instances whose deliveries are locked, and count them. Raises SlotLost on any mismatch."""
    values = [_value(o, now) for o in outcomes]
    written = await tx.execute(_WRITE.format(rows=rows("$1", tx.dialect)), as_rows(values))
    if written != len(outcomes):
        raise SlotLost(f"{written} of {len(outcomes)} instances were still pending: record nothing")
    counts = []
    for delivery_id in sorted({o.delivery_id for o in outcomes}):
        own = [o for o in outcomes if o.delivery_id == delivery_id]
        done, failed = sum(o.state in DONE for o in own), sum(o.state == "DEAD" for o in own)
        counts.append({"id": delivery_id, "done": done, "failed": failed})
    await tx.execute(_COUNT.format(rows=rows("$1", tx.dialect)), as_rows(counts))


def _value(outcome: InstanceOutcome, now: datetime) -> dict[str, object]:
    return {
        "id": outcome.id,
        "state": outcome.state,
        "status": outcome.status,
        "attempts": outcome.attempts,
        "breaks": outcome.breaks,
        "broke_at": outcome.broke_at and time_text(outcome.broke_at),
        "available_at": outcome.available_at and time_text(outcome.available_at),
        "error_code": outcome.error_code,
        "finished_at": None if outcome.state == "PENDING" else time_text(now),
        "delivered_sha256": outcome.delivered_sha256,
    }


@dataclass(frozen=True, slots=True)
class DeliveryProgress:
    """A delivery with how many of its instances are in which state."""

    id: int
    attempts: int
    """The most tries that a pending instance has had: what the destination was to blame for is not among them."""
    states: dict[str, int]
    next_due_at: datetime | None
    """When the first pending instance may be tried again; None: at once, or nothing is pending."""
    first_error: str | None
    cancel_requested_by: str | None
    hold_requested_by: str | None
    hold_reason: str | None


async def progress(tx: Database, delivery_ids: Sequence[int]) -> list[DeliveryProgress]:
    """Return how far the deliveries are, from the instances' rows themselves."""
    heads = await tx.fetch(
        "SELECT id, cancel_requested_by, hold_requested_by, hold_reason FROM delivery "
        "WHERE id = ANY($1) ORDER BY id",
        list(delivery_ids),
    )
    counts = await tx.fetch(
        "SELECT delivery_id, state, count(*) AS n, count(available_at) AS later, min(available_at) AS due, "
        "min(error_code) AS error, max(attempts) AS attempts FROM delivery_instance WHERE delivery_id = ANY($1) "
        "GROUP BY delivery_id, state",
        list(delivery_ids),
    )
    return [_progress(head, [c for c in counts if c["delivery_id"] == head["id"]]) for head in heads]


def _progress(head: dict[str, object], counts: Sequence[dict[str, object]]) -> DeliveryProgress:
    by_state = {str(c["state"]): c for c in counts}
    pending, dead = by_state.get("PENDING"), by_state.get("DEAD")
    all_later = pending is not None and pending["later"] == pending["n"]
    return DeliveryProgress(
        id=int(str(head["id"])),
        attempts=0 if pending is None else int(str(pending["attempts"])),
        states={state: int(str(c["n"])) for state, c in by_state.items()},
        next_due_at=as_datetime(pending["due"]) if pending is not None and all_later else None,
        first_error=_text((dead or pending or {}).get("error")),
        cancel_requested_by=_text(head["cancel_requested_by"]),
        hold_requested_by=_text(head["hold_requested_by"]),
        hold_reason=_text(head["hold_reason"]),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


async def cancel_pending(tx: Database, delivery_id: int, *, now: datetime) -> int:
    """Mark what is still pending of a delivery as cancelled; return how many."""
    return await tx.execute(
        "UPDATE delivery_instance SET state = 'CANCELED', finished_at = $2 "
        "WHERE delivery_id = $1 AND state = 'PENDING'",
        delivery_id,
        now,
    )


async def refund(tx: Database, destination_id: int, study_ids: Sequence[int]) -> None:
    """Give back the attempts of pending instances of these studies: the destination was at fault."""
    await tx.execute(
        "UPDATE delivery_instance SET attempts = 0 WHERE state = 'PENDING' AND attempts > 0 AND delivery_id IN "
        "(SELECT id FROM delivery WHERE destination_id = $1 AND study_id = ANY($2) "
        "AND state IN ('SCHEDULED', 'IN_PROGRESS', 'RETRY', 'HELD'))",
        destination_id,
        list(study_ids),
    )
