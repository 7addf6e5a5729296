"""Projections of custom resources as lists, tombstones left out; and the counts of the index for the dashboard."""

from __future__ import annotations

from aegate_core.database import Database
from aegate_core.stores.listing import Column, Order, Source

_SHARED = "id, namespace, name, uid, generation, labels, spec, conditions, source, created_at, updated_at"
_KEY = "namespace || '/' || name"
_COLUMNS = {
    "key": Column(_KEY),
    "namespace": Column("namespace"),
    "name": Column("name"),
    "text": Column("search_text", search="search_text"),
}

ENTITIES = Source(
    select=f"{_SHARED}, title, node, port, ability, location_code, partition, enabled, endpoint",
    table="application_entity",
    where="deleted_at IS NULL",
    columns=_COLUMNS
    | {
        "title": Column("title"),
        "node": Column("node"),
        "port": Column("port", "bigint"),
        "ability": Column("ability"),
        "location_code": Column("location_code"),
        "partition": Column("partition"),
    },
)
ROUTES = Source(
    select=f"{_SHARED}, enabled", table="image_route", where="deleted_at IS NULL", columns=_COLUMNS
)
PARTITIONS = Source(
    select=f"{_SHARED}, issuer", table="patient_partition", where="deleted_at IS NULL", columns=_COLUMNS
)
BY_NAME = Order("NAME", (("name", "text"), ("id", "bigint")), descending=False)

_UNCLOSED = """
SELECT u.ae AS ae, count(*) AS n, min(u.first_uncovered_at) AS oldest FROM close_unit u WHERE u.due_at IS NOT NULL
GROUP BY u.ae
"""
_SPOOLED = "SELECT ae, sum(arrivals) AS n, min(oldest_received_at) AS oldest FROM spool_backlog GROUP BY ae"
_NO_ROUTE = "SELECT count(*) FROM close_unit WHERE outcome = 'NO_ROUTE'"
_CONFLICTS = "SELECT count(*) FROM conflict WHERE resolved_at IS NULL"
_QUARANTINED = "SELECT count(*) FROM quarantined_object WHERE resolved_at IS NULL"
_NOT_READY = """
SELECT namespace || '/' || name AS ae, conditions FROM application_entity WHERE deleted_at IS NULL
ORDER BY namespace, name
"""


async def keys_matching(db: Database, text: str) -> list[str]:
    """Return the keys of AEs whose search text holds ``text`` (already folded), also of deleted ones."""
    pattern = "%" + "".join(f"\\{c}" if c in "\\%_" else c for c in text) + "%"
    rows = await db.fetch(
        f"SELECT {_KEY} AS ae FROM application_entity WHERE search_text LIKE $1 ESCAPE '\\'", pattern
    )
    return sorted(str(r["ae"]) for r in rows)


async def unclosed_units(db: Database) -> list[dict[str, object]]:
    """Return how many units are not closed, and since when, by source AE."""
    return await db.fetch(_UNCLOSED)


async def spooled(db: Database) -> list[dict[str, object]]:
    """Return how many arrivals are not indexed, and since when, by source AE."""
    return await db.fetch(_SPOOLED)


async def open_counts(db: Database) -> dict[str, int]:
    """Return what a person should look at: no_route, conflicts, quarantined."""
    asked = {"no_route": _NO_ROUTE, "conflicts": _CONFLICTS, "quarantined": _QUARANTINED}
    return {name: int(await db.fetch_value(sql)) for name, sql in asked.items()}


async def entity_conditions(db: Database) -> list[dict[str, object]]:
    """Return the conditions of all live AEs, by their key."""
    return await db.fetch(_NOT_READY)
