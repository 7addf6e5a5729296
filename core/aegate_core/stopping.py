"""An end when it is asked for, and within a time: whoever stops a process kills it when that takes too long."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import sys
import threading
import time
import weakref
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

THREADS_S = 1.0
"""How long threads may take to end that have nothing to do any more."""


class StopRequest:
    """What a signal handler makes and the main thread waits for.

    No `threading.Event`: a handler runs in the main thread between any two of its instructions, and where that held
    the event's own lock, in its wait, set() waited for it for ever: the process heeded no signal any more. No
    `queue.SimpleQueue` either: CPython 3.11 waits for ever when its time is over before it has begun to wait.
    """

    def __init__(self) -> None:
        self._is_made = False
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        weakref.finalize(self, os.close, self._descriptor)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def make(self) -> None:
        """Ask for the end. Safe to repeat, and in a signal handler."""
        self._is_made = True
        os.eventfd_write(self._descriptor, 1)

    def is_made(self) -> bool:
        """Say whether the end was asked for."""
        return self._is_made

    def wait(self, timeout_s: float) -> bool:
        """Return True as soon as it is made, or False after ``timeout_s``."""
        if not self._is_made:
            self._poll.poll(timeout_s * 1000)
        return self._is_made


async def until_stopped(
    work: Coroutine[object, object, object], stopping: asyncio.Event, *, within_s: float
) -> None:
    """Run ``work``. Once ``stopping`` is set it has so long to return by itself; then it is cancelled.

    A statement whose answer the network swallows takes longer than anybody waits for a stop. Raises what ``work``
    raises.
    """
    working = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({working}, timeout=within_s)
    finally:
        waiting.cancel()
        working.cancel()
        await asyncio.wait({working})
    if not working.cancelled():
        working.result()


class ImpatientExecutor(ThreadPoolExecutor):
    """For work that is left behind when the process ends, such as a request that nobody answers; then call `leave`.

    `asyncio.run` waits for its own executor's threads without end: make this one the loop's default.
    """

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Start nothing any more, and wait for nothing."""
        super().shutdown(wait=False, cancel_futures=True)


def leave(code: int) -> NoReturn:
    """End the process, without waiting for threads that wait for others: Python joins them for minutes."""
    until = time.monotonic() + THREADS_S
    waiting = [t for t in threading.enumerate() if t is not threading.current_thread() and not t.daemon]
    for thread in waiting:
        thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in waiting):
        logging.shutdown()
        os._exit(code)
    sys.exit(code)
