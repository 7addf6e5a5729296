"""Conflicts that no single indexing transaction can see.

Two indexers may take one SOP Instance UID under two studies at the same moment: neither transaction sees the other's
instance. So each looks again after its commit and before it clears its spool: whoever commits last sees both.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from aegate_core.database import Database
from aegate_core.decisions.duplicates import ConflictKind
from aegate_core.stores.index import receiving


async def raise_missed_conflicts(db: Database, sop_instance_uids: Sequence[str], *, now: datetime) -> None:
    """Raise SAME_UID_OTHER_STUDY for instances that share a UID and were both taken for new. Safe to repeat."""
    first: dict[tuple[str, str], receiving.Place] = {}
    missed: list[tuple[object, ...]] = []
    for place in await receiving.shared_uids(db, sop_instance_uids):
        if place.is_raised:
            continue
        other = first.setdefault((place.partition, place.sop_instance_uid), place)
        if other is not place:
            arrivals = (place.current_arrival_id, other.current_arrival_id)
            missed.append((ConflictKind.SAME_UID_OTHER_STUDY.value, *arrivals, place.study_id, now))
    if not missed:
        return

    async def write(tx: Database) -> None:
        await receiving.insert_conflicts(tx, missed)
        await receiving.mark_conflicting(tx, [str(row[1]) for row in missed])

    await db.atomically(write)
