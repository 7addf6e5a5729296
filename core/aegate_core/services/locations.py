"""The table of locations: filled from a CSV file or through the API, read by conditions and routes."""

from __future__ import annotations

from collections.abc import Iterable

from aegate_core.database import Database
from aegate_core.resources.locations import Location


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
