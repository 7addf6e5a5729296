"""Tasks that a process must not be without while it serves: one that ends by a fault says so, and begins again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aegate_core.events import TASK_FAILED, Log, fault_text

AGAIN_S = 5.0
"""How long after a fault a task begins again. By feel: a fault that stays costs a line of log this often."""

log = Log("api")


async def kept_up(task: str, work: Callable[[], Awaitable[None]], *, again_s: float = AGAIN_S) -> None:
    """Do ``work``, which ends only by a fault, again and again until cancelled. ``task``: its name in the log."""
    while True:
        try:
            await work()
        except Exception as fault:
            # The outermost place of a task: nobody awaits it before the end, so its fault would be heard by nobody.
            log(TASK_FAILED, task=task, error=fault_text(fault), retry_s=again_s)
        await asyncio.sleep(again_s)
