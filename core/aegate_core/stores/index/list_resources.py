"""Projections of custom resources as lists, tombstones left out; and the counts of the index for the dashboard."""

from __future__ import annotations

from dataclasses import replace

from aegate_core.database import Database, as_int
from aegate_core.stores.index.list_studies import CONFLICTS, QUARANTINE, UNITS
from aegate_core.stores.listing import SORTED, Column, Compare, Order, Source, read_where
from aegate_core.stores.scope import ALL_ROWS, Belongs, Owner, Scope, by_entity, by_partition, fetch_own

_SHARED = "id, namespace, name, uid, generation, labels, spec, conditions, source, created_at, updated_at"
_KEY = "namespace || '/' || name"
_COLUMNS = {
    "key": Column(_KEY),
    "namespace": Column("namespace"),
    "name": Column("name"),
    "text": Column("search_text", search="search_text"),
}

_READY = (
    "(SELECT c.value ->> 'status' FROM jsonb_array_elements(conditions) AS c "
    "WHERE c.value ->> 'type' = 'Ready' LIMIT 1)"
)
_WORKING = {
    "enabled": Column("enabled", "boolean"),
    "ready": Column(_READY),
    "comment": Column("(spec ->> 'comment')"),
}
"""Of what works: AEs and routes. No index: a hospital has some thousand, and their list is short."""

ENTITIES = Source(
    select=f"{_SHARED}, title, node, port, ability, location_code, partition, enabled, endpoint",
    table="application_entity",
    belongs=(Belongs(Owner.NAMESPACE, "namespace"),),
    where="deleted_at IS NULL",
    columns=_COLUMNS
    | _WORKING
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
    select=f"{_SHARED}, enabled",
    table="image_route",
    belongs=(Belongs(Owner.NAMESPACE_OF_PARTITION, "namespace"),),
    where="deleted_at IS NULL",
    columns=_COLUMNS
    | _WORKING
    | {
        "priority": Column("CAST(spec ->> 'priority' AS bigint)", "bigint"),
        "level": Column("(spec ->> 'level')"),
        "to": Column(
            "t.value",
            within="EXISTS (SELECT 1 FROM jsonb_array_elements_text(spec -> 'to') AS t WHERE {})",
        ),
    },
)
PARTITIONS = Source(
    select=f"{_SHARED}, issuer",
    table="patient_partition",
    belongs=(Belongs(Owner.PARTITION, _KEY), Belongs(Owner.NAMESPACE, "namespace")),
    where="deleted_at IS NULL",
    columns=_COLUMNS | {"issuer_of_patient_id": Column("issuer")},
)
LOCATIONS = Source(
    select="code, display_name", table="location", columns={"code": Column("code")}, belongs=()
)
BY_CODE = Order("CODE", ((f"code{SORTED}", "text"),), descending=False)
BY_NAME = Order("NAME", ((f"name{SORTED}", "text"), ("id", "bigint")), descending=False)

_UNCLOSED = """
SELECT u.ae AS ae, count(*) AS n, min(u.first_uncovered_at) AS oldest FROM close_unit u
WHERE u.due_at IS NOT NULL AND {own} GROUP BY u.ae
"""
_SPOOLED = """
SELECT b.ae AS ae, sum(b.arrivals) AS n, min(b.oldest_received_at) AS oldest FROM spool_backlog b WHERE {own}
GROUP BY b.ae
"""
_OPEN = {
    "no_route": ("SELECT count(*) AS n FROM close_unit u WHERE u.outcome = 'NO_ROUTE' AND {own}", UNITS),
    "conflicts": ("SELECT count(*) AS n FROM conflict c WHERE c.resolved_at IS NULL AND {own}", CONFLICTS),
    "quarantined": (
        "SELECT count(*) AS n FROM quarantined_object o WHERE o.resolved_at IS NULL AND {own}",
        QUARANTINE,
    ),
}
_NOT_READY = """
SELECT namespace || '/' || name AS ae, conditions FROM application_entity WHERE deleted_at IS NULL AND {own}
ORDER BY namespace, name
"""


async def keys_matching(db: Database, where: Compare) -> list[str]:
    """Return the keys of AEs that ``where`` finds, also of deleted ones.

    Of all AEs, whoever asks: they only find among the caller's own rows.
    """
    return await _keys(db, ENTITIES, where)


async def routes_matching(db: Database, where: Compare) -> list[str]:
    """Return the keys of routes that ``where`` finds, also of deleted ones; of all, as `keys_matching` does."""
    return await _keys(db, ROUTES, where)


async def _keys(db: Database, source: Source, where: Compare) -> list[str]:
    found = await read_where(db, replace(source, select=f"{_KEY} AS key", where="TRUE"), where, ALL_ROWS)
    return sorted(str(row["key"]) for row in found)


async def known_partitions(db: Database) -> list[str]:
    """Return the partitions that are declared or that an AE, live or gone, names; not those of a caller, but all."""
    rows = await db.fetch(
        f"SELECT {_KEY} AS name FROM patient_partition UNION SELECT partition FROM application_entity "
        "UNION SELECT namespace || '/default' FROM application_entity"
    )
    return sorted(str(row["name"]) for row in rows)


async def unclosed_units(db: Database, scope: Scope) -> list[dict[str, object]]:
    """Return how many units are not closed, and since when, by source AE."""
    return await fetch_own(db, _UNCLOSED, UNITS.belongs, scope)


async def spooled(db: Database, scope: Scope) -> list[dict[str, object]]:
    """Return how many arrivals are not indexed, and since when, by source AE; of AEs of the caller's partitions."""
    return await fetch_own(db, _SPOOLED, by_entity("b.ae"), scope)


async def open_counts(db: Database, scope: Scope) -> dict[str, int]:
    """Return what a person should look at: no_route, conflicts, quarantined."""
    found = {}
    for name, (sql, source) in _OPEN.items():
        (row,) = await fetch_own(db, sql, source.belongs, scope)
        found[name] = as_int(row["n"])
    return found


async def entity_conditions(db: Database, scope: Scope) -> list[dict[str, object]]:
    """Return the conditions of the live AEs of the caller's partitions, by their key."""
    return await fetch_own(db, _NOT_READY, by_partition("partition"), scope)


_ENTITY = f"SELECT id FROM application_entity WHERE deleted_at IS NULL AND {_KEY} = $1 AND {{own}}"


async def sees_entity(db: Database, ae: str, scope: Scope) -> bool:
    """Whether there is such an AE, of a partition that the caller sees."""
    return bool(await fetch_own(db, _ENTITY, by_partition("partition"), scope, ae))
