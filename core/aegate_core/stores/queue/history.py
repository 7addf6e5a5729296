"""Every transition of a delivery: one conditional UPDATE and one history row, in one transaction.

Nothing else writes ``delivery.state`` but the claim and the enqueueing, which write their history here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from aegate_core.database import Database

IDLE = ("SCHEDULED", "RETRY")
LIVE = ("SCHEDULED", "RETRY", "IN_PROGRESS", "HELD")
FINISHED = ("COMPLETED", "WARNING", "FAILED", "CANCELED")


@dataclass(frozen=True, slots=True)
class Note:
    """What the history says of a transition; no patient data."""

    actor: str
    at: datetime
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """From one state to another, with the columns that change with it."""

    source: str
    target: str
    note: Note
    columns: Mapping[str, object] = field(default_factory=dict)
    condition: str = ""
    """More SQL that must hold, without arguments."""


async def transition(tx: Database, ids: Sequence[int], step: Transition) -> list[int]:
    """Move those of ``ids`` that are in the source state; return which they were. Others are left alone."""
    if not ids:
        return []
    sets = "".join(f", {name} = ${n}" for n, name in enumerate(step.columns, start=4))
    condition = f" AND {step.condition}" if step.condition else ""
    changed = await tx.fetch(
        f"UPDATE delivery SET state = $2, version = version + 1{sets} "
        f"WHERE id = ANY($1) AND state = $3{condition} RETURNING id",
        list(ids),
        step.target,
        step.source,
        *step.columns.values(),
    )
    moved = sorted(int(row["id"]) for row in changed)
    await record(tx, moved, step.source, step.target, step.note)
    return moved


async def record(tx: Database, ids: Sequence[int], source: str | None, target: str, note: Note) -> None:
    """Write one history row for each of ``ids``."""
    if ids:
        await tx.execute(
            "INSERT INTO delivery_event (delivery_id, at, from_state, to_state, actor, code, message) "
            "SELECT id, $2::timestamptz, $3, $4, $5, $6, $7 FROM delivery WHERE id = ANY($1)",
            list(ids),
            note.at,
            source,
            target,
            note.actor[:320],
            note.code and note.code[:32],
            note.message and note.message[:256],
        )
