"""Ends a process that has no memory left, or whose event loop stands still, so that it is started anew.

The surprise: it would not end by itself. Where memory is short a thread may die before its first line, and whoever
starts it, the event loop for its executor, waits for ever for a sign of life; or every request fails, one by one, and
the process says that it is well.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import threading
import time
from collections.abc import AsyncIterator

from aegate_core.events import PROCESS_FAILED, Log

LOOK_EVERY_S = 3.0
STILL_LOOKS = 10
"""So many looks in a row without a turn of the loop. Looks, not seconds: a process that was paused has had none."""
STARVING_LOOKS = 3
ENOUGH_BYTES = 16 << 20
"""What must be there to be had: two threads' stacks. By feel; a process at its limit has less."""
_EXIT_CODE = 70


def has_memory() -> bool:
    """Say whether this process may have a little more memory (RLIMIT_AS, RLIMIT_DATA); none of it is touched."""
    try:
        mmap.mmap(-1, ENOUGH_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, MemoryError):
        return False
    return True


class Watchdog:
    """Watches one event loop from a thread that runs from the start: later there may be no memory for one."""

    def __init__(self, process: str, *, look_every_s: float = LOOK_EVERY_S) -> None:
        self._process = process
        self._look_every_s = look_every_s
        self._has_turned = True
        self._is_over = threading.Event()

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch the running loop until the end of the block."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        turning = asyncio.create_task(self._turn())
        try:
            yield
        finally:
            self._is_over.set()
            turning.cancel()

    async def _turn(self) -> None:
        while True:
            self._has_turned = True
            await asyncio.sleep(self._look_every_s / 3)

    def _watch(self) -> None:
        try:
            fault = self._look_until_over()
            if fault:
                Log("process")(PROCESS_FAILED, process=self._process, error=fault, code="WATCHDOG")
        except MemoryError:
            fault = "no memory"
        if fault:
            os._exit(_EXIT_CODE)

    def _look_until_over(self) -> str:
        """Return what is wrong, when it is; '' when the block has ended."""
        still = starving = 0
        while not self._is_over.is_set():
            time.sleep(self._look_every_s)  # Event.wait needs memory for a lock
            starving = 0 if has_memory() else starving + 1
            still = 0 if self._has_turned else still + 1
            self._has_turned = False
            if starving >= STARVING_LOOKS:
                return "no memory is left for it: raise its limit"
            if still >= STILL_LOOKS:
                return "its event loop stands still"
        return ""
