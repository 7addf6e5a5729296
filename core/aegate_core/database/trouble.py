"""What the drivers raise, in words of ours: what it means, and what a person can do about it.

The drivers' own texts may hold values of rows: none is carried over.
"""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import ssl

import asyncpg
from tortoise.exceptions import DBConnectionError, OperationalError

from aegate_core.errors import (
    DatabaseUnavailable,
    InvalidValue,
    SchemaMismatch,
    SerializationConflict,
    StorageFull,
)

AWAY = (
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
_STANDBY = "is a standby, which takes no writes: promote it, or name the primary in the URL, too"
_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "refuses this user or its password: mend them in the URL, or admit the user in pg_hba.conf",
    ),
    (asyncpg.InvalidCatalogNameError, "is not there: make it with createdb, or mend its name in the URL"),
    (
        asyncpg.InsufficientPrivilegeError,
        "does not let this user make or use its tables: make the user its owner (ALTER DATABASE … OWNER TO …); "
        "on a cluster, make it one of the roles that the migration Job gives their rights",
    ),
    (
        asyncpg.TooManyConnectionsError,
        "has no connection left: end what holds them, or raise max_connections",
    ),
    (asyncpg.ReadOnlySQLTransactionError, _STANDBY),
    (asyncpg.exceptions.TargetServerAttributeNotMatched, _STANDBY),
    (asyncpg.CannotConnectNowError, "is starting or stopping: wait, or look into its log"),
    (
        socket.gaierror,
        "has a host whose name cannot be resolved: mend the name server, or the name in the URL",
    ),
    (TimeoutError, "did not answer in time: check its load, and the network between"),
)
_RACE = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_NO_TEXT = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)
_WITHOUT_TABLES = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)


class translated:  # noqa: N801 - reads as a word in `with translated(place):`
    """Turn the drivers' errors into aegate's. ``place``: where the database is, as a message may show it."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        root = error.args[0] if isinstance(error, OperationalError) and error.args else error
        if isinstance(root, sqlite3.DatabaseError):
            self._raise_for_sqlite(root, error)
        if isinstance(root, _RACE):
            raise SerializationConflict("the transaction lost a race: try again") from error
        if isinstance(root, asyncpg.LockNotAvailableError):
            raise SerializationConflict(
                f"the database {self._place} has a table locked by another transaction, such as a backup or a long "
                "query: wait for it, or find it in pg_stat_activity and end it"
            ) from error
        if isinstance(root, _NO_TEXT):
            raise InvalidValue(
                "a text must hold no character that PostgreSQL cannot keep, got NUL or another: leave it out"
            ) from error
        if isinstance(root, _WITHOUT_TABLES):
            raise _not_migrated() from error
        if isinstance(root, asyncpg.DiskFullError):
            raise StorageFull("the database's disk is full: make room") from error
        if isinstance(root, AWAY):
            is_starting = isinstance(root, asyncpg.CannotConnectNowError)
            message = f"the database {self._place} {_why_away(root)}"
            raise DatabaseUnavailable(message, is_starting=is_starting) from error

    def _raise_for_sqlite(self, root: sqlite3.DatabaseError, error: BaseException) -> None:
        code = getattr(root, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            # It was waited for: `busy_timeout` is over.
            raise DatabaseUnavailable(
                f"the database {self._place} is locked by another process: find it with fuser, and end it"
            ) from error
        if code == sqlite3.SQLITE_FULL:
            raise StorageFull("the database's disk is full: make room") from error
        if str(root).startswith(("no such table", "no such column")):
            raise _not_migrated() from error
        if code == sqlite3.SQLITE_IOERR:
            raise DatabaseUnavailable(
                f"the SQLite file cannot be read or written ({root.sqlite_errorname}): its disk fails, or a quota is "
                "used up: look into the system's log"
            ) from error
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise DatabaseUnavailable(
                f"the SQLite file cannot be used ({root.sqlite_errorname}): check that its folder is there and "
                "writable, and look into the system's log for a failing disk"
            ) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise DatabaseUnavailable(
                f"the SQLite file is damaged or no database ({root.sqlite_errorname}): "
                "look into the system's log for a failing disk; if there is none, stop aegate and restore a backup"
            ) from error


def _why_away(root: BaseException) -> str:
    name = type(root).__name__
    if isinstance(root, ssl.SSLCertVerificationError):
        return (
            f"shows a certificate that is not trusted ({root.verify_message.rstrip('.')}): "
            "check sslrootcert and the host in the URL"
        )
    for kind, words in _WORDS:
        if isinstance(root, kind):
            return f"{words} ({name})"
    return f"does not answer ({name}): check that it runs and that the URL is right"


def _not_migrated() -> SchemaMismatch:
    return SchemaMismatch(
        "the database must have the tables of this version, it lacks some: start `aegate up`, which makes them"
    )
