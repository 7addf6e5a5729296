"""``python -m aegate_core.database migrate|wait``: what a cluster does with the schema before anything else runs.

``migrate`` is a Job, as the owner: it brings the schema up and gives the roles of AEGATE_ROLES their rights. ``wait``
is every pod's first container, as the pod's own role: it ends when the database has the schema that the pod needs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping

from aegate_core.core_dumps import forbid_core_dumps
from aegate_core.database import Database, ensure_schema, known_migrations, migrate, open_database
from aegate_core.database.roles import ensure_roles, grant, parse_roles
from aegate_core.errors import (
    AegateError,
    DatabaseUnavailable,
    InvalidValue,
    NotFound,
    SchemaBehind,
    SchemaMismatch,
    SerializationConflict,
)
from aegate_core.events import (
    PROCESS_FAILED,
    SCHEMA_AWAITED,
    SCHEMA_MIGRATED,
    SCHEMA_READY,
    Log,
    configure_logging,
)
from aegate_core.settings import log_terminal, required

RETRY_S = 1.0
SAY_AGAIN = 60
"""What is waited for is said when it changes, and again after so many tries."""

log = Log("database")


async def run_migrate(environ: Mapping[str, str]) -> None:
    """Bring the schema up and grant, when the database and the roles are there; twice is as good as once."""
    url = postgres_url(environ)
    roles = parse_roles(environ.get("AEGATE_ROLES", ""))

    async def rights(tx: Database) -> None:
        await grant(tx, roles)

    async def once() -> None:
        async with open_database(url) as db:
            await ensure_roles(db, roles)
        applied = await migrate(url, newer=True, then=rights)
        log(SCHEMA_MIGRATED, schema=schema(), applied=len(applied), roles=len(roles))

    await patiently(once)


async def run_wait(environ: Mapping[str, str]) -> None:
    """Return when the database has the schema of this version, or a newer one that it works on."""
    url = postgres_url(environ)

    async def once() -> None:
        await ensure_schema(url, newer=True)
        log(SCHEMA_READY, schema=schema())

    await patiently(once)


async def patiently(once: Callable[[], Awaitable[None]]) -> None:
    """Try until it is done, and say what is waited for. Raises what no waiting mends."""
    said, tries = "", 0
    while True:
        try:
            return await once()
        except (DatabaseUnavailable, NotFound, SerializationConflict) as error:
            reason = error.message
        except SchemaBehind as error:
            reason = f"it lacks {error.migration}, which the migration Job adds: look at its log if that takes long"
        if reason != said or tries % SAY_AGAIN == 0:
            said = reason
            log(SCHEMA_AWAITED, schema=schema(), reason=reason, retry_s=RETRY_S)
        tries += 1
        await asyncio.sleep(RETRY_S)


def schema() -> str:
    """Return the schema of this version, by the name of its last migration."""
    return known_migrations()[-1]


def postgres_url(environ: Mapping[str, str]) -> str:
    """Return AEGATE_DATABASE_URL. Raises InvalidValue unless it is PostgreSQL's: these commands are a cluster's."""
    url = required(environ, "AEGATE_DATABASE_URL")
    scheme, colon, rest = url.partition("://")
    if not colon or scheme not in ("postgres", "postgresql"):
        raise InvalidValue(
            "AEGATE_DATABASE_URL must be postgres://user:password@host:5432/aegate, got another scheme: mend the "
            "DSN in its Secret"
        )
    return f"postgres://{rest}"


COMMANDS = {"migrate": run_migrate, "wait": run_wait}


async def until_signal(work: Awaitable[None]) -> int:
    """Return 0 when ``work`` is done, 143 when SIGTERM comes first: as process 1 we would not hear it otherwise."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    return 0


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run one command and return the exit code: 2 when it was asked wrongly, 3 when code and schema do not fit.

    Neither is mended by another try; the chart's Job fails at once then.
    """
    forbid_core_dumps()
    command = COMMANDS.get(arguments[0]) if len(arguments) == 1 else None
    if command is None:
        sys.stderr.write("usage: python -m aegate_core.database migrate|wait\n")
        return 2
    configure_logging()
    try:
        configure_logging(terminal=log_terminal(environ))
        return asyncio.run(until_signal(command(environ)))
    except AegateError as error:
        log(PROCESS_FAILED, process=arguments[0], error=error.message, code=error.code)
        return 2 if isinstance(error, InvalidValue) else 3 if isinstance(error, SchemaMismatch) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
