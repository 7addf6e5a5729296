"""Wait for a condition, with a deadline; the only way in which a test waits."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")

POLL_S = 0.02
LONGEST_POLL_S = 0.25
IDLE_SHARE = 4
"""Who waits looks for a fifth of the time at most: a question to a process that starts would hold it up else."""

What = str | Callable[[], str]
"""What was waited for: a sentence, or what makes one when it did not come."""


def eventually(condition: Callable[[], T], *, deadline_s: float = 30, what: What = "") -> T:
    """Return the first true value of ``condition()``. Raises AssertionError when there is none in time."""
    end = time.monotonic() + deadline_s
    while True:
        asked = time.monotonic()
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(_not_yet(condition, value, deadline_s, what))
        time.sleep(_pause_s(time.monotonic() - asked))


@overload
async def eventually_async(
    condition: Callable[[], Awaitable[T]], *, deadline_s: float = 30, what: What = ""
) -> T: ...


@overload
async def eventually_async(condition: Callable[[], T], *, deadline_s: float = 30, what: What = "") -> T: ...


async def eventually_async(
    condition: Callable[[], Awaitable[T] | T], *, deadline_s: float = 30, what: What = ""
) -> T:
    """Return the first true value of ``condition()``, awaited if need be, without blocking the event loop."""
    end = time.monotonic() + deadline_s
    while True:
        asked = time.monotonic()
        value = condition()
        value = await value if inspect.isawaitable(value) else value
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(_not_yet(condition, value, deadline_s, what))
        await asyncio.sleep(_pause_s(time.monotonic() - asked))


def _pause_s(took_s: float) -> float:
    return min(max(POLL_S, IDLE_SHARE * took_s), LONGEST_POLL_S)


async def pass_turns(count: int) -> None:
    """Let everything else in this event loop have so many turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def take_s(seconds: float) -> None:
    """Be as slow as that: for a part that plays something slow, never to wait for anything."""
    await asyncio.sleep(seconds)


def _not_yet(condition: object, value: object, deadline_s: float, what: What) -> str:
    name = (what() if callable(what) else what) or getattr(condition, "__qualname__", repr(condition))
    return f"not within {deadline_s} s: {name} (last value: {value!r})"
