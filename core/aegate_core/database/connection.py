"""A connection to the index and queue: raw SQL with ``$1`` on both databases, transactions, retries.

The surprise: inside ``async with db.transaction()`` the same ``db`` object uses the transaction's connection, for this
task alone; Tortoise models do too. So there is no second object to mix up, and no deadlock by calling the outer one.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
from tortoise.backends.base.client import BaseDBAsyncClient, TransactionContext
from tortoise.context import TortoiseContext, _current_context, set_global_context
from tortoise.exceptions import DBConnectionError, OperationalError

from aegate_core.database.dialect import (
    as_datetime,
    as_json,
    postgres_arguments,
    sqlite_arguments,
    to_sqlite,
)
from aegate_core.errors import (
    DatabaseUnavailable,
    InvalidValue,
    SchemaMismatch,
    SerializationConflict,
    StorageFull,
)

__all__ = ["Database", "as_datetime", "as_json", "open_database"]

MODELS = ["aegate_core.stores.index.models", "aegate_core.stores.queue.models"]
MIGRATIONS = "aegate_core.database.migrations"
APP = "models"

BUSY_TIMEOUT_MS = 15_000
POOL_CONNECTIONS = 8

Row = dict[str, Any]
T = TypeVar("T")

_AWAY = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    DBConnectionError,
)
"""It is stopped, cut off, out of memory, a standby after a failover, or does not let us in: it may come back."""
_REFUSALS = (
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "refuses this user or its password: mend them in the URL, or admit the user in pg_hba.conf",
    ),
    (asyncpg.InvalidCatalogNameError, "is not there: make it with createdb, or mend its name in the URL"),
    (
        asyncpg.InsufficientPrivilegeError,
        "does not let this user make or use its tables: make the user its owner (ALTER DATABASE … OWNER TO …)",
    ),
)
_RACE = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_WITHOUT_TABLES = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)


def connection_config(url: str) -> dict[str, Any]:
    """Return Tortoise's configuration for ``url``. Raises InvalidValue for a URL without a database name."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        credentials: dict[str, Any] = {
            "file_path": url.removeprefix("sqlite://"),
            "busy_timeout": BUSY_TIMEOUT_MS,  # first: the others may have to wait for another process
            "journal_mode": "WAL",
            "synchronous": "FULL",
            "foreign_keys": "ON",
        }
        return {"engine": "aegate_core.database.sqlite_backend", "credentials": credentials}
    query = parse_qs(parts.query)
    name = parts.path.lstrip("/")
    if not name:
        raise InvalidValue(
            "database URL must name a database, got none: use postgres://user@host:5432/aegate"
        )
    try:
        port = parts.port or int(query.get("port", ["5432"])[0])
    except ValueError as error:
        raise InvalidValue(
            "database URL must have a port of 1 to 65535, got another: use postgres://user@host:5432/aegate"
        ) from error
    credentials = {
        "host": query.get("host", [parts.hostname])[0],
        "port": port,
        "user": unquote(parts.username or "") or None,
        "password": unquote(parts.password or "") or None,
        "database": name,
        "minsize": 0,
        "maxsize": POOL_CONNECTIONS,
        "timeout": 10,
        "command_timeout": 60,
        "server_settings": {"application_name": "aegate", "idle_in_transaction_session_timeout": "60000"},
    }
    if "sslmode" in query:
        credentials["ssl"] = query["sslmode"][0]
    return {"engine": "tortoise.backends.asyncpg", "credentials": credentials}


def dialect_of(url: str) -> str:
    """Return ``sqlite`` or ``postgres``."""
    return "sqlite" if url.startswith("sqlite") else "postgres"


def tortoise_config(url: str) -> dict[str, Any]:
    """Return the whole Tortoise configuration, with the models of index and queue as one app.

    The connection is named by its dialect: Tortoise caches INSERT statements by connection name, placeholders included.
    """
    return {
        "connections": {dialect_of(url): connection_config(url)},
        "apps": {APP: {"models": MODELS, "default_connection": dialect_of(url), "migrations": MIGRATIONS}},
        "use_tz": True,
        "timezone": "UTC",
    }


