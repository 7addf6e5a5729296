"""Conflicts and quarantined objects, as people decide about them: locked, then written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from aegate_core.database import Database
from aegate_core.stores.index.closing import lock_closing


@dataclass(frozen=True, slots=True)
class ConflictFacts:
    """A conflict, locked with its study."""

    id: int
    kind: str
    arrival_id: str
    other_arrival_id: str
    study_id: int | None
    resolution: str | None
    """None while it is open."""


async def lock_conflict(tx: Database, conflict_id: int) -> ConflictFacts | None:
    """Return a conflict, locked until the end of the transaction.

    Its study is locked first, and against closing: nobody enqueues for it meanwhile by what was so before.
    """
    study_id = await tx.fetch_value("SELECT study_id FROM conflict WHERE id = $1", conflict_id)
    if study_id is not None:
        await lock_closing(tx, int(study_id))
    row = await tx.fetch_one(
        "SELECT id, kind, arrival_id, other_arrival_id, study_id, resolved_at, resolution FROM conflict "
        "WHERE id = $1 FOR UPDATE",
        conflict_id,
    )
    if row is None:
        return None
    return ConflictFacts(
        id=int(row["id"]),
        kind=row["kind"],
        arrival_id=row["arrival_id"],
        other_arrival_id=row["other_arrival_id"],
        study_id=None if row["study_id"] is None else int(row["study_id"]),
        resolution=None if row["resolved_at"] is None else row["resolution"] or "",
    )


async def resolve_conflict(
    tx: Database, conflict_id: int, resolution: str, *, by: str, now: datetime
) -> None:
    """Write how a locked conflict was resolved."""
    await tx.execute(
        "UPDATE conflict SET resolved_at = $2, resolved_by = $3, resolution = $4 WHERE id = $1",
        conflict_id,
        now,
        by[:256],
        resolution[:256],
    )


async def mismatch_is_open(tx: Database, study_id: int) -> bool:
    """Say whether a study still has a PATIENT_MISMATCH that nobody resolved."""
    found = await tx.fetch_one(
        "SELECT id FROM conflict WHERE study_id = $1 AND kind = 'PATIENT_MISMATCH' AND resolved_at IS NULL LIMIT 1",
        study_id,
    )
    return found is not None


async def prefer_older(tx: Database, one: str, other: str) -> bool:
    """Make the older of two arrivals the current one of their instance; False where that cannot be.

    Its image must be here, and the instance must stand at one of the two: else a third came since.
    """
    rows = await tx.fetch(
        "SELECT id, instance_id, removed_at FROM arrival WHERE id = ANY($1) ORDER BY received_at, id LIMIT 1",
        [one, other],
    )
    if not rows or rows[0]["removed_at"] is not None:
        return False
    return bool(
        await tx.execute(
            "UPDATE instance SET current_arrival_id = $2 WHERE id = $1 AND current_arrival_id = ANY($3)",
            rows[0]["instance_id"],
            rows[0]["id"],
            [one, other],
        )
    )


async def look_at_quarantined(
    tx: Database, arrival_ids: Sequence[str], resolution: str, *, by: str, now: datetime
) -> list[str]:
    """Write that a person looked at quarantined objects; return those at which nobody had."""
    rows = await tx.fetch(
        "UPDATE quarantined_object SET resolved_at = $2, resolved_by = $3, resolution = $4 "
        "WHERE arrival_id = ANY($1) AND resolved_at IS NULL RETURNING arrival_id",
        sorted(arrival_ids),
        now,
        by[:256],
        resolution[:256],
    )
    return sorted(str(r["arrival_id"]) for r in rows)
