"""Processes that a lab started, known by pid *and* start time: a pid that has been given to another is nobody of
ours.

They are remembered in files, because the lab that ``make cluster`` starts is stopped by another process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.integration.waiting import eventually

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Of this process: it has to ask how they ended, or they stay as zombies."""

ENDS_WITHIN_S = 30
"""After SIGKILL; a process in uninterruptible sleep may take a moment."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A process that was started, whether it still runs or not."""

    file: Path

    @property
    def name(self) -> str:
        """What it was started as."""
        return self.file.stem

    @property
    def pid(self) -> int | None:
        """Its pid, only while it is the very process that was started; None when it has ended."""
        try:
            pid, started = self.file.read_text().split()
        except FileNotFoundError:
            return None
        _bury(int(pid))
        found = _stat(int(pid))
        return int(pid) if found and found.started == started and not found.is_gone else None

    def send(self, number: signal.Signals) -> None:
        """Send a signal, when it still runs."""
        if pid := self.pid:
            os.kill(pid, number)

    def end(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        """Return when it has ended."""
        eventually(lambda: self.pid is None, deadline_s=ENDS_WITHIN_S, what=f"{self.name} ends")


def remember(file: Path, pid: int) -> Remembered:
    """Write down who ``pid`` is."""
    found = _stat(pid)
    if found is None:
        raise AssertionError(f"{file.stem} ended at once: see its log beside {file}")
    file.write_text(f"{pid} {found.started}")
    return Remembered(file)


def start(
    command: Sequence[str | Path], *, log: Path, cwd: Path, environ: Mapping[str, str], tied: bool
) -> int:
    """Start a process in a session of its own, its output in ``log``; return its pid.

    ``tied``: it is killed when we die; to the kernel that is when the *thread* ends that calls this (prctl(2)).
    """
    with log.open("ab") as output:
        child = subprocess.Popen(
            [str(c) for c in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=dict(environ),
            start_new_session=True,
            preexec_fn=_die_with_parent if tied else None,
        )
    _children[child.pid] = child
    return child.pid


def only_child(pid: int, is_wanted: Callable[[int], bool] = lambda _: True) -> int | None:
    """Return the child of a process for which ``is_wanted``, None while there is none."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (found := _stat(int(entry.name))) and found.parent == pid:
            return int(entry.name) if is_wanted(int(entry.name)) else None
    return None


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    parent: int
    started: str
    """In clock ticks since boot: no two processes share pid and this."""
    threads: int

    @property
    def is_gone(self) -> bool:
        """Whether all of it has ended: the first thread may be a zombie while others still hold a socket."""
        return self.state in "ZX" and self.threads <= 1


def _stat(pid: int) -> _Stat | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return _Stat(fields[0], int(fields[1]), fields[19], int(fields[17]))


def _bury(pid: int) -> None:
    child = _children.get(pid)
    if child and child.poll() is not None:
        del _children[pid]


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
