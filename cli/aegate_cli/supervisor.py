"""All processes of one machine: which run, how they are, and their common end.

Started and stopped by name, live; who decides which there should be is `assembly`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aegate_cli.process import LONGEST_DELAY_S, Child, ProcessSpec

WATCH_S = 0.1
"""How often state files are read while a process is not ready."""
IDLE_WATCH_S = 1.0
"""The same when all are: a handful of small files a second."""


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One process as the status table and the metrics show it."""

    name: str
    state: str
    """What the process says (starting, ready, degraded, stopping, failed), or restarting."""
    pid: int | None
    port: int
    health_port: int
    restarts: int
    generation: int
    message: str


class Supervisor:
    """Keeps processes running; `changed` is called after every change of what `views` returns.

    It says whether it could do what it does then; if not, it is called again.
    """

    def __init__(
        self,
        *,
        grace_s: float,
        restart_max_s: float = LONGEST_DELAY_S,
        changed: Callable[[], bool] = lambda: True,
    ) -> None:
        self._grace_s = grace_s
        self._restart_max_s = restart_max_s
        self._changed = changed
        self._children: dict[str, Child] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def names(self) -> frozenset[str]:
        """Names of the processes that should run."""
        return frozenset(self._children)

    def spec(self, name: str) -> ProcessSpec | None:
        """Return how the process of that name is started."""
        child = self._children.get(name)
        return child.spec if child else None

    def start(self, spec: ProcessSpec, *, grace_s: float | None = None) -> None:
        """Begin to run ``spec``; its name must be free."""
        if spec.name in self._children:
            raise ValueError(f"a process named {spec.name} runs already")
        child = Child(
            spec,
            grace_s=self._grace_s if grace_s is None else grace_s,
            restart_max_s=self._restart_max_s,
        )
        self._children[spec.name] = child
        self._tasks[spec.name] = asyncio.create_task(child.run(), name=spec.name)

    async def stop(self, name: str) -> None:
        """Let the process finish what it does, and return when it has ended. Unknown names are no error."""
        child = self._children.pop(name, None)
        task = self._tasks.pop(name, None)
        if child is None or task is None:
            return
        child.stop()
        self._ending.add(task)
        try:
            await asyncio.shield(task)
        finally:
            if task.done():
                self._ending.discard(task)

    async def stop_all(self, hurry: asyncio.Event) -> None:
        """Stop all at once, within the grace period; kill what is left as soon as ``hurry`` is set."""
        children = list(self._children.values())
        tasks = [*self._tasks.values(), *self._ending]
        for child in children:
            child.stop()
        hurrying = asyncio.create_task(self._hurry(children, hurry))
        await asyncio.gather(*tasks)
        hurrying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await hurrying

    @staticmethod
    async def _hurry(children: Iterable[Child], hurry: asyncio.Event) -> None:
        await hurry.wait()
        for child in children:
            child.hurry()

    def views(self) -> tuple[ProcessView, ...]:
        """Return how every process is, now."""
        return tuple(_view(child) for child in self._children.values())

    @property
    def all_ready(self) -> bool:
        """Whether every process has said that it is ready."""
        return all(child.is_ready for child in self._children.values())

    async def watch(self) -> None:
        """Call ``changed`` whenever a process's state changed; runs until cancelled."""
        before: tuple[ProcessView, ...] = ()
        while True:
            now = self.views()
            if now != before and self._changed():
                before = now
            await asyncio.sleep(IDLE_WATCH_S if self.all_ready else WATCH_S)

    async def until_ready(self, timeout_s: float) -> bool:
        """Wait until every process is ready; False when that took too long."""
        deadline = time.monotonic() + timeout_s
        while not self.all_ready:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(WATCH_S)
        return True


def _view(child: Child) -> ProcessView:
    said = child.state
    state = "restarting" if child.waits_until is not None else said.state if said else "starting"
    has_ended = child.last_exit is not None and not child.is_ready
    exit_message = f"ended with {child.last_exit}" if has_ended else ""
    return ProcessView(
        name=child.spec.name,
        state=state,
        pid=child.pid,
        port=said.port if said else 0,
        health_port=said.health_port if said else 0,
        restarts=child.restarts,
        generation=said.generation if said else 0,
        message=said.message if said and said.message else exit_message,
    )
