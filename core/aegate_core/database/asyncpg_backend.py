"""Tortoise's PostgreSQL client, which asks several hosts for the primary and waits for nothing without end.

The surprise: a statement that ran out of time is cancelled over a connection of its own, and a network that swallows
packets swallows that, too. So giving a connection back has a time limit; one that passes it is closed.

Its name holds "asyncpg" because Tortoise's migration executor picks the schema editor by the module's name.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import asyncpg
from tortoise.backends.asyncpg.client import AsyncpgDBClient, TransactionWrapper
from tortoise.backends.base.client import (
    PoolConnectionWrapper,
    TransactionalDBClient,
    TransactionContext,
    TransactionContextPooled,
)
from tortoise.connection import get_connections

GIVE_BACK_S = 2.0
"""How long a connection may take to become usable again after a statement that failed. By feel: some round trips."""

KEEPALIVE_S = 60
"""How long a connection over TCP may be silent until the other side is asked whether it is there. By feel."""

_GONE = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_OTHER_SERVER = (
    *_GONE,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""After these another server may be the primary, or this one may have been started anew: all connections are stale."""


class client_class(AsyncpgDBClient):  # noqa: N801 - Tortoise looks for this name in an engine's module
    """A PostgreSQL client; ``hosts`` are tried in turn until one takes writes."""

    def __init__(self, *, hosts: Sequence[tuple[str | None, int]], wait_s: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._hosts = list(hosts)
        self.wait_s = wait_s
        """How long a caller waits for a free connection."""

    async def create_pool(self, **settings: Any) -> asyncpg.Pool:
        """Return a pool whose connections lead to the primary."""
        for name in ("host", "port"):
            settings.pop(name)
        return await asyncpg.create_pool(None, connect=self._connect, reset=_leave_session, **settings)

    async def _connect(self, *arguments: Any, **settings: Any) -> Any:
        """Connect to the first host that takes writes, beginning with the one that did last."""
        errors: list[Exception] = []
        for host, port in list(self._hosts):
            try:
                made = await asyncpg.connect(
                    *arguments, host=host, port=port, target_session_attrs="read-write", **settings
                )
            except (*_GONE, asyncpg.CannotConnectNowError) as error:
                errors.append(error)
                continue
            self._hosts.remove((host, port))
            self._hosts.insert(0, (host, port))
            _ask_whether_alive(made)
            return made
        # A server that answers and is no primary says more than one that is not there.
        raise next((e for e in errors if not isinstance(e, OSError)), errors[0])

    def acquire_connection(self) -> PoolConnectionWrapper[Any]:
        """Return a connection of the pool."""
        return _Pooled(self, self._pool_init_lock)

    async def _close(self) -> None:
        """Close the pool; connections that do not say goodbye in time are cut."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(GIVE_BACK_S):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    def _in_transaction(self) -> TransactionContext:
        return _Transaction(TransactionWrapper(self), self._pool_init_lock)


class _Pooled(PoolConnectionWrapper[Any]):
    """Tortoise's wrapper, with time limits on both ends."""

    async def __aenter__(self) -> Any:
        await self.ensure_connection()
        client: Any = self.client
        # The pool's own time limit runs a task of its own for it.
        async with asyncio.timeout(client.wait_s):
            self.connection = await client._pool.acquire()
        return self.connection

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await _give_back(self.client, self.connection, error)


class _Transaction(TransactionContextPooled):
    """Tortoise's context, with time limits; and its connection is given back when BEGIN fails."""

    async def __aenter__(self) -> TransactionalDBClient:
        await self.ensure_connection()
        parent: Any = self.client._parent
        self.client._connection = await parent._pool.acquire(timeout=parent.wait_s)
        self.token = get_connections().set(self.connection_name, self.client)
        try:
            await self.client.begin()
        except BaseException as error:
            _close(self.client._connection)
            await self._leave(error)
            raise
        return self.client

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if error is None:
                await self.client.commit()
        except BaseException as failed:
            error = failed
            raise
        finally:
            await self._leave(error)

    async def _leave(self, error: BaseException | None) -> None:
        get_connections().reset(self.token)
        if error is not None:
            await self._roll_back()
        await _give_back(self.client._parent, self.client._connection, error)

    async def _roll_back(self) -> None:
        """Roll back; a server that does not answer in time does so by itself, its client being gone."""
        connection = self.client._connection
        try:
            async with asyncio.timeout(GIVE_BACK_S):
                if connection.is_in_transaction():
                    await self.client.rollback()
        except (TimeoutError, asyncpg.PostgresError, *_GONE):
            _close(connection)


def _ask_whether_alive(connection: Any) -> None:
    """Let the kernel ask every minute: a migration waits for its answer without end, and networks forget the silent."""
    made = connection._transport.get_extra_info("socket")  # asyncpg has no setting for it
    if made.family == socket.AF_UNIX:
        return
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, name):  # not on macOS
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), KEEPALIVE_S)


def _close(connection: Any) -> None:
    with suppress(asyncpg.InterfaceError):  # the pool has closed it already
        connection.terminate()


async def _leave_session(connection: Any) -> None:
    """Reset nothing: nobody changes the session, and to ask for it would cost each statement another round trip."""


async def _give_back(client: Any, connection: Any, error: BaseException | None) -> None:
    """Release a connection. The pool closes one that is of no use any more; what it was used for is done or failed."""
    if client._pool is None:
        return
    with suppress(TimeoutError, asyncpg.PostgresError, *_GONE):
        await client._pool.release(connection, timeout=GIVE_BACK_S)
    cause = (
        error.__cause__ if error is not None and error.__cause__ is not None else error
    )  # ours carry the driver's
    if isinstance(cause, _OTHER_SERVER):
        await client._pool.expire_connections()
