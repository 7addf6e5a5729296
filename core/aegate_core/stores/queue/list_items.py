"""Queue items, their instances and history, destinations, as lists; the counts of the queue for the dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from aegate_core.database import Database, as_int
from aegate_core.stores.listing import SORTED, Column, Order, Source, read_by
from aegate_core.stores.of_study import study_columns
from aegate_core.stores.scope import ALL_ROWS, Scope, by_entity, by_partition, fetch_own

_OF_AN_ITEM = "EXISTS (SELECT 1 FROM delivery own WHERE own.id = {item} AND {{}})"
_OF_A_SERIES = (
    "q.id IN (SELECT x.id FROM series r JOIN delivery x ON x.study_id = r.study_id WHERE {} AND "
    "(x.level = 'Series' AND x.unit_uid = r.series_instance_uid OR x.level = 'Image' AND x.unit_uid IN "
    "(SELECT i.sop_instance_uid FROM instance i WHERE i.series_id = r.id)))"
)
_OF_AN_INSTANCE = (
    "q.id IN (SELECT x.id FROM instance i JOIN series r ON r.id = i.series_id JOIN delivery x "
    "ON x.study_id = r.study_id AND x.level = 'Image' AND x.unit_uid = i.sop_instance_uid WHERE {})"
)

ITEMS = Source(
    select=(
        "q.id AS id, q.destination_id AS destination_key, d.ae AS destination, q.level AS level, "
        "q.study_id AS study_key, q.unit_uid AS unit_uid, q.source_ae AS source_ae, q.partition AS partition, "
        "q.location_code AS location_code, q.state AS state, q.priority AS priority, q.bumped_at AS bumped_at, "
        "q.supplementary AS supplementary, q.requested_by AS requested_by, q.available_at AS available_at, "
        "q.attempts AS attempts, q.hold_code AS hold_code, q.held_by AS held_by, q.hold_reason AS hold_reason, "
        "q.cancel_requested_by AS cancel_requested_by, q.hold_requested_by AS hold_requested_by, "
        "q.instances_total AS instances_total, q.instances_done AS instances_done, "
        "q.instances_failed AS instances_failed, q.size_bytes AS size_bytes, q.error_code AS error_code, "
        "q.error_message AS error_message, q.created_at AS created_at, q.started_at AS started_at, "
        "q.finished_at AS finished_at, q.version AS version"
    ),
    table="delivery q JOIN destination d ON d.id = q.destination_id",
    belongs=by_partition("q.partition"),
    columns={
        "id": Column("q.id", "bigint"),
        "state": Column("q.state"),
        "destination": Column("d.ae"),
        "destination_key": Column("q.destination_id", "bigint"),
        "source_ae": Column("q.source_ae"),
        "partition": Column("q.partition"),
        "location_code": Column("q.location_code"),
        "requested_by": Column("q.requested_by"),
        "priority": Column("q.priority", "bigint"),
        "attempts": Column("q.attempts", "bigint"),
        "created_at": Column("q.created_at", "timestamptz"),
        "finished_at": Column("q.finished_at", "timestamptz"),
        "unit_uid": Column("q.unit_uid"),
        "error_code": Column("q.error_code"),
        "hold_code": Column("q.hold_code"),
        "study": Column("q.study_id", "bigint"),
        "series": Column("r.id", "bigint", within=_OF_A_SERIES),
        "instance": Column("i.id", "bigint", within=_OF_AN_INSTANCE),
    }
    | study_columns("q.study_id"),
)
LIVE = "('SCHEDULED', 'IN_PROGRESS', 'RETRY', 'HELD')"

ITEM_ORDERS = {
    "NEWEST": Order("NEWEST", (("q.created_at", "timestamptz"), ("q.id", "bigint"))),
    "OLDEST": Order("OLDEST", (("q.created_at", "timestamptz"), ("q.id", "bigint")), descending=False),
    "LAST_FINISHED": Order(
        "LAST_FINISHED",
        (("q.finished_at", "timestamptz"), ("q.id", "bigint")),
        where="q.finished_at IS NOT NULL",
    ),
    "NEXT": Order(
        "NEXT", (("(q.rank + 0)", "bigint"), ("q.id", "bigint")), descending=False, where=f"q.state IN {LIVE}"
    ),
}

ITEM_INSTANCES = Source(
    select=(
        "x.id AS id, x.arrival_id AS arrival_id, a.sop_instance_uid AS sop_instance_uid, "
        "a.sop_class_uid AS sop_class_uid, x.state AS state, x.status AS status, x.attempts AS attempts, "
        "x.error_code AS error_code, x.available_at AS available_at, x.finished_at AS finished_at, "
        "x.coerced AS coerced"
    ),
    table="delivery_instance x LEFT JOIN arrival a ON a.id = x.arrival_id",
    belongs=by_partition("own.partition", _OF_AN_ITEM.format(item="x.delivery_id")),
    columns={
        "id": Column("x.id", "bigint"),
        "delivery": Column("x.delivery_id", "bigint"),
        "state": Column("x.state"),
    },
)
ITEM_INSTANCE_ORDER = Order("ORDER", (("x.id", "bigint"),), descending=False)

EVENTS = Source(
    select=(
        "e.id AS id, e.delivery_id AS delivery_key, e.at AS at, e.from_state AS from_state, e.to_state AS to_state, "
        "e.actor AS actor, e.code AS code, e.message AS message"
    ),
    table="delivery_event e",
    belongs=by_partition("own.partition", _OF_AN_ITEM.format(item="e.delivery_id")),
    columns={"delivery": Column("e.delivery_id", "bigint")},
)
EVENT_ORDER = Order("NEWEST", (("e.id", "bigint"),))

DESTINATIONS = Source(
    select=(
        "d.id AS id, d.ae AS ae, d.max_connections AS max_connections, d.enabled AS enabled, d.gone_at AS gone_at, "
        "d.invalid_condition AS invalid_condition, d.held_at AS held_at, d.held_by AS held_by, "
        "d.hold_reason AS hold_reason, d.breaker AS breaker, d.breaker_since AS breaker_since, "
        "d.failures_in_row AS failures_in_row, d.last_error AS last_error, d.next_probe_at AS next_probe_at, "
        "d.last_used_at AS last_used_at, d.last_success_at AS last_success_at"
    ),
    table="destination d",
    belongs=by_entity("d.ae"),
    columns={
        "id": Column("d.id", "bigint"),
        "ae": Column("d.ae"),
        "text": Column(
            "a.search_text",
            within="d.ae IN (SELECT namespace || '/' || name FROM application_entity a WHERE {})",
            search="a.search_text",
        ),
        "breaker": Column("d.breaker"),
        "held_at": Column("d.held_at", "timestamptz"),
        "gone_at": Column("d.gone_at", "timestamptz"),
        "last_success_at": Column("d.last_success_at", "timestamptz"),
    },
)
DESTINATION_ORDER = Order("NAME", ((f"d.ae{SORTED}", "text"), ("d.id", "bigint")), descending=False)

UNFINISHED = f"""
SELECT d.ae AS destination, c.source_ae AS source_ae, c.location_code AS location_code, c.requested_by AS requested_by,
  c.partition AS partition, c.state AS state, c.n AS n, c.oldest AS oldest
