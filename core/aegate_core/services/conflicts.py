"""Conflicts: those that no single indexing transaction can see, and what people decide about them.

Two indexers may take one SOP Instance UID under two studies at the same moment: neither transaction sees the other's
instance. So each looks again after its commit and before it clears its spool: whoever commits last sees both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from aegate_core.database import Database
from aegate_core.decisions.duplicates import ConflictKind
from aegate_core.decisions.resolutions import Resolution, choices
from aegate_core.errors import Conflict, InvalidValue, NotFound
from aegate_core.stores.index import receiving, troubled
from aegate_core.stores.queue import wishes
from aegate_core.stores.queue.history import Note


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


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a decision did; ``changed`` False: it had been decided so before."""

    changed: bool
    released: tuple[int, ...] = ()
    """Queue items that were held for it and go now."""
    canceled: tuple[int, ...] = ()


async def resolve(tx: Database, conflict_id: int, resolution: Resolution, *, note: Note) -> Resolved:
    """Decide about a conflict; what is held for it goes, or is cancelled, in the same transaction.

    ``note`` says who, when and why. Raises NotFound, InvalidValue for what makes no sense for its kind, and Conflict
    where it was decided otherwise before, or a newer content came since.
    """
    facts = await troubled.lock_conflict(tx, conflict_id)
    if facts is None:
        raise NotFound("there is no such conflict: read the list again")
    if resolution not in choices(facts.kind):
        fitting = ", ".join(choices(facts.kind))
        raise InvalidValue(
            f"resolution of a {facts.kind} must be one of {fitting}, got {resolution}: choose one"
        )
    if facts.resolution is not None:
        if facts.resolution.partition(":")[0] == resolution:
            return Resolved(changed=False)
        raise Conflict("this conflict was resolved otherwise before: look at who did it and how")
    if resolution is Resolution.KEEP_OLDER and not await troubled.prefer_older(
        tx, facts.arrival_id, facts.other_arrival_id
    ):
        raise Conflict(
            "the older content cannot take the place of this one: a newer one came since, or retention removed the "
            "older; look again"
        )
    said = f"{resolution}: {note.message}" if note.message else resolution.value
    await troubled.resolve_conflict(tx, facts.id, said, by=note.actor, now=note.at)
    if facts.kind != ConflictKind.PATIENT_MISMATCH or facts.study_id is None:
        return Resolved(changed=True)
    return await _settle_held(tx, facts.study_id, resolution, note)


async def _settle_held(tx: Database, study_id: int, resolution: Resolution, note: Note) -> Resolved:
    if await troubled.mismatch_is_open(tx, study_id):
        return Resolved(changed=True)
    held = await wishes.held_for(tx, study_id, "PATIENT_MISMATCH")
    step = Note(note.actor, note.at, "CONFLICT_RESOLVED", note.message)
    if resolution is Resolution.SEND_AS_IT_IS:
        return Resolved(changed=True, released=tuple(await wishes.resume(tx, held, step)))
    return Resolved(changed=True, canceled=tuple(await wishes.cancel(tx, held, step)))


async def look_at_quarantined(tx: Database, arrival_ids: Sequence[str], *, note: Note) -> list[str]:
    """Write that a person looked at quarantined objects; they are kept. Return those at which nobody had."""
    said = f"LOOKED_AT: {note.message}" if note.message else "LOOKED_AT"
    return await troubled.look_at_quarantined(tx, arrival_ids, said, by=note.actor, now=note.at)
