"""Tortoise's SQLite client with BEGIN IMMEDIATE: a deferred BEGIN gives SQLITE_BUSY that no timeout retries.

Its name holds "sqlite" because Tortoise's migration executor picks the schema editor by the module's name.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from typing import Any, cast

import aiosqlite
from tortoise.backends.base.client import (
    ConnectionWrapper,
    TransactionalDBClient,
    TransactionContext,
)
from tortoise.backends.sqlite.client import SqliteClient, SqliteTransactionContext, SqliteTransactionWrapper
from tortoise.connection import get_connections
from tortoise.exceptions import OperationalError

RETRY_S = 0.02
"""How long the other one may need to turn a new file into one with a WAL. By feel."""
INTERRUPT_EVERY_S = 0.05
"""A statement that its thread has not begun yet cannot be interrupted: it is tried again."""


async def stop_statement(connection: aiosqlite.Connection) -> None:
    """Interrupt what the connection's thread does, and return when it does nothing.

    One thing is not interrupted: waiting for another process's lock, which ``busy_timeout`` ends.
    """
    idle = asyncio.ensure_future(connection._execute(_nothing))  # type: ignore[no-untyped-call] # aiosqlite's
    while not idle.done():
        await connection.interrupt()
        await asyncio.wait({idle}, timeout=INTERRUPT_EVERY_S)


def _nothing() -> None:
    """Run in the connection's thread, after whatever it was doing."""


def _is_busy(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


class ImmediateTransaction(SqliteTransactionWrapper):
    """A transaction that takes the write lock at its start."""

    async def begin(self) -> None:
        """Begin, waiting up to ``busy_timeout`` for another writer. Raises OperationalError when it stays locked."""
        try:
            await self._connection.commit()
            await self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise OperationalError(error) from error
        except asyncio.CancelledError:
            await stop_statement(self._connection)
            await self._connection.rollback()  # it may have begun all the same
            raise

    def acquire_connection(self) -> ConnectionWrapper[Any]:
        """Return the connection, for one caller at a time."""
        return LockedConnection(self._lock, self)

    async def execute_script(self, query: str) -> None:
        """Run one statement. sqlite3's executescript would commit the transaction first."""
        await self.execute_query(query)


class ImmediateContext(SqliteTransactionContext):
    """Tortoise's context, but the connection's lock is given back when BEGIN fails: else nobody ever gets it."""

    async def __aenter__(self) -> TransactionalDBClient:
        await self._trxlock.acquire()
        try:
            await self.ensure_connection()
            await self.connection.begin()
        except BaseException:
            self._trxlock.release()
            raise
        self.token = get_connections().set(self.connection_name, self.connection)
        return cast(TransactionalDBClient, self.connection)


class LockedConnection(ConnectionWrapper[Any]):
    """Tortoise's wrapper, but the lock is given back when the file cannot be opened.

    Else nobody ever gets it: every later call would wait for ever instead of failing. And a statement whose caller was
    cancelled is stopped before the next one gets the connection.
    """

    async def __aenter__(self) -> Any:
        await self._lock.acquire()
        try:
            await self.ensure_connection()
        except BaseException:
            self._lock.release()
            raise
        return self.connection

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if isinstance(error, asyncio.CancelledError):
                await stop_statement(self.connection)
        finally:
            self._lock.release()


class client_class(SqliteClient):  # noqa: N801 - Tortoise looks for this name in an engine's module
    """A SQLite connection whose transactions are ImmediateTransaction."""

    async def create_connection(self, with_db: bool) -> None:
        """Connect with every pragma in force, or not at all: half made, it would write without WAL or foreign keys.

        Of several that turn a new file into one with a WAL all but one are told at once that it is locked, whatever
        ``busy_timeout`` says (sqlite.org/wal.html, "Sometimes queries return SQLITE_BUSY"): they try again.
        """
        until = time.monotonic() + int(self.pragmas["busy_timeout"]) / 1000
        while True:
            try:
                await super().create_connection(with_db)
            except BaseException as error:
                await self.close()
                if not _is_busy(error) or time.monotonic() >= until:
                    raise
            else:
                return
            await asyncio.sleep(RETRY_S)

    def acquire_connection(self) -> ConnectionWrapper[Any]:
        """Return the connection, for one caller at a time."""
        return LockedConnection(self._lock, self)

    def _in_transaction(self) -> TransactionContext:
        return ImmediateContext(ImmediateTransaction(self), self._lock)
