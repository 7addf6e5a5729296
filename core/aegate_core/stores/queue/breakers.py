"""The breaker's columns of a destination, and who probes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from aegate_core.database import Database, as_datetime, as_json


@dataclass(frozen=True, slots=True)
class BreakerRow:
    """The breaker as columns; `decisions.breaker` says what they mean."""

    state: str
    since: datetime | None
    failures_in_row: int
    refused_in_row: tuple[int, ...]
    last_error: str | None
    next_probe_at: datetime | None
    backoff_s: int
    last_success_at: datetime | None


async def lock(tx: Database, destination_id: int) -> BreakerRow:
    """Return a destination's breaker, locked until the transaction ends."""
    row = await tx.fetch_one(
        "SELECT breaker, breaker_since, failures_in_row, refused_in_row, last_error, next_probe_at, probe_backoff_s, "
        "last_success_at FROM destination WHERE id = $1 FOR UPDATE",
        destination_id,
    )
    if row is None:
        raise LookupError(f"destination {destination_id} has no row; rows of destinations are never deleted")
    refused = as_json(row["refused_in_row"])
    return BreakerRow(
        state=str(row["breaker"]),
        since=_time(row["breaker_since"]),
        failures_in_row=int(row["failures_in_row"]),
        refused_in_row=tuple(int(i) for i in refused) if isinstance(refused, list) else (),
        last_error=row["last_error"],
        next_probe_at=_time(row["next_probe_at"]),
        backoff_s=int(row["probe_backoff_s"]),
        last_success_at=_time(row["last_success_at"]),
    )


async def save(tx: Database, destination_id: int, row: BreakerRow) -> None:
    """Write a breaker that is locked."""
    await tx.execute(
        "UPDATE destination SET breaker = $2, breaker_since = $3, failures_in_row = $4, refused_in_row = $5, "
        "last_error = $6, next_probe_at = $7, probe_backoff_s = $8, last_success_at = $9 WHERE id = $1",
        destination_id,
        row.state,
        row.since,
        row.failures_in_row,
        json.dumps(row.refused_in_row),
        row.last_error,
        row.next_probe_at,
        row.backoff_s,
        row.last_success_at,
    )


@dataclass(frozen=True, slots=True)
class Probe:
    """A destination that this worker alone probes now."""

    destination_id: int
    ae: str
    state: str


async def take_probe(tx: Database, patience: timedelta, *, now: datetime) -> Probe | None:
    """Take the probe that is longest due. If this worker dies over it, it is due again after ``patience``."""
    row = await tx.fetch_one(
        "SELECT id, ae, breaker FROM destination WHERE breaker IN ('OPEN', 'REJECTED_BY_PEER') "
        "AND next_probe_at <= $1 AND gone_at IS NULL AND held_at IS NULL AND enabled "
        "AND invalid_condition IS NULL ORDER BY next_probe_at LIMIT 1 FOR UPDATE SKIP LOCKED",
        now,
    )
    if row is None:
        return None
    await tx.execute("UPDATE destination SET next_probe_at = $2 WHERE id = $1", row["id"], now + patience)
    return Probe(int(row["id"]), str(row["ae"]), str(row["breaker"]))


async def probe_waits(db: Database, *, now: datetime) -> bool:
    """Whether a probe is due: a read that locks nothing."""
    return bool(
        await db.fetch_value(
            "SELECT count(*) FROM destination WHERE breaker IN ('OPEN', 'REJECTED_BY_PEER') AND next_probe_at <= $1 "
            "AND gone_at IS NULL AND held_at IS NULL AND enabled AND invalid_condition IS NULL",
            now,
        )
    )


async def in_trouble(db: Database) -> list[str]:
    """Return the AEs of destinations that are sent nothing, or one trial, though nobody holds or disabled them."""
    rows = await db.fetch(
        "SELECT ae FROM destination WHERE breaker <> 'CLOSED' AND gone_at IS NULL AND held_at IS NULL AND enabled "
        "AND invalid_condition IS NULL ORDER BY ae"
    )
    return [str(row["ae"]) for row in rows]


def _time(value: object) -> datetime | None:
    return None if value is None else as_datetime(value)
