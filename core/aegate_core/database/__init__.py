"""The one way to the database: PostgreSQL or SQLite behind the same few methods, Tortoise models included."""

from aegate_core.database.connection import Database, as_datetime, as_json, open_database
from aegate_core.database.migrate import ensure_schema, migrate

__all__ = ["Database", "as_datetime", "as_json", "ensure_schema", "migrate", "open_database"]