class Database:
    """Index and queue. Every method raises DatabaseUnavailable when the database does not answer, and

    SerializationConflict when a transaction lost a race and may be tried again (`atomically` does).
    """

    def __init__(self, context: TortoiseContext, url: str) -> None:
        self._context = context
        self.url = url
        self.dialect = dialect_of(url)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite: one writer at a time, over all processes."""
        return self.dialect == "sqlite"

    @property
    def _client(self) -> BaseDBAsyncClient:
        return self._context.connections.get(self.dialect)

    async def fetch(self, sql: str, *arguments: object) -> list[Row]:
        """Return all rows as dicts. Also for INSERT/UPDATE/DELETE … RETURNING."""
        with _translated():
            async with self._client.acquire_connection() as connection:
                if self.is_sqlite:
                    cursor = await connection.execute(to_sqlite(sql), sqlite_arguments(arguments))
                    rows = [dict(r) for r in await cursor.fetchall()]
                    await cursor.close()
                    return rows
                return [dict(r) for r in await connection.fetch(sql, *postgres_arguments(arguments))]

    async def fetch_one(self, sql: str, *arguments: object) -> Row | None:
        """Return the first row, or None."""
        rows = await self.fetch(sql, *arguments)
        return rows[0] if rows else None

    async def fetch_value(self, sql: str, *arguments: object) -> Any:
        """Return the first column of the first row, or None."""
        row = await self.fetch_one(sql, *arguments)
        return next(iter(row.values())) if row else None

    async def time(self) -> datetime:
        """Return what time it is by the database: one clock for all who share it, whatever their machines say."""
        if self.is_sqlite:
            return datetime.now(UTC)  # its processes are on one machine
        return as_datetime(await self.fetch_value("SELECT clock_timestamp()"))

    async def execute(self, sql: str, *arguments: object) -> int:
        """Run one statement and return how many rows it changed."""
        with _translated():
            async with self._client.acquire_connection() as connection:
                if self.is_sqlite:
                    cursor = await connection.execute(to_sqlite(sql), sqlite_arguments(arguments))
                    changed = int(cursor.rowcount)
                    await cursor.close()
                    return max(changed, 0)
                status = str(await connection.execute(sql, *postgres_arguments(arguments))).rsplit(" ", 1)[-1]
                return int(status) if status.isdigit() else 0

    async def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement for many rows; inside a transaction, or it is not atomic on SQLite."""
        with _translated():
            async with self._client.acquire_connection() as connection:
                if self.is_sqlite:
                    await connection.executemany(to_sqlite(sql), [sqlite_arguments(r) for r in rows])
                else:
                    await connection.executemany(sql, [postgres_arguments(r) for r in rows])

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Database]:
        """All or nothing: BEGIN IMMEDIATE on SQLite, READ COMMITTED on PostgreSQL. Nested: a savepoint.

        Yields this same object, which uses the transaction's connection until the end of the block.
        """
        # Tortoise's contexts and models go by the current context: with two databases open it must be this one's.
        current = _current_context.set(self._context)
        try:
            context = await self._begin()
            try:
                yield self
            except BaseException as error:
                # Where the connection is lost the rollback fails, too; what is to be told is why it was tried.
                with suppress(*_AWAY):
                    await context.__aexit__(type(error), error, error.__traceback__)
                raise
            with _translated():
                await context.__aexit__(None, None, None)
        finally:
            _current_context.reset(current)

    async def _begin(self) -> TransactionContext:
        with _translated():
            context = self._client._in_transaction()
            try:
                await context.__aenter__()
            except BaseException:
                if not self.is_sqlite:
                    await _abandon(context)
                raise
            return context

    async def atomically(self, work: Callable[[Database], Awaitable[T]], *, attempts: int = 6) -> T:
        """Run ``work`` in a transaction, again when it lost a race (deadlock, serialization, SQLite busy).

        ``work`` must be safe to repeat: whatever it did outside the database happens again.
        """
        for attempt in range(1, attempts + 1):
            try:
                async with self.transaction():
                    return await work(self)
            except SerializationConflict:
                if attempt == attempts:
                    raise
                await asyncio.sleep(random.uniform(0.01, 0.05) * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")


class _translated:  # noqa: N801 - reads as a word in `with _translated():`
    """Turn the drivers' errors into aegate's; the drivers' texts may hold values: not carried over."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        root = error.args[0] if isinstance(error, OperationalError) and error.args else error
        if isinstance(root, sqlite3.DatabaseError):
            _raise_for_sqlite(root, error)
        if isinstance(root, _RACE):
            raise SerializationConflict("the transaction lost a race: try again") from error
        if isinstance(root, _WITHOUT_TABLES):
            raise _not_migrated() from error
        if isinstance(root, asyncpg.DiskFullError):
            raise StorageFull("the database's disk is full: make room") from error
        if isinstance(root, _AWAY):
            raise DatabaseUnavailable(_why_away(root)) from error


def _why_away(root: BaseException) -> str:
    """Return what a person can do about it; never the server's own text, which may hold values."""
    name = type(root).__name__
    for kind, words in _REFUSALS:
        if isinstance(root, kind):
            return f"the database {words} ({name})"
    return f"database does not answer ({name}): check that it runs and that the URL is right"


def _not_migrated() -> SchemaMismatch:
    return SchemaMismatch(
        "the database must have the tables of this version, it lacks some: start `aegate up`, which makes them"
    )


def _raise_for_sqlite(root: sqlite3.DatabaseError, error: BaseException) -> None:
    code = getattr(root, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise SerializationConflict("another process held the database too long: try again") from error
    if code == sqlite3.SQLITE_FULL:
        raise StorageFull("the database's disk is full: make room") from error
    if str(root).startswith(("no such table", "no such column")):
        raise _not_migrated() from error
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY):
        raise DatabaseUnavailable(
            f"the SQLite file cannot be used ({root.sqlite_errorname}): check that its folder is there and writable"
        ) from error
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        raise DatabaseUnavailable(
            f"the SQLite file is damaged or no database ({root.sqlite_errorname}): "
            "stop aegate and restore a backup of it"
        ) from error


async def _abandon(context: Any) -> None:
    """Give back the pooled connection that Tortoise's failed ``__aenter__`` keeps: else the pool runs dry."""
    token = getattr(context, "token", None)
    if token is not None and not token._used:
        token._handler.reset(token)
    client = getattr(context, "client", None)
    connection = getattr(client, "_connection", None)
    if client is not None and connection is not None and client._parent._pool:
        await client._parent._pool.release(connection)


@asynccontextmanager
async def open_database(url: str, *, everywhere: bool = False) -> AsyncIterator[Database]:
    """Open index and queue at ``url``; connections are made on first use.

    ``everywhere``: Tortoise models use it in every task of the process, also in those that uvicorn starts elsewhere;
    one such database a process. Without it: in this task and those started from it.
    """
    context = TortoiseContext()
    async with context:
        await context.init(config=tortoise_config(url))
        if everywhere:
            set_global_context(context)
        yield Database(context, url)
