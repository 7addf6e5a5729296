"""Which database a backup can be restored into: of the same kind, empty, and not older than the one it comes from."""

from __future__ import annotations

from dataclasses import dataclass

from aegate_core.database import Database, open_database
from aegate_core.database.postgres_tools import Tool, find_tool
from aegate_core.errors import InvalidInput, SchemaMismatch, StorageError
from aegate_core.services.backup.index_copy import server_major
from aegate_core.services.backup.manifest import Manifest

_TABLES = """
SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
    AND d.deptype = 'e')
ORDER BY c.relname
"""


@dataclass(frozen=True, slots=True)
class DatabaseToFill:
    """An empty database in PostgreSQL, and the pg_restore that fits."""

    url: str
    tool: Tool


async def database_to_fill(manifest: Manifest, url: str | None) -> DatabaseToFill | None:
    """Return the database to restore into; None: the data folder gets it. Nothing is changed.

    Raises InvalidInput (another kind), StorageError (not empty, no rights, does not answer), SchemaMismatch (older),
    NotFound (no pg_restore).
    """
    if manifest.database == "sqlite":
        if url is not None:
            raise InvalidInput(
                "the backup holds an index in SQLite, which is restored into the data folder: leave out --database"
            )
        return None
    if url is None or not url.startswith("postgres://"):
        came = "one in SQLite" if url else "no database"
        raise InvalidInput(
            f"the backup holds an index in PostgreSQL, got {came} to restore it into: make an empty one (createdb) and "
            "give its URL with --database postgres://user@host/name"
        )
    async with open_database(url) as db:
        major = await server_major(db)
        if major < manifest.server_major:
            raise SchemaMismatch(
                f"the backup was made of PostgreSQL {manifest.server_major}, got an older server, {major}: "
                f"restore into {manifest.server_major} or newer"
            )
        await _ensure_empty(db)
    return DatabaseToFill(url, find_tool("pg_restore", at_least=max(major, manifest.dump_major)))


async def _ensure_empty(db: Database) -> None:
    names = [str(r["name"]) for r in await db.fetch(_TABLES)]
    if names:
        raise StorageError(
            f"a backup is restored into an empty database alone, got one with {len(names)} tables and the like such as "
            f"{names[0]!r}: make a new one (createdb) and give its URL with --database"
        )
    encoding = await db.fetch_value("SHOW server_encoding")
    if encoding != "UTF8":
        raise StorageError(
            f"the database must be of encoding UTF8, got {encoding}: make it anew with createdb -E UTF8 -T template0"
        )
    if not await db.fetch_value("SELECT has_schema_privilege(to_regnamespace('public'), 'CREATE')"):
        raise StorageError(
            "the database does not let this user make tables: make the user its owner (ALTER DATABASE … OWNER TO …)"
        )
