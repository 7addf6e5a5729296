"""The system under proof: a real `aegate up`, a receiver, a database of its own; any process of it can be killed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aegate_core.health import read_state
from tests.integration.cli.installations import AEGATE, ROUTE, device, up_arguments
from tests.integration.postgres import PostgresServer, postgres_server
from tests.integration.processes import (
    family,
    free_port,
    is_listening,
    is_running,
    is_stopped,
    process,
    stop,
)
from tests.integration.waiting import eventually

START_S = 240
NO_DATABASE = 2
"""How `aegate up` ends when it could not start, for that reason among others."""
QUIET = "  study: {quietPeriodSeconds: 1, maxAgeSeconds: 30}\n"


@dataclass
class Stage:
    """A running installation, with what is needed to kill and start it."""

    root: Path
    sink_port: int
    postgres: PostgresServer | None
    url: str
    acknowledged: dict[str, str] = field(default_factory=dict)
    """SOP Instance UID → digest, of everything that any device saw acknowledged in earlier steps."""
    environ: dict[str, str] = field(default_factory=dict)
    """More in the environment of every start."""
    ports: dict[str, int] = field(default_factory=lambda: {n: free_port() for n in ("ct1", "us1", "http")})
    _up: subprocess.Popen[bytes] | None = None
    _is_server_killed: bool = False
    """PostgreSQL was killed since the last start."""
    _read: int = 0
    _pids: dict[str, int] = field(default_factory=dict)
    _deaths: Counter[str] = field(default_factory=Counter)
    _stops: Counter[str] = field(default_factory=Counter)

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.root / "data"

    @property
    def log(self) -> Path:
        """What all processes said, over all starts."""
        return self.root / "up.log"

    @property
    def received(self) -> Path:
        """The receiver's folder."""
        return self.root / "received"

    def begin(self) -> None:
        """Write the resources and start."""
        folder = self.root / "hospital"
        folder.mkdir()
        (folder / "ct1.yaml").write_text(device("ct1", more=QUIET))
        own_port = f"  listener: {{port: {self.ports['us1']}}}\n"
        (folder / "us1.yaml").write_text(device("us1", more=QUIET + own_port))
        (folder / "pacs.yaml").write_text(device("pacs", self.sink_port))
        (folder / "route.yaml").write_text(ROUTE.replace("[ct1]", "[ct1, us1]"))
        self.start()

    def start(self, **environ: str) -> None:
        """Start `aegate up` with more in its environment; it is not waited for."""
        arguments = up_arguments(self.root / "hospital", self.data, self.ports["ct1"], self.ports["http"])
        self._pids.clear()
        self._is_server_killed = False
        with self.log.open("ab") as log:
            self._up = subprocess.Popen(
                [*AEGATE, *arguments, "--database", self.url],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "AEGATE_RESTART_MAX_S": "0.5", **self.environ, **environ},
            )

    def is_ready(self) -> bool:
        """Whether it says that all its processes are ready. Started anew first, when it found no database at its start.

        That is what a service manager does: it ends at once then, because the URL may be wrong.
        """
        assert self._up is not None
        if self._up.poll() == NO_DATABASE and self._has_lost_its_database():
            self.start()
        assert self._up.poll() is None, f"aegate up ended by itself with {self._up.returncode}: {self.log}"
        said = read_state(self.data / "run" / "up.state")
        return said is not None and said.state == "ready" and said.pid == self._up.pid

    def _has_lost_its_database(self) -> bool:
        """Whether PostgreSQL was killed since it was started, and its last word is about that."""
        killed, self._is_server_killed = self._is_server_killed, False
        last = self.log.read_text().splitlines()[-1]
        return killed and last.startswith("aegate: the database at ") and "does not answer" in last

    def until_ready(self) -> None:
        """Wait for that."""
        eventually(self.is_ready, deadline_s=START_S, what="aegate up is ready")

    def deaths(self) -> Counter[str]:
        """Return how often each child died of SIGKILL so far, by its name."""
        self._learn()
        return self._deaths.copy()

    def stops(self) -> Counter[str]:
        """Return how often each child ended in good order that the supervisor did not stop, by its name."""
        self._learn()
        return self._stops.copy()

    def names(self) -> list[str]:
        """Return what can be killed now: the processes that run, and the supervisor."""
        self._learn()
        server = ["postgres"] if self.postgres is not None else []
        return [*sorted(self._pids), "supervisor", *server]

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> bool:
        """Signal a process and bring about what brings it back; False when it was not there."""
        if name == "postgres":
            assert self.postgres is not None
            self._is_server_killed = True
            self.postgres.kill()
            self.postgres.start()
            return True
        if name == "supervisor":
            assert self._up is not None
            self._up.kill()
            self._up.wait()
            self.start()
            return True
        pid = self._pids.get(name)
        if pid is None:
            return False  # it went with its supervisor a moment ago
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def kill_between_calls(self, name: str, journal: Path) -> bool:
        """SIGKILL a process when what it did last stands in ``journal`` (disk.c); False when it was not there."""
        try:
            pid = self._pids[name]
            while True:
                os.kill(pid, signal.SIGSTOP)
                eventually(lambda: is_stopped(pid), what=f"{name} stands still")
                if _holder(journal) != pid:
                    break
                os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGKILL)
        except (KeyError, ProcessLookupError):
            return False
        return True

    def power_off(self) -> None:
        """Stop all its processes at one instant, then end them: none did anything that another one saw after it."""
        assert self._up is not None
        stopped: set[int] = set()
        while found := family(self._up.pid) - stopped:
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            eventually(lambda found=found: all(map(is_stopped, found)), deadline_s=30, what="all stand still")
            stopped |= found
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._up.wait()
        eventually(lambda: not any(map(is_running, stopped)), deadline_s=30, what="all are gone")

    def ask_to_stop(self, number: signal.Signals, times: int, *, timeout_s: float) -> tuple[int, bool]:
        """Signal the supervisor, and wait until it has ended; return its exit code, and whether it had said a word.

        Raises TimeoutExpired when it does not end.
        """
        assert self._up is not None
        was_up = f'"pid": {self._up.pid}' in self.log.read_text() or self.is_ready()
        for _ in range(times):
            self._up.send_signal(number)
        return self._up.wait(timeout_s), was_up

    def bad_ends(self) -> list[str]:
        """Return the processes that had to be killed, or that failed, over all starts."""
        lines = (line for line in self.log.read_text().splitlines() if line.startswith('{"time"'))
        said = [json.loads(line) for line in lines]
        bad = [s for s in said if s["event"] in ("child.killed", "process.failed")]
        bad += [s for s in said if s["event"] == "child.exited" and s["code"] not in (0, -signal.SIGTERM)]
        return [f"{s['event']} {s.get('process')}: {s.get('code', s.get('error', ''))}" for s in bad]

    def end(self) -> int:
        """Stop it in good order and return its exit code."""
        assert self._up is not None
        return stop(self._up, timeout_s=60)

    def _learn(self) -> None:
        """Read which process id each child was started with last."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            lines = log.readlines()
        for line in lines:
            if not line.endswith(b"\n"):
                break
            self._read += len(line)
            if not line.startswith(b'{"time"') or b'"child.' not in line:
                continue
            said = json.loads(line)
            if said["event"] == "child.started":
                self._pids[said["process"]] = int(said["pid"])
            if said["event"] == "child.exited" and said["code"] == -signal.SIGKILL:
                self._deaths[said["process"]] += 1
            if said["event"] == "child.exited" and said["code"] == 0:
                self._stops[said["process"]] += 1


def _holder(journal: Path) -> int:
    """Return who holds the lock of the journal now, 0 for nobody."""
    asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with journal.open("rb+") as file:
        kind, *_, pid = struct.unpack("hhqqi", fcntl.fcntl(file, fcntl.F_GETLK, asked))
    return 0 if kind == fcntl.F_UNLCK else int(pid)


@contextmanager
def stage(
    root: Path, *, database: str, environ: dict[str, str] | None = None, is_waited_for: bool = True
) -> Iterator[Stage]:
    """Set a stage below ``root`` on ``sqlite`` or ``postgres``; everything it started is ended afterwards."""
    with ExitStack() as stack:
        port = free_port()
        command = [sys.executable, "-m", "aegate_cli", "sink", root / "received"]
        listen = ["--port", str(port), "--title", "PACS"]
        stack.enter_context(process([*command, *listen], log=root / "sink.log"))
        eventually(lambda: is_listening(port), deadline_s=30, what="the receiver listens")
        server = stack.enter_context(postgres_server()) if database == "postgres" else None
        url = server.create("aegate") if server else f"sqlite://{root / 'data' / 'aegate.sqlite3'}"
        here = Stage(root, port, server, url, environ=environ or {})
        here.begin()
        stack.callback(here.end)
        if is_waited_for:
            here.until_ready()
        yield here
