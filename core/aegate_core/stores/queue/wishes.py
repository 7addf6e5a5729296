"""What people want of items, as SQL: hold, resume, cancel, retry, priority; for items and for whole destinations.

An item that is being sent is only asked: the worker sees it before the next instance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from aegate_core.database import Database
from aegate_core.stores.queue.history import IDLE, LIVE, Note, Transition, transition

FREE_OF_HOLD: dict[str, object] = {"hold_code": None, "held_by": None, "hold_reason": None}


async def states_of(tx: Database, ids: Sequence[int]) -> dict[int, str]:
    """Return the state of each of ``ids`` that exists."""
    found = await tx.fetch("SELECT id, state FROM delivery WHERE id = ANY($1)", list(ids))
    return {int(r["id"]): str(r["state"]) for r in found}


async def hold(tx: Database, ids: Sequence[int], note: Note) -> list[int]:
    """Hold what is not being sent; return which."""
    columns: dict[str, object] = {
        "hold_code": "PERSON",
        "held_by": note.actor[:256],
        "hold_reason": note.message,
    }
    moved: list[int] = []
    for state in IDLE:
        moved += await transition(tx, ids, Transition(state, "HELD", note, columns))
    return moved


async def ask_to_hold(tx: Database, ids: Sequence[int], note: Note) -> list[int]:
    """Ask the workers to hold what they are sending; return which."""
    return await _ids(
        tx,
        "UPDATE delivery SET hold_requested_by = $2, hold_reason = $3, version = version + 1 "
        "WHERE id = ANY($1) AND state = 'IN_PROGRESS' RETURNING id",
        list(ids),
        note.actor[:256],
        note.message,
    )


async def resume(tx: Database, ids: Sequence[int], note: Note) -> list[int]:
    """Let held items go; those whose destination is gone stay. Requests to hold are taken back."""
    columns = FREE_OF_HOLD | {"available_at": note.at}
    step = Transition("HELD", "SCHEDULED", note, columns, "hold_code <> 'DESTINATION_GONE'")
    moved = await transition(tx, ids, step)
    return moved + await _ids(
        tx,
        "UPDATE delivery SET hold_requested_by = NULL, hold_reason = NULL, version = version + 1 "
        "WHERE id = ANY($1) AND state = 'IN_PROGRESS' AND hold_requested_by IS NOT NULL RETURNING id",
        list(ids),
    )


async def cancel(tx: Database, ids: Sequence[int], note: Note) -> list[int]:
    """Cancel what is not being sent, with its instances that are not yet out; return which."""
    moved: list[int] = []
    for state in (*IDLE, "HELD"):
        step = Transition(state, "CANCELED", note, FREE_OF_HOLD | {"finished_at": note.at})
        moved += await transition(tx, ids, step)
    await tx.execute(
        "UPDATE delivery_instance SET state = 'CANCELED', finished_at = $2 "
        "WHERE delivery_id = ANY($1) AND state = 'PENDING'",
        moved,
        note.at,
    )
    return moved


async def ask_to_cancel(tx: Database, ids: Sequence[int], note: Note) -> list[int]:
    """Ask the workers to stop sending; return which."""
    return await _ids(
        tx,
        "UPDATE delivery SET cancel_requested_by = $2, version = version + 1 "
        "WHERE id = ANY($1) AND state = 'IN_PROGRESS' RETURNING id",
        list(ids),
        note.actor[:256],
    )


async def held_for(tx: Database, study_id: int, hold_code: str) -> list[int]:
    """Return the items of a study that are held for this reason, locked."""
    found = await tx.fetch(
        "SELECT id FROM delivery WHERE study_id = $1 AND state = 'HELD' AND hold_code = $2 ORDER BY id "
        "FOR NO KEY UPDATE",
        study_id,
        hold_code,
    )
    return [int(r["id"]) for r in found]


async def lock_studies_of(tx: Database, ids: Sequence[int]) -> None:
    """Lock the studies of items until the end of the transaction: retention removes none of their images."""
    await tx.fetch(
        "SELECT id FROM study WHERE id IN (SELECT study_id FROM delivery WHERE id = ANY($1)) ORDER BY id FOR UPDATE",
        list(ids),
    )


async def without_images(tx: Database, ids: Sequence[int]) -> set[int]:
    """Return those that have not sent an image which retention removed."""
    rows = await tx.fetch(
        "SELECT DISTINCT i.delivery_id AS id FROM delivery_instance i JOIN arrival a ON a.id = i.arrival_id "
        "WHERE i.delivery_id = ANY($1) AND i.state NOT IN ('STORED', 'WARNING') AND a.removed_at IS NOT NULL",
        list(ids),
    )
    return {int(r["id"]) for r in rows}


async def retry(tx: Database, ids: Sequence[int], note: Note) -> list[int]:
    """Send again what failed or was cancelled, with fresh attempts; what waits to be tried again goes at once.

    What the peer acknowledged is not sent again.
    """
    fresh: dict[str, object] = {
        "available_at": note.at,
        "finished_at": None,
        "attempts": 0,
        "instances_failed": 0,
        "error_code": None,
        "error_message": None,
        "cancel_requested_by": None,
    }
    moved: list[int] = []
    for state in ("FAILED", "CANCELED", "RETRY"):
        moved += await transition(tx, ids, Transition(state, "SCHEDULED", note, fresh))
    await tx.execute(
        "UPDATE delivery_instance SET state = 'PENDING', attempts = 0, breaks = 0, broke_at = NULL, "
        "available_at = NULL, finished_at = NULL, error_code = NULL "
        "WHERE delivery_id = ANY($1) AND state IN ('DEAD', 'CANCELED', 'PENDING')",
        moved,
    )
    return moved


async def retry_instances(tx: Database, delivery_id: int, arrival_ids: Sequence[str]) -> list[str]:
    """Make dead and cancelled images of an item pending again, with fresh attempts; return which. Lock the item before.

    One whose image retention removed stays.
    """
    again = await tx.fetch(
        "UPDATE delivery_instance SET state = 'PENDING', attempts = 0, breaks = 0, broke_at = NULL, "
        "available_at = NULL, finished_at = NULL, error_code = NULL WHERE delivery_id = $1 AND arrival_id = ANY($2) "
        "AND state IN ('DEAD', 'CANCELED') AND EXISTS (SELECT 1 FROM arrival a "
        "WHERE a.id = delivery_instance.arrival_id AND a.removed_at IS NULL) RETURNING arrival_id",
        delivery_id,
        list(arrival_ids),
    )
    if again:
        await tx.execute(
            "UPDATE delivery SET version = version + 1, instances_failed = (SELECT count(*) FROM delivery_instance i "
            "WHERE i.delivery_id = delivery.id AND i.state = 'DEAD') WHERE id = $1",
            delivery_id,
        )
    return sorted(str(r["arrival_id"]) for r in again)


async def send_again(tx: Database, delivery_id: int, note: Note) -> list[int]:
    """Put a failed or cancelled item, of which something is pending again, back into the line."""
    fresh: dict[str, object] = {
        "available_at": note.at,
        "finished_at": None,
        "error_code": None,
        "error_message": None,
        "cancel_requested_by": None,
    }
    moved: list[int] = []
    for state in ("FAILED", "CANCELED"):
        moved += await transition(tx, [delivery_id], Transition(state, "SCHEDULED", note, fresh))
    return moved


async def set_priority(tx: Database, ids: Sequence[int], priority: int, rank_per_point: int) -> list[int]:
    """Change the priority of live items; their place in the order moves by ``rank_per_point`` for each point.

    What was bumped stays where it is: a bump is above any priority.
    """
    return await _ids(
        tx,
        "UPDATE delivery SET priority = $2::integer, "
        "rank = CASE WHEN rank < 0 THEN rank ELSE rank + (priority - $2::integer) * $3::bigint END, "
        f"version = version + 1 WHERE id = ANY($1) AND state IN {LIVE} RETURNING id",
        list(ids),
        priority,
        rank_per_point,
    )


_FIRST = "SELECT id, rank FROM delivery WHERE destination_id = $1 AND state = 'SCHEDULED' ORDER BY rank, id LIMIT 1"


async def bump(
    tx: Database, ids: Sequence[int], rank: int, *, now: datetime, fixed: bool = False
) -> list[int]:
    """Put live items before all others, also before what was bumped until now; among them their order stays.

    ``rank`` is the place that the clock gives to the first; where it was set back, what waits first for a destination
    gives another, unless it is ``fixed``.
    """
    moving = await tx.fetch(
        f"SELECT id, destination_id FROM delivery WHERE id = ANY($1) AND state IN {LIVE} ORDER BY rank, id "
        "FOR NO KEY UPDATE",
        list(ids),
    )
    place = (
        rank
        if fixed
        else await _first_place(tx, {int(r["destination_id"]) for r in moving}, rank) - len(moving)
    )
    await tx.execute_many(
        "UPDATE delivery SET rank = $2, bumped_at = $3, version = version + 1 WHERE id = $1",
        [(int(r["id"]), place + n, now) for n, r in enumerate(moving)],
    )
    return sorted(int(r["id"]) for r in moving)


async def _first_place(tx: Database, destinations: Iterable[int], rank: int) -> int:
    """Return ``rank``, or the one of what is first in line for one of these destinations, if that is lower."""
    first = [await tx.fetch_one(_FIRST, destination) for destination in sorted(destinations)]
    return min([rank, *(int(row["rank"]) for row in first if row is not None)])


async def hold_destination(tx: Database, ae: str, note: Note) -> bool:
    """Hold a destination: nothing of it is claimed, what is being sent stops before the next instance."""
    return bool(
        await tx.execute(
            "UPDATE destination SET held_at = $2, held_by = $3, hold_reason = $4 WHERE ae = $1 AND held_at IS NULL",
            ae,
            note.at,
            note.actor[:256],
            note.message,
        )
    )


async def resume_destination(tx: Database, ae: str) -> bool:
    """Let a held destination go on."""
    return bool(
        await tx.execute(
            "UPDATE destination SET held_at = NULL, held_by = NULL, hold_reason = NULL "
            "WHERE ae = $1 AND held_at IS NOT NULL",
            ae,
        )
    )


async def probe_destination(tx: Database, ae: str, *, now: datetime) -> bool:
    """Let the next probe of a destination in trouble be due now; not of one that is held, gone or cannot be sent to."""
    return bool(
        await tx.execute(
            "UPDATE destination SET next_probe_at = $2 WHERE ae = $1 AND breaker IN ('OPEN', 'REJECTED_BY_PEER') "
            "AND next_probe_at > $2 AND gone_at IS NULL AND held_at IS NULL AND enabled AND invalid_condition IS NULL",
            ae,
            now,
        )
    )


async def _ids(tx: Database, sql: str, *arguments: object) -> list[int]:
    return sorted(int(r["id"]) for r in await tx.fetch(sql, *arguments))
