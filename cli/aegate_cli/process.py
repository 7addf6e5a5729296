"""One supervised process: started, watched, started again with backoff, stopped within a grace period.

The surprise: a process is told to stop by signal and waited for, never awaited by cancelling a task, so a drain is
never cut by our own shutdown.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aegate_core.events import CHILD_EXITED, CHILD_KILLED, CHILD_STARTED, CHILD_STOPPED, Log
from aegate_core.health import ProcessState, read_state

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
STEADY_AFTER_S = 30.0
"""A process that ran this long before it ended begins again at the first delay."""

log = Log("up")


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What to start: ``python -m module`` with ``environment`` added to ours."""

    name: str
    module: str
    environment: Mapping[str, str]
    state_file: Path
    inherited_fds: tuple[int, ...] = ()


def restart_delay_s(quick_ends_in_row: int, longest_s: float = LONGEST_DELAY_S) -> float:
    """Return how long to wait before starting again: 0.5 s, doubled for each quick end in a row, to ``longest_s``."""
    return min(FIRST_DELAY_S * 2.0 ** max(quick_ends_in_row - 1, 0), longest_s)


@dataclass(slots=True)
class Child:
    """A process and its history. `run` keeps it running until `stop`."""

    spec: ProcessSpec
    pid: int | None = None
    restarts: int = 0
    last_exit: int | None = None
    grace_s: float = 30.0
    restart_max_s: float = LONGEST_DELAY_S
    waits_until: float | None = None
    """Monotonic time of the next start, while it is waited for."""
    _said: ProcessState | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def state(self) -> ProcessState | None:
        """What the process says of itself; None while it has not spoken, or when an earlier one did.

        Where the file cannot be read, what was read last stands: a bad disk must not end those that work.
        """
        with contextlib.suppress(OSError):
            self._said = read_state(self.spec.state_file)
        return self._said if self._said is not None and self._said.pid == self.pid else None

    @property
    def is_ready(self) -> bool:
        """Whether the process that runs now has said that it is ready."""
        said = self.state
        return said is not None and said.state in ("ready", "degraded")

    def stop(self) -> None:
        """Ask `run` to end the process and return. Safe to repeat."""
        self._stopping.set()

    def hurry(self) -> None:
        """End it at once, without waiting for what it is doing."""
        self._stopping.set()
        self._hurry.set()

    async def run(self) -> None:
        """Start the process, and again whenever it ends; return when it was stopped and has ended."""
        quick_ends = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                process = await self._start()
            except OSError as error:
                # No memory or no process slot just now: the same as a process that ended at once.
                self.last_exit = error.errno
            else:
                await self._until_end_or_stop(process)
                if self._stopping.is_set():
                    await self._end(process)
                    return
                self.last_exit = process.returncode
            quick_ends = 1 if time.monotonic() - started > STEADY_AFTER_S else quick_ends + 1
            delay_s = restart_delay_s(quick_ends, self.restart_max_s)
            self.restarts += 1
            log(CHILD_EXITED, process=self.spec.name, code=self.last_exit, retry_s=delay_s)
            self.waits_until = time.monotonic() + delay_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()
            self.waits_until = None

    async def _start(self) -> asyncio.subprocess.Process:
        self.spec.state_file.unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "aegate_cli.child",
            str(os.getpid()),
            self.spec.module,
            env={**os.environ, **self.spec.environment, "AEGATE_STATE_FILE": str(self.spec.state_file)},
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=self.spec.inherited_fds,
            process_group=0,
        )
        self.pid = process.pid
        log(CHILD_STARTED, process=self.spec.name, pid=process.pid)
        return process

    async def _until_end_or_stop(self, process: asyncio.subprocess.Process) -> None:
        ended = asyncio.ensure_future(process.wait())
        stopped = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ended.done():
            ended.cancel()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """SIGTERM, then SIGKILL to the whole group when the grace period is over or somebody is in a hurry."""
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            ended = asyncio.ensure_future(process.wait())
            hurry = asyncio.ensure_future(self._hurry.wait())
            await asyncio.wait({ended, hurry}, timeout=self.grace_s, return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
            if not ended.done():
                log(CHILD_KILLED, process=self.spec.name, pid=process.pid)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            await ended
        self.last_exit = process.returncode
        self.pid = None
        log(CHILD_STOPPED, process=self.spec.name, code=process.returncode)
