"""Holding a slot: renew its lease, hear what people want of its deliveries, give it back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from aegate_core.database import Database
from aegate_core.errors import Conflict


class SlotLost(Conflict):
    """Another worker may hold it by now: abort the association, record nothing more."""

    code = "SLOT_LOST"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What people want of the deliveries of a slot: to be obeyed before the next instance."""

    cancel: frozenset[int] = frozenset()
    hold: frozenset[int] = frozenset()
    stop: bool = False
    """The destination is held, disabled, invalid or gone."""

    def unwanted(self, delivery_id: int) -> bool:
        """Whether nothing more of this delivery may be sent."""
        return self.stop or delivery_id in self.cancel or delivery_id in self.hold


async def renew(db: Database, slot_id: int, token: int, expires_at: datetime) -> None:
    """Extend the lease of a slot that we hold. Raises SlotLost."""
    renewed = await db.execute(
        "UPDATE slot SET expires_at = $3 WHERE id = $1 AND token = $2", slot_id, token, expires_at
    )
    if not renewed:
        raise SlotLost(f"slot {slot_id} is no longer held with token {token}: abort its association")


async def wishes(db: Database, slot_id: int, token: int) -> Wishes:
    """Return what people want of the slot's deliveries now. Raises SlotLost where none is of this token any more."""
    found = await db.fetch(
        "SELECT q.id AS id, q.cancel_requested_by AS cancel, q.hold_requested_by AS hold, "
        "(d.held_at IS NOT NULL OR d.gone_at IS NOT NULL OR NOT d.enabled OR d.invalid_condition IS NOT NULL) AS stop "
        "FROM delivery q JOIN destination d ON d.id = q.destination_id "
        "WHERE q.slot_id = $1 AND q.token = $2 AND q.state = 'IN_PROGRESS'",
        slot_id,
        token,
    )
    if not found:
        raise SlotLost(f"no delivery of slot {slot_id} is of token {token} any more: abort its association")
    return Wishes(
        cancel=frozenset(int(r["id"]) for r in found if r["cancel"] is not None),
        hold=frozenset(int(r["id"]) for r in found if r["hold"] is not None),
        stop=any(r["stop"] for r in found),
    )


async def release(tx: Database, slot_id: int, token: int, *, now: datetime) -> None:
    """Give the slot back; one above the destination's limit goes away. One that was lost is left alone."""
    await tx.execute(
        "UPDATE slot SET token = NULL, worker = NULL, expires_at = NULL, last_used_at = $3 "
        "WHERE id = $1 AND token = $2",
        slot_id,
        token,
        now,
    )
    await tx.execute(
        "DELETE FROM slot WHERE id = $1 AND token IS NULL AND n > "
        "(SELECT d.max_connections FROM destination d WHERE d.id = slot.destination_id)",
        slot_id,
    )


async def lock_deliveries(tx: Database, slot_id: int, token: int, delivery_ids: tuple[int, ...]) -> None:
    """Lock the deliveries of a slot that we hold, for changing them. Raises SlotLost where one is not ours any more."""
    ours = await tx.fetch(
        "SELECT id FROM delivery WHERE id = ANY($1) AND slot_id = $2 AND token = $3 AND state = 'IN_PROGRESS' "
        "FOR UPDATE",
        list(delivery_ids),
        slot_id,
        token,
    )
    if len(ours) != len(set(delivery_ids)):
        raise SlotLost(
            f"{len(ours)} of {len(delivery_ids)} deliveries are still of token {token}: record nothing"
        )


async def free_expired(tx: Database, *, now: datetime) -> int:
    """Take slots from workers that stopped renewing them; return how many."""
    return await tx.execute(
        "UPDATE slot SET token = NULL, worker = NULL, expires_at = NULL WHERE token IS NOT NULL AND expires_at < $1",
        now,
    )
