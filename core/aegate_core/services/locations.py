"""The table of locations: filled from a CSV file or through the API, read by conditions and routes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from aegate_core.database import Database
from aegate_core.errors import InvalidInput
from aegate_core.resources.locations import Location
from aegate_core.services import audit
from aegate_core.services.audit import Area, Deed
from aegate_core.stores.queue import operations
from aegate_core.stores.queue.lists import as_rows, rows
from aegate_core.stores.queue.operations import NewOperation

IMPORT = "importLocations"
"""The action of an import, in operations and in the audit."""

AT_ONCE = 5_000
"""Rows of one statement. By feel: half a megabyte."""


async def import_locations(db: Database, locations: Iterable[Location]) -> int:
    """Add the locations, or give those that are there their new names; return how many rows that changed.

    None is removed: what people entered elsewhere stays. Repeating it changes nothing.
    """
    async with db.transaction():
        return sum([await import_location(db, location) for location in locations])


async def import_location(tx: Database, location: Location) -> bool:
    """Add one, or give it its new name; say whether that changed anything."""
    return bool(
        await tx.execute(
            "INSERT INTO location (code, display_name) VALUES ($1, $2) ON CONFLICT (code) DO UPDATE "
            "SET display_name = excluded.display_name WHERE location.display_name <> excluded.display_name",
            location.code,
            location.display_name,
        )
    )


async def remove_location(tx: Database, code: str) -> Location | None:
    """Remove one and return it; None: there is none."""
    row = await tx.fetch_one("DELETE FROM location WHERE code = $1 RETURNING code, display_name", code)
    return None if row is None else Location(row["code"], row["display_name"])


@dataclass(frozen=True, slots=True)
class TableImport:
    """A whole table that somebody imports."""

    actor: str
    address: str
    locations: Sequence[Location]
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did; ``is_new`` False: the same key did it before."""

    operation_id: int
    lines: int
    changed: int
    is_new: bool = True


async def import_table(tx: Database, table: TableImport, *, now: datetime) -> Imported:
    """Import all of a table or, where the transaction is taken back, nothing; as an operation that is over then.

    Raises InvalidInput where the key was used for another table.
    """
    fingerprint = hashlib.sha256(repr(table.locations).encode()).hexdigest()
    new = NewOperation(IMPORT, "Location", table.actor, table.address, table.idempotency_key, fingerprint, {})
    made = await operations.insert(tx, new, now=now)
    if made is None:
        known = await operations.by_key(tx, table.actor, table.idempotency_key or "")
        if known is None or known.fingerprint != fingerprint:
            raise InvalidInput(
                "the idempotency key was used for another wish: make another key, or send as before"
            )
        return Imported(known.id, known.total, known.changed, is_new=False)
    changed = 0
    for at in range(0, len(table.locations), AT_ONCE):
        values = [{"c": p.code, "n": p.display_name} for p in table.locations[at : at + AT_ONCE]]
        changed += await tx.execute(
            "INSERT INTO location (code, display_name) SELECT j.value ->> 'c', j.value ->> 'n' "
            f"FROM {rows('$1', tx.dialect)} WHERE true ON CONFLICT (code) DO UPDATE "
            "SET display_name = excluded.display_name WHERE location.display_name <> excluded.display_name",
            as_rows(values),
        )
    lines = len(table.locations)
    await operations.finish_at_once(tx, made, lines, changed, now=now)
    deed = Deed(
        table.actor,
        IMPORT,
        f"Operation:{made}",
        address=table.address,
        detail={"lines": lines, "changed": changed},
        area=Area.ENTITIES,
    )
    await audit.record(tx, deed, now=now)
    return Imported(made, lines, changed)
