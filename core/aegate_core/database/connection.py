"""A connection to the index and queue: raw SQL with ``$1`` on both databases, transactions, retries.

The surprise: inside ``async with db.transaction()`` the same ``db`` object uses the transaction's connection, for this
task alone; Tortoise models do too. So there is no second object to mix up, and no deadlock by calling the outer one.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import UTC, datetime
from typing import Any, TypeVar, cast
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from tortoise.backends.base.client import BaseDBAsyncClient, TransactionalDBClient, TransactionContext
from tortoise.context import TortoiseContext, _current_context, set_global_context

from aegate_core.database.deadline import within_deadline
from aegate_core.database.dialect import (
    as_datetime,
    as_int,
    as_json,
    postgres_arguments,
    sqlite_arguments,
    to_sqlite,
)
from aegate_core.database.observing import StatementObserver
from aegate_core.database.tls import tls_of
from aegate_core.database.trouble import AWAY, translated
from aegate_core.errors import InvalidValue, SerializationConflict

__all__ = ["Database", "as_datetime", "as_int", "as_json", "open_database"]

MODELS = [
    "aegate_core.stores.index.models",
    "aegate_core.stores.queue.models",
    "aegate_core.stores.changes.models",
    "aegate_core.stores.worklist.models",
]
MIGRATIONS = "aegate_core.database.migrations"
APP = "models"

BUSY_TIMEOUT_MS = 15_000
POOL_CONNECTIONS = 8
SPARING = {"maxsize": 1, "max_inactive_connection_lifetime": 0.25}
"""For one of hundreds of processes that have little to do: the server's default is 100 connections in all."""
ATTEMPTS = 6
"""How often a transaction is tried that loses its races: three seconds at most. By feel."""

Row = dict[str, Any]
T = TypeVar("T")

TIMEOUTS_S = {"connect_timeout": 10.0, "command_timeout": 60.0}
"""How long a connection and a statement may take; parameters of the URL, the first one also libpq's."""
POOLED = {"statement_cache_size": 0, "server_settings": {"application_name": "aegate"}}
"""With ``pgbouncer=true`` in the URL: in its transaction mode a connection keeps no statement and no setting."""
_HOST = re.compile(r"(?P<folder>/.*)|(?:\[(?P<v6>[^\]]+)\]|(?P<name>[^:\[\]]*))(?::(?P<port>.*))?")


def connection_config(url: str) -> dict[str, Any]:
    """Return Tortoise's configuration for ``url``. Raises InvalidValue for one that names no database."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidValue(
            "database URL must have the form postgres://user:password@host:5432/aegate, got another: mend its host, "
            "and write special characters as %-escapes"
        ) from None  # the cause would show the password
    if parts.scheme == "sqlite":
        credentials: dict[str, Any] = {
            "file_path": url.removeprefix("sqlite://"),
            "busy_timeout": BUSY_TIMEOUT_MS,  # first: the others may have to wait for another process
            "journal_mode": "WAL",
            "synchronous": "FULL",
            "foreign_keys": "ON",
        }
        return {"engine": "aegate_core.database.sqlite_backend", "credentials": credentials}
    query = parameters_of(url)
    name = parts.path.lstrip("/")
    if not name:
        raise InvalidValue(
            "database URL must name a database, got none: use postgres://user@host:5432/aegate"
        )
    hosts = _hosts(parts, query)
    connect_s, command_s = (_seconds(query, n, default) for n, default in TIMEOUTS_S.items())
    credentials = {
        "hosts": hosts,
        "user": unquote(parts.username or "") or None,
        "password": unquote(parts.password or "") or None,
        "database": name,
        "minsize": 0,
        "maxsize": POOL_CONNECTIONS,
        "timeout": connect_s,
        "command_timeout": command_s,
        "wait_s": 3 * connect_s * len(hosts),
        "server_settings": {
            "application_name": "aegate",
            "idle_in_transaction_session_timeout": "60000",
            "jit": "off",  # to compile a statement takes longer than any of ours
        },
    }
    if (tls := tls_of(query)) is not None:
        credentials["ssl"] = tls
    if query.get("pgbouncer", "false") != "false":
        credentials |= POOLED
    return {"engine": "aegate_core.database.asyncpg_backend", "credentials": credentials}


def parameters_of(url: str) -> dict[str, str]:
    """Return the parameters of a database URL, each one's first value."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def _hosts(parts: SplitResult, query: Mapping[str, str]) -> list[tuple[str | None, int]]:
    """Return hosts, or folders of sockets, with their ports, as libpq reads them: ``a,b`` or ``a:5432,b:5433``."""
    ports = (query.get("port") or "5432").split(",")
    named = query.get("host") or parts.netloc.rpartition("@")[2]
    found = []
    for number, host in enumerate(named.split(",")):
        match = _HOST.fullmatch(host)
        text = (match and match["port"]) or ports[min(number, len(ports) - 1)]
        if match is None or not text.isdecimal() or not 0 < int(text) < 65536:
            raise InvalidValue(
                "database URL must have a port of 1 to 65535, got another: use postgres://user@host:5432/aegate"
            )
        found.append((match["folder"] or match["v6"] or match["name"] or None, int(text)))
    return found


def _seconds(query: Mapping[str, str], name: str, default: float) -> float:
    try:
        seconds = float(query.get(name, default))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InvalidValue(f"{name} in the database URL must be seconds above 0, such as {name}={default:g}")
    return seconds


def check_database_url(url: str) -> None:
    """Raise InvalidValue, without showing it, for a URL that names no database as `open_database` takes it."""
    connection_config(url)


