"""New deliveries into the queue, a whole batch in four statements, and nothing twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from aegate_core.database import Database
from aegate_core.stores.queue.history import Note, record
from aegate_core.stores.queue.lists import as_rows, rows


@dataclass(frozen=True, slots=True)
class NewRow:
    """A delivery as it is inserted; ``destination`` is an AE key."""

    destination: str
    level: str
    study_id: int
    unit_uid: str
    source_ae: str
    partition: str
    location_code: str | None
    priority: int
    rank: int
    supplementary: bool
    requested_by: str
    dedup_key: str
    size_bytes: int
    arrival_ids: tuple[str, ...]
    hold_code: str | None
    hold_reason: str | None


_INSERT = """
INSERT INTO delivery (destination_id, level, study_id, unit_uid, source_ae, partition, location_code, state,
  priority, rank, supplementary, requested_by, dedup_key, available_at, attempts, hold_code, held_by, hold_reason,
  instances_total, instances_done, instances_failed, size_bytes, created_at, version)
SELECT d.id, j.value ->> 'level', CAST(j.value ->> 'study_id' AS bigint), j.value ->> 'unit_uid',
  j.value ->> 'source_ae', j.value ->> 'partition', j.value ->> 'location_code',
  CASE WHEN j.value ->> 'hold_code' IS NULL AND d.gone_at IS NULL THEN 'SCHEDULED' ELSE 'HELD' END,
  CAST(j.value ->> 'priority' AS integer), CAST(j.value ->> 'rank' AS bigint),
  (j.value ->> 'supplementary')::boolean, j.value ->> 'requested_by', j.value ->> 'dedup_key',
  $2::timestamptz, 0,
  COALESCE(j.value ->> 'hold_code', CASE WHEN d.gone_at IS NULL THEN NULL ELSE 'DESTINATION_GONE' END),
  NULL, j.value ->> 'hold_reason', CAST(j.value ->> 'instances' AS integer), 0, 0,
  CAST(j.value ->> 'size_bytes' AS bigint), $2::timestamptz, 1
FROM {rows} JOIN destination d ON d.ae = j.value ->> 'destination'
WHERE true
ON CONFLICT (dedup_key) DO NOTHING
RETURNING id, dedup_key, state, requested_by, hold_code
"""

_INSERT_INSTANCES = """
INSERT INTO delivery_instance (delivery_id, arrival_id, state, attempts, breaks, coerced)
SELECT CAST(j.value ->> 'd' AS bigint), j.value ->> 'a', 'PENDING', 0, 0, '{{}}'
FROM {rows}
WHERE true
ON CONFLICT (delivery_id, arrival_id) DO NOTHING
"""


async def insert(tx: Database, new: Sequence[NewRow], *, now: datetime) -> list[int]:
    """Insert those whose dedup key is new, with their instances and first history row; return the new ids.

    Every destination must have its row (`destinations.ensure`).
    """
    by_key = {row.dedup_key: row for row in new}
    values = [_as_value(row) for row in by_key.values()]
    sql = _INSERT.format(rows=rows("$1", tx.dialect))
    inserted = await tx.fetch(sql, as_rows(values), now)
    if not inserted:
        return []
    pairs = [{"d": r["id"], "a": arrival} for r in inserted for arrival in by_key[r["dedup_key"]].arrival_ids]
    await tx.execute(_INSERT_INSTANCES.format(rows=rows("$1", tx.dialect)), as_rows(pairs))
    await _first_events(tx, inserted, now)
    return sorted(int(r["id"]) for r in inserted)


def _as_value(row: NewRow) -> dict[str, object]:
    names = (
        "destination level study_id unit_uid source_ae partition location_code priority rank supplementary "
        "requested_by dedup_key size_bytes hold_code hold_reason"
    )
    return {name: getattr(row, name) for name in names.split()} | {"instances": len(row.arrival_ids)}


async def _first_events(tx: Database, inserted: Sequence[dict[str, object]], now: datetime) -> None:
    groups: dict[tuple[str, str, str | None], list[int]] = {}
    for r in inserted:
        hold = None if r["hold_code"] is None else str(r["hold_code"])
        groups.setdefault((str(r["requested_by"]), str(r["state"]), hold), []).append(int(str(r["id"])))
    for (actor, state, hold), ids in groups.items():
        await record(tx, ids, None, state, Note(actor, now, hold))


async def ids_of(tx: Database, dedup_keys: Sequence[str]) -> list[int]:
    """Return the ids of the deliveries with these keys, whenever they were made."""
    found = await tx.fetch("SELECT id FROM delivery WHERE dedup_key = ANY($1) ORDER BY id", list(dedup_keys))
    return [int(r["id"]) for r in found]
