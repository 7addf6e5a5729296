"""The one way to the database: PostgreSQL or SQLite behind the same few methods, Tortoise models included."""

from aegate_core.database.clock import DatabaseClock
from aegate_core.database.connection import (
    Database,
    as_datetime,
    as_int,
    as_json,
    check_database_url,
    open_database,
)
from aegate_core.database.deadline import time_limit
from aegate_core.database.migrate import applied_migrations, ensure_schema, known_migrations, migrate

__all__ = [
    "Database",
    "DatabaseClock",
    "applied_migrations",
    "as_datetime",
    "as_int",
    "as_json",
    "check_database_url",
    "ensure_schema",
    "known_migrations",
    "migrate",
    "open_database",
    "time_limit",
]
