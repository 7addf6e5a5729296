"""A private PostgreSQL server: the distribution's binaries, a folder of its own, a Unix socket in it, no TCP port.

``fsync`` is off: what these tests kill is processes, never the kernel.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.identities import Identity
from tests.integration.processes import family, is_running
from tests.integration.waiting import eventually

USER = "aegate"
START_S = 120
"""Recovery after a crash included, on a busy machine."""
MEMORY, ROOM_BYTES = "/dev/shm", 8_000_000_000
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "autovacuum_naptime": "5min",
    "log_min_messages": "warning",
}


@dataclass(slots=True)
class PostgresServer:
    """A server; databases are made and dropped in milliseconds."""

    folder: Path
    binaries: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    """More of them than SETTINGS; taken up at the next start."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """More in its environment; likewise."""
    _running: subprocess.Popen[bytes] | None = None

    @property
    def version(self) -> int:
        """The major version."""
        return int(self.binaries.parent.name)

    def initialise(self) -> None:
        """Make the data folder."""
        initdb: list[str | Path] = [
            *(self.binaries / "initdb", "-D", self.folder / "data", "-A", "trust", "-U", USER),
            *("-E", "UTF8", "--locale=C.UTF-8", "--no-sync"),
        ]
        done = [*self._as_server(), *initdb]
        subprocess.run(done, check=True, capture_output=True, timeout=60, cwd=self.folder)

    def copy(self, primary: PostgresServer) -> None:
        """Make the data folder as a standby of ``primary``, which runs."""
        backup: list[str | Path] = [
            self.binaries / "pg_basebackup",
            "-D",
            self.folder / "data",
            "-h",
            primary.folder,
            "-U",
            USER,
        ]
        command = [*self._as_server(), *backup, "-R", "-c", "fast", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=self.folder)

    def start(self) -> None:
        """Start, and return when it takes connections."""
        self._launch()
        eventually(lambda: self._says(0), deadline_s=START_S, what="PostgreSQL is ready")

    def start_recovering(self) -> None:
        """Start as after a crash, and return when it refuses connections: it does so until `recover`."""
        (self.folder / "data" / "standby.signal").touch()
        self._launch(hot_standby="off")
        eventually(lambda: self._says(1), deadline_s=30, what="PostgreSQL is starting")

    def recover(self) -> None:
        """End the recovery, as `pg_ctl promote` does, and return when it takes connections."""
        assert self._running is not None
        (self.folder / "data" / "promote").touch()
        self._running.send_signal(signal.SIGUSR1)
        eventually(lambda: self._says(0), deadline_s=30, what="PostgreSQL is ready")

    def _launch(self, **settings: str) -> None:
        wanted = {**SETTINGS, **self.settings, **settings, "unix_socket_directories": self.folder}
        options = [f"-c{name}={value}" for name, value in wanted.items()]
        command: list[str | Path] = [
            *self._as_server(),
            self.binaries / "postgres",
            "-D",
            self.folder / "data",
            *options,
        ]
        with (self.folder / "server.log").open("ab") as log:
            self._running = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env={**os.environ, **self.environ}
            )

    def _says(self, code: int) -> bool:
        """Say whether pg_isready answers that: 0 takes connections, 1 refuses them."""
        asked: list[str | Path] = [
            self.binaries / "pg_isready",
            "-q",
            "-h",
            self.folder,
            "-U",
            USER,
            "-d",
            "postgres",
        ]
        return subprocess.run(asked, timeout=10).returncode == code

    def revive(self) -> None:
        """Start it again if it has ended by itself, as a service manager does: it gives up when it cannot recover."""
        if self._running is not None and self._running.poll() is not None:
            self.start()

    def stop(self) -> None:
        """Stop at once, whoever is connected; what was committed stays. Safe to repeat."""
        if self._running is not None:
            self._running.send_signal(signal.SIGINT)  # fast shutdown
            self._running.wait(30)
            self._running = None

    def kill(self) -> None:
        """End it as a crash does, all its processes with it: they end by themselves, and none starts beside them."""
        assert self._running is not None
        all_of_it = family(self._running.pid)
        self._running.kill()
        self._running.wait(30)
        self._running = None
        eventually(lambda: not any(map(is_running, all_of_it)), deadline_s=60, what="PostgreSQL is gone")

    def _as_server(self) -> list[str]:
        """Return what ends a program with us; as root it runs as the user postgres: the server refuses root."""
        as_user: list[str] = []
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            as_user = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        return ["setpriv", *as_user, "--pdeathsig=INT"]

    def url(self, database: str) -> str:
        """Return the URL of ``database``, as aegate takes it."""
        return f"postgres://{USER}@/{database}?host={self.folder}"

    def serve_tls(self, identity: Identity) -> None:
        """Speak TLS from now on, to whoever asks for it."""
        data = self.folder / "data"
        owner = data.stat()
        for source, name in ((identity.certificate, "server.crt"), (identity.key, "server.key")):
            shutil.copyfile(source, data / name)
            (data / name).chmod(0o600)
            os.chown(data / name, owner.st_uid, owner.st_gid)
        self.run("ALTER SYSTEM SET ssl = on")
        self.run("SELECT pg_reload_conf()")

    def create(self, database: str, *, template: str = "template0") -> str:
        """Make ``database`` as a copy of ``template`` and return its URL.

        Its files are copied: since PostgreSQL 15 each page would go through the log instead, for twice the work.
        """
        copied = "STRATEGY file_copy" if self.version >= 15 else ""
        self.run(f'CREATE DATABASE "{database}" TEMPLATE "{template}" {copied}')
        return self.url(database)

    def drop(self, database: str) -> None:
        """Drop ``database``, whoever is still connected."""
        self.run(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def run(self, sql: str, *, database: str = "postgres") -> str:
        """Run ``sql`` through psql and return what it prints."""
        psql: list[str | Path] = [
            self.binaries / "psql",
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            self.folder,
            "-U",
            USER,
            "-d",
            database,
        ]
        done = subprocess.run([*psql, "-c", sql], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()


def find_binaries() -> Path:
    """Return the folder of the newest server binaries installed. Raises AssertionError when there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    assert found, "PostgreSQL's server binaries are missing: run `make test`, which installs them"
    return found[-1].parent


@contextmanager
def postgres_server(
    *, standby_of: PostgresServer | None = None, in_memory: bool = False, **settings: str
) -> Iterator[PostgresServer]:
    """Start a server of one's own, empty or as a standby of another, and stop it at the end.

    ``in_memory``: where there is room for that. To make a database takes an eighth of the work there.
    """
    has_room = Path(MEMORY).is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES
    place = MEMORY if in_memory and has_room else "/tmp"
    # Not in a folder of the test: a socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="aegate-postgres-", dir=place))
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
    server = PostgresServer(folder, find_binaries(), settings)
    try:
        if standby_of is None:
            server.initialise()
        else:
            server.copy(standby_of)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
