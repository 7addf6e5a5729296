"""The index as of one moment, beside those who write: SQLite by its online backup, PostgreSQL by pg_dump.

A dump cannot be asked. So beside it lies a list of its arrivals, read in the very snapshot that pg_dump was given: a
small SQLite file with the columns that tell which images belong to it. Blobs are copied and restored by that list.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from aegate_core.database import Database, applied_migrations, open_database
from aegate_core.database.postgres_tools import Tool, dump, find_tool
from aegate_core.errors import StorageError, StorageFull
from aegate_core.stores.index import checking as index
from aegate_core.stores.index.checking import ArrivalBlob

PAGE = 5000

_LIST = (
    "CREATE TABLE arrival (id TEXT PRIMARY KEY, blob_key TEXT NOT NULL, sha256 TEXT NOT NULL, "
    "size_bytes INTEGER NOT NULL, removed_at TEXT) WITHOUT ROWID"
)


@dataclass(frozen=True, slots=True)
class IndexCopy:
    """What was copied."""

    arrivals: Path
    """An SQLite file with the table ``arrival``: the index itself, or the list of a dump's arrivals."""
    first_arrival: str
    newest_arrival: str
    """Of all rows, those of removed images too; '' where nothing ever arrived."""
    migrations: tuple[str, ...]
    dump: Path | None = None
    dump_sha256: str = ""
    server_major: int = 0
    dump_major: int = 0
    """Versions of PostgreSQL; 0 for SQLite."""


async def server_major(db: Database) -> int:
    """Return the version of PostgreSQL that serves the database, such as 15."""
    return int(await db.fetch_value("SHOW server_version_num")) // 10_000


async def dump_tool(db: Database) -> Tool | None:
    """Return the pg_dump that fits; None for SQLite, which needs none. Raises NotFound with the next step."""
    return None if db.is_sqlite else find_tool("pg_dump", at_least=await server_major(db))


async def copy_index(
    db: Database, tool: Tool | None, target: Path, stamp: str, report: Callable[[int], None]
) -> IndexCopy:
    """Copy the index into ``index-<stamp>.*`` of the target: mode 0600, not durable yet but for a dump."""
    arrivals = target / f"index-{stamp}.sqlite3"
    os.close(os.open(arrivals, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    if tool is not None:
        return await _copy_postgres(db, tool, arrivals, report)
    await asyncio.to_thread(_copy_sqlite, Path(db.url.removeprefix("sqlite://")), arrivals)
    async with open_database(f"sqlite://{arrivals}") as copy:
        return IndexCopy(arrivals, *await index.arrival_bounds(copy), await applied_migrations(copy))


def _copy_sqlite(path: Path, copy: Path) -> None:
    """Copy SQLite as of one moment, while others write (its online backup API)."""
    try:
        with closing(sqlite3.connect(path, timeout=60)) as source, closing(sqlite3.connect(copy)) as into:
            source.backup(into)
    except sqlite3.Error as error:
        raise _sqlite_error(error, copy.parent) from error


def _sqlite_error(error: sqlite3.Error, target: Path) -> StorageError:
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
        return StorageFull(f"{target} is full: make room on its disk, or choose another")
    name = getattr(error, "sqlite_errorname", "unknown")
    return StorageError(f"the index cannot be copied into {target} ({name}): see `aegate fsck` and the disks")


async def _copy_postgres(
    db: Database, tool: Tool, arrivals: Path, report: Callable[[int], None]
) -> IndexCopy:
    """Dump and list what one snapshot sees; it is held no longer, for it keeps the server from cleaning up."""
    to = arrivals.with_suffix(".dump")
    async with db.transaction():
        await db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await db.execute("SET LOCAL idle_in_transaction_session_timeout = 0")  # it idles while pg_dump works
        snapshot = str(await db.fetch_value("SELECT pg_export_snapshot()"))
        first, newest = await index.arrival_bounds(db)
        migrations = await applied_migrations(db)
        digest = await dump(tool, db.url, snapshot, to, report)
        await _list_arrivals(db, arrivals)
        major = await server_major(db)
    return IndexCopy(arrivals, first, newest, migrations, to, digest, major, tool.major)


async def _list_arrivals(db: Database, path: Path) -> None:
    try:
        with closing(sqlite3.connect(path, check_same_thread=False)) as into:  # one thread after another
            into.execute(_LIST)
            last = ""
            while page := await index.arrivals_after(db, last, PAGE):
                last = page[-1].arrival_id
                await asyncio.to_thread(_add, into, page)
            into.commit()
    except sqlite3.Error as error:
        raise _sqlite_error(error, path.parent) from error


def _add(into: sqlite3.Connection, page: Sequence[ArrivalBlob]) -> None:
    into.executemany(
        "INSERT INTO arrival (id, blob_key, sha256, size_bytes) VALUES (?, ?, ?, ?)",
        [(a.arrival_id, a.blob_key, a.sha256, a.size_bytes) for a in page],
    )
