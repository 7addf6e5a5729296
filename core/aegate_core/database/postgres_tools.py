"""PostgreSQL's own pg_dump and pg_restore, as children: the index of one moment into a file, and back.

Both go through a pipe to us, so neither outlives us for long: without a reader a dump ends, without the rest of its
input a restore is rolled back. The password goes by the environment, never by the arguments; what they say on standard
error may hold rows, so only phrases that we know are told on.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from aegate_core.database.connection import connection_config, parameters_of
from aegate_core.database.tls import tls_environment
from aegate_core.errors import NotFound, StorageError

CHUNK = 1 << 20
STDERR_BYTES = 1 << 16
LOCK_WAIT_MS = 60_000
"""A dump waits so long for a table that a migration holds."""

_DUMP = (
    "--format=custom",
    "--no-password",
    "--no-comments",
    "--no-publications",
    "--no-subscriptions",
    "--no-security-labels",
    "--no-tablespaces",
    f"--lock-wait-timeout={LOCK_WAIT_MS}",
)
_RESTORE = (
    "--single-transaction",
    "--exit-on-error",
    "--no-password",
    "--no-owner",
    "--no-privileges",
    "--no-comments",
)

_SAID = (
    (
        "permission denied",
        "the database refuses it to this user: make the user its owner (ALTER DATABASE … OWNER TO …)",
    ),
    (
        "unsupported version",
        "it is older than the pg_dump that wrote the file: install a newer postgresql-client",
    ),
    (
        "unrecognized configuration parameter",
        "it is newer than the server: install the server's postgresql-client",
    ),
    ("server version mismatch", "it is older than the server: install the server's postgresql-client"),
    ("already exists", "the database is not empty: make a new one (createdb)"),
    ("lock timeout", "a table stayed locked, by a migration perhaps: try again"),
    ("No space left on device", "the database's disk is full: make room"),
    ("could not extend file", "the database's disk is full: make room"),
    ("end of file", "the file ends too soon: take another backup"),
    ("connection to server", "the database does not answer: check that it runs and that the URL is right"),
    ("server closed the connection", "the database went away: try again"),
    ("terminating connection", "the database went away: try again"),
)


@dataclass(frozen=True, slots=True)
class Tool:
    """One of PostgreSQL's programs."""

    path: Path
    major: int


def tool_folders() -> tuple[Path, ...]:
    """Return where PostgreSQL's programs may lie: what is on PATH, and where Debian and Ubuntu put each version."""
    on_path = [Path(p) for p in os.get_exec_path() if p]
    return (*on_path, *sorted(Path("/usr/lib/postgresql").glob("*/bin")))


def find_tool(name: str, *, at_least: int, folders: Sequence[Path] | None = None) -> Tool:
    """Return the program of the oldest version that is not older than ``at_least``. Raises NotFound."""
    found = []
    for folder in tool_folders() if folders is None else folders:
        path = shutil.which(name, path=str(folder))
        if path is not None and (major := _major(path)):
            found.append(Tool(Path(path), major))
    fitting = [tool for tool in found if tool.major >= at_least]
    if not fitting:
        came = f"version {max(t.major for t in found)}" if found else "none"
        raise NotFound(
            f"expected {name} of PostgreSQL {at_least} or newer on PATH or in /usr/lib/postgresql, got {came}: "
            f"install it with apt install postgresql-client-{at_least}"
        )
    return min(fitting, key=lambda tool: tool.major)


def _major(path: str) -> int:
    """Return which version a program says that it is; 0 where it does not say."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    version = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(version[1]) if version else 0


def tool_environment(url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which a program reaches the database of ``url`` as aegate does."""
    wanted = connection_config(url)["credentials"]
    hosts = wanted["hosts"]
    given = {
        "PGHOST": ",".join(
            host or "" for host, _ in hosts
        ),  # an empty one is libpq's default, as it is asyncpg's
        "PGPORT": ",".join(str(port) for _, port in hosts),
        "PGTARGETSESSIONATTRS": "read-write",  # the primary: the one that exported the snapshot
        "PGUSER": wanted["user"],
        "PGPASSWORD": wanted["password"],
        "PGDATABASE": wanted["database"],
        "PGAPPNAME": "aegate",
        "PGCONNECT_TIMEOUT": str(ceil(wanted["timeout"])),
        "LC_ALL": "C",
    }
    tls = tls_environment(parameters_of(url))
    return {**environ, **tls, **{name: value for name, value in given.items() if value}}


async def dump(tool: Tool, url: str, snapshot: str, into: Path, report: Callable[[int], None]) -> str:
    """Write what the exported ``snapshot`` sees into a new file, durably; return its SHA-256.

    ``report`` gets the bytes written so far. Raises StorageError with what to do, OSError of the file.
    """
    digest, written = hashlib.sha256(), 0
    descriptor = os.open(into, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        async with _running(tool, (*_DUMP, f"--snapshot={snapshot}"), url) as child:
            assert child.stdout is not None
            while chunk := await child.stdout.read(CHUNK):
                await asyncio.to_thread(file.write, chunk)
                digest.update(chunk)
                written += len(chunk)
                report(written)
        file.flush()
        await asyncio.to_thread(os.fsync, file.fileno())
    return digest.hexdigest()


async def restore(tool: Tool, url: str, source: Path, report: Callable[[int], None]) -> None:
    """Bring a dump into the empty database of ``url``: all of it, or nothing. Raises StorageError with what to do."""
    name = connection_config(url)["credentials"]["database"].replace("\\", r"\\").replace("'", r"\'")
    done = 0
    with source.open("rb") as file:
        async with _running(tool, (*_RESTORE, f"--dbname=dbname='{name}'"), url) as child:
            assert child.stdin is not None
            with suppress(BrokenPipeError, ConnectionResetError):  # it has ended: its exit code says why
                while chunk := await asyncio.to_thread(file.read, CHUNK):
                    child.stdin.write(chunk)
                    await child.stdin.drain()
                    done += len(chunk)
                    report(done)
            child.stdin.close()


@asynccontextmanager
async def _running(
    tool: Tool, arguments: Sequence[str], url: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program, and wait for its end; it is ended when the block fails. Raises StorageError when it fails."""
    child = await asyncio.create_subprocess_exec(
        tool.path,
        *arguments,
        env=tool_environment(url, os.environ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said = asyncio.ensure_future(_last_words(child))
    try:
        yield child
        code = await child.wait()
        words = await said
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
        said.cancel()
    if code != 0:
        raise StorageError(f"{tool.path.name} {_why(words, code)}")


async def _last_words(child: asyncio.subprocess.Process) -> str:
    """Read standard error to its end, and return the end of it."""
    assert child.stderr is not None
    said = b""
    while chunk := await child.stderr.read(CHUNK):
        said = (said + chunk)[-STDERR_BYTES:]
    return said.decode("utf-8", "replace")


def _why(words: str, code: int) -> str:
    """Return what a person can do about it; never the program's own text, which may hold rows."""
    for phrase, meaning in _SAID:
        if phrase in words:
            return f"failed, {meaning}"
    how = f"exit code {code}" if code > 0 else f"signal {-code}"
    return f"ended with {how}: see the database's log, and try again"
