"""All rows of a database, to say that nothing was changed."""

from __future__ import annotations

from aegate_core.database import Database

NOT_A_CHANGE = ("audit_event", "tortoise_migrations", "sqlite_sequence")
"""A refusal may well be written down."""


async def snapshot(db: Database) -> dict[str, list[str]]:
    """Return the rows of each table, in an order of their own."""
    names = await db.fetch(
        "SELECT name FROM sqlite_master WHERE type = 'table'"
        if db.is_sqlite
        else "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = current_schema()"
    )
    tables = sorted(str(row["name"]) for row in names)
    return {
        table: sorted(str(row) for row in await db.fetch(f"SELECT * FROM {table}"))
        for table in tables
        if table not in NOT_A_CHANGE
    }
