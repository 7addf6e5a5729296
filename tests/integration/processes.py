"""Child processes of a test: their output goes to a file, they die with the test, they are ended by their own pid."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests import sentinel

PR_SET_PDEATHSIG = 1
KILLED_S = 60
"""How long a killed process may take to be gone, on a busy machine."""
_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def process(
    command: Sequence[str | Path],
    *,
    log: Path,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stop_s: float = 10,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``command`` with its output in ``log`` (name it ``*.log``: the sentinel looks there); SIGTERM at the end.

    ``environ`` is added to the environment of the tests.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(
            [str(c) for c in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
            cwd=cwd,
            preexec_fn=_die_with_parent,
        )
    try:
        yield child
        sentinel.check_processes(family(child.pid))
    finally:
        stop(child, timeout_s=stop_s)


def stop(child: subprocess.Popen[bytes], *, timeout_s: float = 10) -> int:
    """End ``child`` with SIGTERM, then SIGKILL, and return its exit code. Safe to repeat."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(KILLED_S)
    return child.returncode


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody holds now, and that no connection is given before it is listened on.

    The kernel gives connections those from 32768 on. Each worker of pytest has its own.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    while True:
        port = 12_000 + 2_500 * worker + secrets.randbelow(2_500)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def is_listening(port: int) -> bool:
    """Tell whether somebody accepts connections on ``port`` of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def family(pid: int) -> set[int]:
    """Return a process and all its descendants."""
    parents = {int(p.name): _stat(p) for p in Path("/proc").iterdir() if p.name.isdecimal()}
    found, new = set[int](), {pid}
    while new:
        found |= new
        new = {child for child, (_, parent) in parents.items() if parent in new} - found
    return found


def is_stopped(pid: int) -> bool:
    """Tell whether no thread of a process runs: SIGSTOP has reached all, or it has ended."""
    return all(_stat(task)[0] in "TtZX" for task in _tasks(pid))


def is_running(pid: int) -> bool:
    """Tell whether a process is there and not only waited for."""
    return _stat(Path("/proc") / str(pid))[0] not in "ZX"


def rss_bytes(pid: int) -> int:
    """Return the memory that a process holds now, 0 when it is gone."""
    return _status(pid, "VmRSS")


def peak_rss_bytes(pid: int) -> int:
    """Return the most memory that a process has held so far, or since `forget_peak`."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Let the peak begin anew (proc(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used, 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_files(pid: int) -> int:
    """Return how many descriptors a process holds, 0 when it is gone."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return 0


def _status(pid: int, name: str) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    _, found, rest = status.partition(f"{name}:")
    return int(rest.split()[0]) * 1024 if found else 0


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        return []


def _stat(process: Path) -> tuple[str, int]:
    """Return state and parent of a process or thread (proc(5)); dead and of nobody when it is gone."""
    try:
        state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return "X", 0
    return state, int(parent)