FROM (
  SELECT q.destination_id, q.source_ae, q.location_code, q.requested_by, q.partition, q.state, count(*) AS n,
    min(q.created_at) AS oldest
  FROM delivery q WHERE q.state IN {LIVE} AND {{own}}
  GROUP BY q.destination_id, q.source_ae, q.location_code, q.requested_by, q.partition, q.state
) AS c JOIN destination d ON d.id = c.destination_id
"""
_FAILED = """
SELECT count(*) AS n FROM (SELECT 1 AS one FROM delivery q WHERE q.state = 'FAILED' AND {own} LIMIT 10001) AS failed
"""
_COUNTS = f"""
SELECT q.destination_id AS destination_key, q.state AS state, count(*) AS n FROM delivery q
WHERE q.destination_id = ANY($1::bigint[]) AND q.state IN {LIVE} AND {{own}} GROUP BY q.destination_id, q.state
"""
_SLOTS = """
SELECT destination_id AS destination_key, n, worker, expires_at, last_used_at FROM slot
WHERE destination_id = ANY($1::bigint[]) AND token IS NOT NULL AND expires_at >= $2::timestamptz
ORDER BY destination_id, n
"""


async def unfinished(db: Database, scope: Scope) -> list[dict[str, object]]:
    """Return counts of unfinished items by destination, source, location, who asked, partition, state."""
    return await fetch_own(db, UNFINISHED, ITEMS.belongs, scope)


async def destination_ids(db: Database, aes: Sequence[str]) -> list[int]:
    """Return the ids of the destinations of AEs, also of those that are gone; of all, whoever asks."""
    found = await read_by(db, DESTINATIONS, "ae", aes, ALL_ROWS)
    return sorted(int(str(row["id"])) for row in found)


async def failed(db: Database, scope: Scope) -> int:
    """Return how many items are FAILED, whenever they did; 10,001 stands for more."""
    (row,) = await fetch_own(db, _FAILED, ITEMS.belongs, scope)
    return as_int(row["n"])


async def live_counts(db: Database, destinations: Sequence[int], scope: Scope) -> list[dict[str, object]]:
    """Return how many unfinished items each destination has, by state."""
    return await fetch_own(db, _COUNTS, ITEMS.belongs, scope, list(destinations))


async def slots_in_use(db: Database, destinations: Sequence[int], now: datetime) -> list[dict[str, object]]:
    """Return the slots that a living lease holds."""
    return await db.fetch(_SLOTS, list(destinations), now)


async def lock_versions(tx: Database, ids: Sequence[int], scope: Scope) -> dict[int, int]:
    """Return the version of each item that the caller may see; nobody else changes them until the transaction ends."""
    rows = await fetch_own(
        tx,
        "SELECT q.id AS id, q.version AS version FROM delivery q WHERE q.id = ANY($1::bigint[]) AND {own} "
        "ORDER BY q.id FOR NO KEY UPDATE",
        ITEMS.belongs,
        scope,
        list(ids),
    )
    return {as_int(r["id"]): as_int(r["version"]) for r in rows}
