"""Destinations and their slots as rows: made from AEs, held, gone, and the state of their breakers.

Identity is namespace/name: an AE that is deleted and made again takes up its queue, holds and breaker.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from aegate_core.database import Database
from aegate_core.stores.queue.history import IDLE, Note, Transition, transition
from aegate_core.stores.queue.lists import as_rows, rows


@dataclass(frozen=True, slots=True)
class Wished:
    """A destination as the AE's spec wants it."""

    ae: str
    max_connections: int
    enabled: bool
    invalid_condition: str | None


async def ensure(tx: Database, aes: Iterable[str], *, now: datetime) -> None:
    """Make rows for destinations that nobody has declared: as gone, so that what is queued for them waits."""
    await tx.execute(
        "INSERT INTO destination (ae, max_connections, enabled, gone_at, breaker, failures_in_row, "
        "refused_in_row, probe_backoff_s) SELECT j.value ->> 'ae', 0, true, $2::timestamptz, 'CLOSED', 0, '[]', 5 "
        f"FROM {rows('$1', tx.dialect)} WHERE true ON CONFLICT (ae) DO NOTHING",
        as_rows([{"ae": ae} for ae in sorted(set(aes))]),
        now,
    )


async def upsert(tx: Database, wished: Sequence[Wished]) -> None:
    """Write what the specs want; holds and breakers stay as they are."""
    values = [
        {"ae": w.ae, "max": w.max_connections, "enabled": w.enabled, "invalid": w.invalid_condition}
        for w in wished
    ]
    await tx.execute(
        "INSERT INTO destination (ae, max_connections, enabled, invalid_condition, breaker, failures_in_row, "
        "refused_in_row, probe_backoff_s) SELECT j.value ->> 'ae', CAST(j.value ->> 'max' AS integer), "
        "(j.value ->> 'enabled')::boolean, j.value ->> 'invalid', 'CLOSED', 0, '[]', 5 "
        f"FROM {rows('$1', tx.dialect)} WHERE true ON CONFLICT (ae) DO UPDATE SET "
        "max_connections = excluded.max_connections, enabled = excluded.enabled, "
        "invalid_condition = excluded.invalid_condition",
        as_rows(values),
    )


async def settle_slots(tx: Database) -> None:
    """Make as many slot rows as each destination's limit; take away those above it that nobody holds.

    A slot above the limit that is held stays until it is given back: an edit cuts no association.
    """
    await tx.execute(
        "WITH RECURSIVE upto(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM upto "
        "WHERE n < (SELECT COALESCE(MAX(max_connections), 0) FROM destination)) "
        "INSERT INTO slot (destination_id, n) SELECT d.id, upto.n FROM destination d "
        "JOIN upto ON upto.n <= d.max_connections WHERE true ON CONFLICT (destination_id, n) DO NOTHING"
    )
    await tx.execute(
        "DELETE FROM slot WHERE token IS NULL AND n > (SELECT d.max_connections FROM destination d "
        "WHERE d.id = slot.destination_id)"
    )


REMOVED = "the Application Entity was removed"
UNWATCHED = "no operator watches its namespace any more: have one watch it again, or cancel the item"


async def mark_gone(
    tx: Database, present: Iterable[str], unwatched: Collection[str] = (), *, now: datetime
) -> list[str]:
    """Mark destinations whose AE is not among ``present``; what waits for them is HELD. Return which went.

    ``unwatched`` of them were not removed.
    """
    gone = await tx.fetch(
        "UPDATE destination SET gone_at = $2 WHERE gone_at IS NULL AND NOT (ae = ANY($1)) RETURNING id, ae",
        sorted(set(present)),
        now,
    )
    for row in gone:
        why = UNWATCHED if row["ae"] in unwatched else REMOVED
        await _hold_waiting(tx, int(row["id"]), why, now=now)
    return sorted(str(row["ae"]) for row in gone)


async def mark_removed(tx: Database, removed: Iterable[str], *, now: datetime) -> None:
    """Mark these destinations as gone: their AEs were removed, whatever others there are."""
    gone = await tx.fetch(
        "UPDATE destination SET gone_at = $2 WHERE gone_at IS NULL AND ae = ANY($1) RETURNING id",
        sorted(set(removed)),
        now,
    )
    for row in gone:
        await _hold_waiting(tx, int(row["id"]), REMOVED, now=now)


async def _hold_waiting(tx: Database, destination_id: int, why: str, *, now: datetime) -> None:
    note = Note("aegate", now, "DESTINATION_GONE", why)
    for state in IDLE:
        waiting = await _waiting(tx, destination_id, f"state = '{state}'")
        await transition(tx, waiting, Transition(state, "HELD", note, {"hold_code": "DESTINATION_GONE"}))


async def take_up_again(tx: Database, present: Iterable[str], *, now: datetime) -> list[str]:
    """Unmark destinations whose AE came back, and release what waited for them. Return which came back."""
    back = await tx.fetch(
        "UPDATE destination SET gone_at = NULL WHERE gone_at IS NOT NULL AND ae = ANY($1) RETURNING id, ae",
        sorted(set(present)),
    )
    note = Note("aegate", now, "DESTINATION_BACK", "the Application Entity is there again")
    for row in back:
        waiting = await _waiting(tx, int(row["id"]), "state = 'HELD' AND hold_code = 'DESTINATION_GONE'")
        released = Transition("HELD", "SCHEDULED", note, {"hold_code": None, "available_at": now})
        await transition(tx, waiting, released)
    return sorted(str(row["ae"]) for row in back)


async def _waiting(tx: Database, destination_id: int, condition: str) -> list[int]:
    found = await tx.fetch(
        f"SELECT id FROM delivery WHERE destination_id = $1 AND {condition}", destination_id
    )
    return [int(r["id"]) for r in found]
