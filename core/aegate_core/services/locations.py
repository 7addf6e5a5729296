"""The table of locations: filled from a CSV file or through the API, read by conditions and routes."""

from __future__ import annotations

from collections.abc import Iterable

from aegate_core.database import Database
from aegate_core.resources.locations import Location


async def import_locations(db: Database, locations: Iterable[Location]) -> int:
    """Add the locations, or give those that are there their new names; return how many rows that changed.

    None is removed: what people entered elsewhere stays. Repeating it changes nothing.
    """
    changed = 0
    async with db.transaction():
        for location in locations:
            changed += await db.execute(
                "INSERT INTO location (code, display_name) VALUES ($1, $2) ON CONFLICT (code) DO UPDATE "
                "SET display_name = excluded.display_name WHERE location.display_name <> excluded.display_name",
                location.code,
                location.display_name,
            )
    return changed
