"""Tasks that a process must not be without while it serves: one that ends by a fault says so, and begins again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client import Gauge

from aegate_core.events import TASK_FAILED, Log, fault_text

AGAIN_S = 5.0
"""How long after a fault a task begins again. By feel: a fault that stays costs a line of log this often."""
STEADY_S = 60.0
"""How long a task must last after a fault to count as well again; longer than the rarest of them takes for a turn."""

log = Log("api")


class Tasks:
    """The tasks of a process, and which of them fail, for `/readyz`, the state file and ``failing``, a metric."""

    def __init__(self, failing: Gauge, *, again_s: float = AGAIN_S, steady_s: float = STEADY_S) -> None:
        self._failing = failing
        self._again_s = again_s
        self._steady_s = steady_s
        self._faults: dict[str, str] = {}

    def trouble(self) -> str | None:
        """Return which tasks fail, and where, or None."""
        if not self._faults:
            return None
        said = ", ".join(f"{task} ({fault})" for task, fault in sorted(self._faults.items()))
        return f"tasks in the background fail and begin again: {said}; see task.failed in the log"

    async def keep(self, task: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work``, which ends only by a fault, again and again until cancelled. ``task``: its name in the log."""
        loop = asyncio.get_running_loop()
        self._failing.labels(task).set(0)
        while True:
            steady = loop.call_later(self._steady_s, self._is_well, task)
            try:
                await work()
            except Exception as fault:
                # The outermost place of a task: nobody awaits it before the end, so its fault would be heard by nobody.
                said = fault_text(fault)
                log(TASK_FAILED, task=task, error=said, retry_s=self._again_s)
                self._faults[task] = said
                self._failing.labels(task).set(1)
            finally:
                steady.cancel()
            await asyncio.sleep(self._again_s)

    def _is_well(self, task: str) -> None:
        self._faults.pop(task, None)
        self._failing.labels(task).set(0)
