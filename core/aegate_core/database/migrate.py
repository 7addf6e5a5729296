"""Bring the schema up to this version, in one transaction: killed anywhere, it has either happened or not.

Two at once: PostgreSQL waits on an advisory lock, SQLite on its write lock. A database of a newer version is refused,
unless whoever asks is one of many and the others may be newer already (``newer=True``; see `versions`).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Awaitable, Callable, Collection
from contextlib import closing, suppress
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from urllib.parse import quote

from tortoise.migrations.executor import MigrationExecutor, MigrationTarget
from tortoise.migrations.recorder import MigrationRecorder

from aegate_core.database.connection import (
    APP,
    MIGRATIONS,
    Database,
    open_database,
    tortoise_config,
)
from aegate_core.database.trouble import translated
from aegate_core.database.versions import missing_from, newer_than, outdated_by
from aegate_core.errors import SchemaBehind, SchemaMismatch, SerializationConflict

DECLARATIONS = (
    "aegate_core.stores.index.declarations",
    "aegate_core.stores.queue.declarations",
    "aegate_core.stores.worklist.declarations",
    "aegate_core.stores.changes.declarations",
)
"""Modules with what models cannot say (partial indexes, triggers, first rows), by name, as models are given."""

ADVISORY_LOCK = 0x6165676174
"""``aegat`` in ASCII: what PostgreSQL's advisory lock of migrations is called."""


OTHERS_MIGRATE_MS = 90_000
"""How long SQLite's lock is waited for: another process may be migrating a large database. By feel."""
LOCK_MS = 5_000
"""How long a lock of PostgreSQL is waited for: who comes meanwhile for the same table waits behind us. By feel."""
_INDEX = re.compile(r"CREATE (?:UNIQUE )?INDEX IF NOT EXISTS (\w+)")


async def migrate(
    url: str, *, newer: bool = False, then: Callable[[Database], Awaitable[None]] | None = None
) -> list[str]:
    """Apply what is missing and return the names of the migrations applied now.

    ``newer``: leave the schema of a newer version as it is where this code works on it, too. ``then`` runs in the same
    transaction. Raises SchemaMismatch for a database of a newer version, DatabaseUnavailable when there is none,
    SerializationConflict when another transaction holds a table or won a race: try again.
    """

    async def work(tx: Database) -> list[str]:
        if not tx.is_sqlite:
            await tx.execute("SET LOCAL statement_timeout = 0")
            await tx.fetch("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK)
            await tx.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
        with translated(tx._place):  # the executor speaks to the driver, past Database
            applied = await _migrate(tx, url, newer=newer)
            if then is not None:
                await then(tx)
        return applied

    async with open_database(url, patient=True) as db:
        if db.is_sqlite:
            await db.execute(f"PRAGMA busy_timeout = {OTHERS_MIGRATE_MS}")
        return await db.atomically(work, attempts=1)  # who asks says why, and tries again


async def _migrate(db: Database, url: str, *, newer: bool) -> list[str]:
    executor = MigrationExecutor(db._client, tortoise_config(url)["apps"])
    # Tortoise looks for its own table by a query that may fail, which would end PostgreSQL's transaction.
    await executor.recorder.ensure_schema(executor._schema_editor(atomic=False))
    before = await _applied(executor.recorder)
    if _is_newer(before, newer=newer):
        return []
    await executor.loader.build_graph()
    await executor.migrate([MigrationTarget(app_label=APP, name="__latest__")])
    await _declare(db)
    return sorted(await _applied(executor.recorder) - before)


async def _declare(db: Database) -> None:
    """Make what models cannot say. An index that is there is not even asked for: that would lock out who writes."""
    modules = [import_module(name) for name in DECLARATIONS]
    there = set() if db.is_sqlite else {row["name"] for row in await db.fetch(_INDEXES)}
    for module in modules:
        for statement in module.statements(db.dialect):
            index = _INDEX.match(statement)
            if index is None or index[1] not in there:
                await db.execute(statement)
    for module in modules:
        for statement in getattr(module, "OBSOLETE", ()):
            with suppress(SerializationConflict):  # somebody works on the table: the next migration does it
                async with db.transaction():
                    await db.execute(statement)


_INDEXES = "SELECT indexname AS name FROM pg_indexes WHERE schemaname = current_schema()"


async def ensure_schema(url: str, *, newer: bool = False) -> None:
    """Raise SchemaMismatch unless the database has just the schema of this version; change nothing.

    ``newer``: one that a newer version has expanded will do, too. Raises DatabaseUnavailable when there is none.
    """
    if url.startswith("sqlite://"):
        _leave_alone_what_is_not_ours(Path(url.removeprefix("sqlite://")))
    async with open_database(url) as db:
        executor = MigrationExecutor(db._client, tortoise_config(url)["apps"])
        exists = await db.fetch(_HAS_MIGRATIONS[db.dialect], executor.recorder.table_name)
        applied = await _applied(executor.recorder) if exists else set()
        _is_newer(applied, newer=newer)
        missing = missing_from(applied, known_migrations())
        if missing:
            raise _lacking(missing[0])


def known_migrations() -> tuple[str, ...]:
    """Return the names of all migrations of this version, in order."""
    folder = import_module(MIGRATIONS)
    return tuple(sorted(module.name for module in iter_modules(folder.__path__)))


async def applied_migrations(db: Database) -> tuple[str, ...]:
    """Return the names of the migrations that a migrated database has, in order."""
    return tuple(
        sorted(await _applied(MigrationExecutor(db._client, tortoise_config(db.url)["apps"]).recorder))
    )


_HAS_MIGRATIONS = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' AND name = $1",
    "postgres": "SELECT to_regclass($1)::text AS name WHERE to_regclass($1) IS NOT NULL",
}