def place_of(url: str) -> str:
    """Return where the database is, as a message may show it: no user, no password."""
    if dialect_of(url) == "sqlite":
        return f"in {url.removeprefix('sqlite://')}"
    hosts = connection_config(url)["credentials"]["hosts"]
    return "at " + ", ".join(f"{host or 'localhost'}:{port}" for host, port in hosts)


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

    SerializationConflict when a transaction lost a race and may be tried again (`atomically` does). Within a
    `time_limit` also TimeLimitReached.
    """

    def __init__(self, context: TortoiseContext, url: str) -> None:
        self._context = context
        self.url = url
        self._place = place_of(url)
        self.dialect = dialect_of(url)
        self.observer: StatementObserver | None = None
        """Who is told of each statement that comes through here; those of Tortoise's models do not."""

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite: one writer at a time, over all processes."""
        return self.dialect == "sqlite"

    @property
    def _client(self) -> BaseDBAsyncClient:
        return self._context.connections.get(self.dialect)

    async def fetch(self, sql: str, *arguments: object) -> list[Row]:
        """Return all rows as dicts. Also for INSERT/UPDATE/DELETE … RETURNING."""

        async def run(connection: Any) -> list[Row]:
            if self.is_sqlite:
                # In one go: a cursor that is left half read would have later statements interrupted, too.
                return [
                    dict(r)
                    for r in await connection.execute_fetchall(to_sqlite(sql), sqlite_arguments(arguments))
                ]
            return [dict(r) for r in await connection.fetch(sql, *postgres_arguments(arguments))]

        return await self._run(sql, run)

    async def fetch_tuples(self, sql: str, *arguments: object) -> Sequence[Sequence[Any]]:
        """Return all rows as their values in the order of the columns: of many rows a dict each costs more than SQL."""

        async def run(connection: Any) -> Sequence[Sequence[Any]]:
            if self.is_sqlite:
                found = await connection.execute_fetchall(to_sqlite(sql), sqlite_arguments(arguments))
                return cast("Sequence[Sequence[Any]]", found)
            return cast(
                "Sequence[Sequence[Any]]", await connection.fetch(sql, *postgres_arguments(arguments))
            )

        return await self._run(sql, run)

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

        async def run(connection: Any) -> int:
            if self.is_sqlite:
                cursor = await connection.execute(to_sqlite(sql), sqlite_arguments(arguments))
                changed = int(cursor.rowcount)
                await cursor.close()
                return max(changed, 0)
            status = str(await connection.execute(sql, *postgres_arguments(arguments))).rsplit(" ", 1)[-1]
            return int(status) if status.isdigit() else 0

        return await self._run(sql, run)

    async def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement for many rows; inside a transaction, or it is not atomic on SQLite."""

        async def run(connection: Any) -> None:
            if self.is_sqlite:
                await connection.executemany(to_sqlite(sql), [sqlite_arguments(r) for r in rows])
            else:
                await connection.executemany(sql, [postgres_arguments(r) for r in rows])

        await self._run(sql, run)

    async def _run(self, sql: str, statement: Callable[[Any], Awaitable[T]]) -> T:
        """Run a statement; by itself it is a transaction that may lose a race, and is run again then."""

        async def once() -> T:
            async with within_deadline():
                with translated(self._place):
                    async with self._client.acquire_connection() as connection:
                        return await statement(connection)

        alone = not isinstance(self._client, TransactionalDBClient)
        with nullcontext() if self.observer is None else self.observer(sql):
            return await _until_won(once, attempts=ATTEMPTS if alone else 1)

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
                with suppress(*AWAY):
                    await context.__aexit__(type(error), error, error.__traceback__)
                raise
            with translated(self._place):
                await context.__aexit__(None, None, None)
        finally:
            _current_context.reset(current)

    async def _begin(self) -> TransactionContext:
        async with within_deadline():
            with translated(self._place):
                context = self._client._in_transaction()
                await context.__aenter__()
                return context

    async def atomically(self, work: Callable[[Database], Awaitable[T]], *, attempts: int = ATTEMPTS) -> T:
        """Run ``work`` in a transaction, again when it lost a race (deadlock, serialization).

        ``work`` must be safe to repeat: whatever it did outside the database happens again.
        """

        async def once() -> T:
            async with self.transaction():
                return await work(self)

        return await _until_won(once, attempts=attempts)


async def _until_won(run: Callable[[], Awaitable[T]], *, attempts: int) -> T:
    """Return the result of ``run``, which may lose a race; the last attempt's SerializationConflict is raised."""
    for attempt in range(1, attempts):
        try:
            return await run()
        except SerializationConflict:
            await asyncio.sleep(random.uniform(0.01, 0.05) * 2**attempt)
    return await run()


@asynccontextmanager
async def open_database(
    url: str, *, everywhere: bool = False, sparing: bool = False, patient: bool = False
) -> AsyncIterator[Database]:
    """Open index and queue at ``url``; connections are made on first use.

    ``sparing``: at most one connection to PostgreSQL, and none a moment after it was last used.

    ``patient``: a statement on PostgreSQL may take as long as it takes, whatever the URL says.

    ``everywhere``: Tortoise models use it in every task of the process, also in those that uvicorn starts elsewhere;
    one such database a process. Without it: in this task and those started from it.
    """
    context = TortoiseContext()
    async with context:
        config = tortoise_config(url)
        if sparing and dialect_of(url) == "postgres":
            config["connections"]["postgres"]["credentials"] |= SPARING
        if patient and dialect_of(url) == "postgres":
            config["connections"]["postgres"]["credentials"]["command_timeout"] = None
        await context.init(config=config)
        if everywhere:
            set_global_context(context)
        yield Database(context, url)
