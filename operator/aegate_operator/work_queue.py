"""What is to be looked at again: each key once, never twice at the same time, failures later and later.

Time comes from outside, so that minutes pass in a test at once. Only retries go through the token bucket: a first look
is never delayed, however many there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 300.0
RETRIES_PER_SECOND = 20.0
"""Of all keys together: what a struggling API server gets from us at most besides news."""
BURST = 20.0


@dataclass(slots=True)
class _Wait:
    """When a key is due, and since when it waits for nothing but a worker."""

    due: float
    is_retry: bool = False


@dataclass(slots=True)
class _Failure:
    count: int = 0
    until: float = 0.0
    """Not to be tried again before, unless there is news."""


class TokenBucket:
    """So many a second on average, ``burst`` at once."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._tokens, self._at = burst, clock()

    def delay_s(self) -> float:
        """Take a token and return 0, or return how long until there is one."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0


class WorkQueue(Generic[K]):
    """Keys that wait, keys in work, and how often each has failed. For one event loop."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        jitter: Callable[[], float] = random.random,
        waited: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._waited = waited
        self._bucket = TokenBucket(RETRIES_PER_SECOND, BURST, clock)
        self._waiting: dict[K, _Wait] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._working: dict[K, float] = {}
        self._again: dict[K, _Wait] = {}
        self._failures: dict[K, _Failure] = {}
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        """How many keys are due or in work: not those that wait for their time."""
        now = self._clock()
        due = sum(1 for wait in self._waiting.values() if wait.due <= now)
        return due + len(self._working)

    def add(self, key: K, *, delay_s: float = 0.0) -> None:
        """Look at ``key`` after ``delay_s``, or earlier when that was said before."""
        self._schedule(key, _Wait(self._clock() + delay_s))

    def retry(self, key: K) -> float:
        """Look at ``key`` again, later each time it failed; return after how many seconds."""
        failure = self._failures.setdefault(key, _Failure())
        now = self._clock()
        if now >= failure.until:  # looks that news called for in between make it wait no longer
            longest = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failure.count, 16))
            failure.count += 1
            failure.until = now + longest * (0.75 + 0.25 * self._jitter())
        self._schedule(key, _Wait(failure.until, is_retry=True))
        return failure.until - now

    def succeeded(self, key: K) -> None:
        """Forget that ``key`` failed."""
        self._failures.pop(key, None)

    def take(self) -> K | None:
        """Return a key that is due and take it into work, or None."""
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            wait = self._waiting.get(key)
            if wait is None or wait.due != due:
                continue  # it was said anew, or taken already
            if wait.is_retry and (delay_s := self._bucket.delay_s()):
                wait.due = now + delay_s
                self._push(key, wait)
                continue
            del self._waiting[key]
            self._working[key] = now
            self._waited(now - due)
            return key
        return None

    def done(self, key: K) -> None:
        """Say that nobody works on ``key`` any more; what was asked meanwhile is taken up."""
        self._working.pop(key, None)
        wait = self._again.pop(key, None)
        if wait is not None:
            self._schedule(key, wait)

    async def get(self) -> K:
        """Return the next key, taken into work; wait until one is due."""
        while True:
            key = self.take()
            if key is not None:
                return key
            self._wake.clear()
            delay_s = self._heap[0][0] - self._clock() if self._heap else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._wake.wait()

    def longest_work_s(self) -> tuple[float, K | None]:
        """Return for how long the oldest key in work has been in it, and which."""
        if not self._working:
            return 0.0, None
        key = min(self._working, key=self._working.__getitem__)
        return self._clock() - self._working[key], key

    @property
    def failing(self) -> int:
        """How many keys failed when they were looked at last."""
        return len(self._failures)

    def _schedule(self, key: K, wait: _Wait) -> None:
        if key in self._working:
            before = self._again.get(key)
            if before is None or wait.due < before.due:
                self._again[key] = wait
            return
        before = self._waiting.get(key)
        if before is None or wait.due < before.due:
            self._waiting[key] = wait
            self._push(key, wait)
            self._wake.set()

    def _push(self, key: K, wait: _Wait) -> None:
        heapq.heappush(self._heap, (wait.due, next(self._order), key))
