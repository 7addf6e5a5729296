"""A container as a process of this machine: started, probed, started again when it ends, stopped by SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.cluster.lab.local_node.api import moment
from tests.cluster.lab.local_node.probes import Probe
from tests.cluster.lab.local_node.specs import Manifest, NotYet

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S = 1.0, 30.0
"""kubelet has 10 s and 5 minutes; a test has no time for them."""

LOG_TAIL_BYTES = 2048
"""What FallbackToLogsOnError takes of a log."""


@dataclass(frozen=True, slots=True)
class Run:
    """What is run, where, with what."""

    command: list[str]
    environ: Mapping[str, str]
    folder: Path
    log: Path


def now() -> str:
    """Return the time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Container:
    """One container of a pod, over all its restarts."""

    def __init__(
        self,
        said: Manifest,
        ip: str,
        restart_policy: str,
        prepare: Callable[[], Run],
        changed: Callable[[], None],
    ) -> None:
        self.said = said
        self.ready = False
        self.started = False
        self.is_done = asyncio.Event()
        """It has ended and is not started again."""
        self.is_started = asyncio.Event()
        """What comes after a sidecar may begin."""
        self._ip = ip
        self._restart_policy = restart_policy
        self._prepare = prepare
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._run: Run | None = None
        self._log_from = 0
        self._stopping = False
        self._is_condemned = False
        self._restarts = 0
        self._state: dict[str, Any] = {"waiting": {"reason": "PodInitializing"}}
        self._last: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """Its name in the pod."""
        return str(self.said["name"])

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        ended = self._state.get("terminated")
        return int(ended["exitCode"]) if ended else None

    @property
    def is_running(self) -> bool:
        """Whether there is a process now."""
        return "running" in self._state

    def status(self) -> dict[str, Any]:
        """Return its containerStatus."""
        image = self.said["image"]
        return {
            "name": self.name,
            "image": image,
            "imageID": image,
            "ready": self.ready,
            "started": self.started,
            "restartCount": self._restarts,
            "state": self._state,
            "lastState": self._last,
        }

    async def run(self) -> None:
        """Run it until it is done."""
        back_off_s = FIRST_BACK_OFF_S
        while not self._stopping:
            if await self._begin():
                code = await self._follow()
                if self._stopping or not self._again(code):
                    break
                reason = "CrashLoopBackOff"
                self._last = self._state
                self._restarts += 1
                message = f"back-off {back_off_s:.0f}s restarting failed container={self.name}"
                self._show({"waiting": {"reason": reason, "message": message}})
            await moment(back_off_s)
            back_off_s = min(2 * back_off_s, LONGEST_BACK_OFF_S)
        self.is_done.set()

    async def stop(self, grace_s: float) -> None:
        """Call preStop, send SIGTERM, and after the grace period SIGKILL. Returns when it is gone."""
        self._stopping = True
        if self._process is None or self._process.returncode is not None:
            return
        try:
            async with asyncio.timeout(grace_s):
                await self._pre_stop()
                self._send(signal.SIGTERM)
                await self._process.wait()
        except TimeoutError:
            self._send(signal.SIGKILL)
        await self._process.wait()

    async def execute(self, command: list[str], timeout_s: float) -> int:
        """Run a command as if inside; 124 when it takes too long."""
        assert self._run is not None
        child = await _start(Run(command, self._run.environ, self._run.folder, self._run.log))
        try:
            return await asyncio.wait_for(child.wait(), timeout_s)
        except TimeoutError:
            _kill_group(child)
            return 124

    async def _begin(self) -> bool:
        try:
            self._run = self._prepare()
            self._log_from = self._run.log.stat().st_size if self._run.log.exists() else 0
            self._process = await _start(self._run)
        except NotYet as wait:
            self._show({"waiting": {"reason": wait.reason, "message": str(wait)}})
            return False
        except OSError as error:
            self._show({"waiting": {"reason": "RunContainerError", "message": str(error)}})
            return False
        self._is_condemned = False
        self._show({"running": {"startedAt": now()}})
        return True

    async def _follow(self) -> int:
        """Probe the process until it ends."""
        assert self._process is not None
        began = now()
        probing = asyncio.create_task(self._probe())
        try:
            code = await self._process.wait()
        finally:
            probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await probing
        _kill_group(self._process)
        self.ready = self.started = False
        number = code if code >= 0 else 128 - code
        ended = {
            "exitCode": number,
            "reason": "Completed" if code == 0 else "Error",
            "message": self._said(code),
        }
        self._show({"terminated": {**ended, "startedAt": began, "finishedAt": now()}})
        return number

    async def _probe(self) -> None:
        await self._pass("startupProbe")
        self.started = True
        self.is_started.set()
        self.ready = "readinessProbe" not in self.said
        self._changed()
        async with asyncio.TaskGroup() as group:
            if said := self.said.get("readinessProbe"):
                group.create_task(self._make(said).follow(self._set_ready))
            if said := self.said.get("livenessProbe"):
                group.create_task(self._make(said).follow(self._judge_life))

    async def _pass(self, kind: str) -> None:
        """Return when the start-up probe succeeds; when it fails the process is ended."""
        said = self.said.get(kind)
        if not said:
            return
        passed = asyncio.Event()

        async def tell(good: bool) -> None:
            if good:
                passed.set()
            else:
                await self._judge_life(good=False)

        following = asyncio.create_task(self._make(said).follow(tell))
        try:
            await passed.wait()
        finally:
            following.cancel()

    def _make(self, said: Manifest) -> Probe:
        return Probe(said, self.said, self._ip, self.execute)

    async def _set_ready(self, good: bool) -> None:
        if self.ready is not good:
            self.ready = good
            self._changed()

    async def _judge_life(self, good: bool) -> None:
        """SIGTERM at the first verdict, SIGKILL at the next, a period later."""
        if not good:
            self._send(signal.SIGKILL if self._is_condemned else signal.SIGTERM)
            self._is_condemned = True

    async def _pre_stop(self) -> None:
        hook = self.said.get("lifecycle", {}).get("preStop", {})
        if pause := hook.get("sleep"):
            await moment(pause["seconds"])
        elif command := hook.get("exec"):
            await self.execute(command["command"], LONGEST_BACK_OFF_S)
        elif http := hook.get("httpGet"):
            await Probe({"httpGet": http}, self.said, self._ip, self.execute).once()

    def _again(self, code: int) -> bool:
        return self._restart_policy == "Always" or (self._restart_policy == "OnFailure" and code != 0)

    def _send(self, number: signal.Signals) -> None:
        """SIGKILL goes to all that the process started, anything else to it alone, as to process 1 of a container."""
        if self._process is None or self._process.returncode is not None:
            return
        if number is signal.SIGKILL:
            _kill_group(self._process)
        else:
            self._process.send_signal(number)

    def _show(self, state: dict[str, Any]) -> None:
        self._state = state
        self._changed()

    def _said(self, code: int) -> str:
        if code == 0 or self.said.get("terminationMessagePolicy") != "FallbackToLogsOnError" or not self._run:
            return ""
        return self._run.log.read_bytes()[self._log_from :][-LOG_TAIL_BYTES:].decode(errors="replace")


async def _start(run: Run) -> asyncio.subprocess.Process:
    run.folder.mkdir(parents=True, exist_ok=True)
    with run.log.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *run.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(run.environ),
            cwd=run.folder,
            start_new_session=True,
            preexec_fn=_die_with_node,
        )


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _die_with_node() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