async def _applied(recorder: MigrationRecorder) -> set[str]:
    return {key.name for key in await recorder.applied_migrations()}


MIGRATIONS_TABLE = "tortoise_migrations"
"""Tortoise's own name for it."""

_JOURNAL_AT = 18
"""Where an SQLite file says how it is written: 1 with a rollback journal, 2 with a WAL, as ours always is."""


def _leave_alone_what_is_not_ours(path: Path) -> None:
    """Refuse somebody else's SQLite file before it is opened for writing, which would turn it into one with a WAL."""
    try:
        with path.open("rb") as file:
            if file.read(_JOURNAL_AT + 1)[_JOURNAL_AT:] != b"\1":
                return
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as db:
            tables = db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (MIGRATIONS_TABLE,))
            is_ours = tables.fetchone() is not None
    except (OSError, sqlite3.DatabaseError):
        return  # opening it says why
    if not is_ours:
        raise _lacking(known_migrations()[0])


def _lacking(name: str) -> SchemaBehind:
    return SchemaBehind(
        f"the database must be of this version, and lacks {name}: start `aegate up` once, which adds it, or give the "
        "database that belongs to the data folder",
        migration=name,
    )


def _is_newer(applied: Collection[str], *, newer: bool) -> bool:
    """Say whether a newer version wrote the schema. Raises SchemaMismatch where it may not, or took something away."""
    known = known_migrations()
    found = newer_than(known, applied)
    if not found:
        return False
    if outdated := outdated_by(known, applied):
        raise SchemaMismatch(
            f"the database is of a newer version of aegate, which took away what this one needs ({outdated}; this "
            f"version knows up to {known[-1]}): start a newer version"
        )
    if not newer or missing_from(applied, known):
        raise SchemaMismatch(
            f"the database was written by a newer version of aegate (it has {found[-1]}, this version knows up to "
            f"{known[-1]}): start that version, or restore a backup made by this one"
        )
    return True


TORTOISE_ORM = tortoise_config("sqlite://:memory:")
"""For ``tortoise -c aegate_core.database.migrate.TORTOISE_ORM makemigrations`` (`make migration`)."""
