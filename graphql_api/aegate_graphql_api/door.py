"""How much one caller may ask for: a bucket of cost that fills up again, and so many operations at the same time.

The surprise: what is refused is paid for by the time that it took, a caller's new documents are judged with pauses
between, and a caller or address without credit is answered late. So somebody who sends nothing but rubbish over a
hundred connections takes a small part of the process, and whoever asks properly hardly notices.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aegate_graphql_api.http_requests import Refusal
from aegate_graphql_api.policy import Policy

BURST_S = 2
"""A bucket holds what flows in within these seconds."""
OPERATIONS_A_SECOND = 500
"""That a caller's whole rate pays for at most: a request costs time whatever it asks for."""
MISTAKES_A_SECOND = 20
"""Operations that are refused before they run, the same."""
WASTE_MS = 50
"""Milliseconds a second of parsing and judging new documents that a caller's whole rate pays for."""
MOST_WASTE_MS = 20
"""Of one document: none that the limits let through takes longer, and a pause of the process is nobody's fault."""
TURN = 4
"""How many times as long as judging a document took does its caller's next one wait: others are served meanwhile."""
REFUSALS_A_SECOND = 20
"""Of one address, before they come late."""
LATE_S = 1.0
"""How late at the least; twice as late at the most."""
MOST_LATE = 200
"""Answers that wait at the same time; further ones end their connection instead."""
LOOK_FOR_CREDIT_S = 0.05
"""How often a stream without credit looks again, at most: others of its caller may have been quicker."""
READ_ANYWAY_BYTES = 64 * 1024
"""Of the body of a refused request: it lies in memory already, and its connection may be used again."""
KEPT = 10_000
"""Callers and addresses that are remembered, each; the one not seen for longest is forgotten, and begins anew."""


@dataclass(slots=True)
class Bucket:
    """Credit of somebody; it may be overdrawn, by one operation at a time."""

    credit: float
    at: float


class Buckets:
    """Credit by name. ``rate`` flows in a second, up to ``burst``."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._known: OrderedDict[str, Bucket] = OrderedDict()

    def credit(self, name: str, now: float) -> float:
        """Return what ``name`` has left: below zero is overdrawn."""
        known = self._known.get(name)
        if known is None:
            return self._burst
        return min(self._burst, known.credit + (now - known.at) * self._rate)

    def take(self, name: str, amount: float, now: float) -> None:
        """Charge ``amount``."""
        self._known[name] = Bucket(self.credit(name, now) - amount, now)
        self._known.move_to_end(name)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)

    def seconds_until_credit(self, name: str, now: float) -> float:
        """Return how long ``name`` has to wait until it is not overdrawn."""
        return max(0.0, -self.credit(name, now) / self._rate)


class Door:
    """Lets callers in, one operation at a time."""

    def __init__(self, policy: Policy) -> None:
        self._rate = policy.rate
        self._at_once = policy.at_once
        self._buckets = Buckets(policy.rate, policy.rate * BURST_S) if policy.rate else None
        self._turns = Buckets(1 / TURN, 0)
        self._inside: Counter[str] = Counter()

    @contextmanager
    def admitted(self, caller: str) -> Iterator[None]:
        """Let one operation of ``caller`` run in this block. Raises Refusal 429."""
        self._refuse_without_credit(caller)
        if self._inside[caller] >= self._at_once:
            raise Refusal(
                429,
                "TOO_MANY_AT_ONCE",
                f"{self._at_once} operations may run at the same time, got more: wait for answers",
                details={"limit": self._at_once, "used": self._inside[caller] + 1},
                headers={"Retry-After": "1"},
            )
        self._inside[caller] += 1
        try:
            yield
        finally:
            self._inside[caller] -= 1
            if not self._inside[caller]:
                del self._inside[caller]

    async def wait_for_turn(self, caller: str) -> None:
        """Return when the caller's last document is judged and others had their time: not several in a row."""
        while (wait_s := self._turns.seconds_until_credit(caller, time.monotonic())) > 0:  # noqa: ASYNC110 - time gives it
            await asyncio.sleep(wait_s)

    def take_turn(self, caller: str, guard_s: float) -> None:
        """Have the caller's next new document wait; known ones take no time worth it."""
        if (waste_ms := _waste_ms(guard_s)) and self._buckets is not None:
            self._turns.take(caller, waste_ms / 1000, time.monotonic())

    def check_again(self, caller: str) -> None:
        """Raise Refusal 429 where others of ``caller`` used up its credit since this one was let in."""
        self._refuse_without_credit(caller)

    def charge_body(self, caller: str, size_bytes: int) -> None:
        """Take the price of reading a body."""
        if self._buckets is not None:
            self._buckets.take(caller, size_bytes, time.monotonic())

    def charge_operation(self, caller: str, cost: int | None, guard_s: float) -> None:
        """Take the price of an operation; ``cost`` is None where it was refused before it ran.

        The first millisecond of ``guard_s`` is in the least price: documents that are known take less.
        """
        if self._buckets is not None:
            least = self._rate / (MISTAKES_A_SECOND if cost is None else OPERATIONS_A_SECOND)
            waste = _waste_ms(guard_s) * self._rate / WASTE_MS
            self._buckets.take(caller, max(least, cost or 0) + waste, time.monotonic())

    async def charge_message(self, caller: str, cost_of_row: int) -> None:
        """Take the price of a message of one row, as soon as the caller has any credit. What comes meanwhile waits."""
        if self._buckets is None:
            return
        while (wait_s := self._buckets.seconds_until_credit(caller, time.monotonic())) > 0:  # noqa: ASYNC110 - time gives it
            await asyncio.sleep(max(wait_s, LOOK_FOR_CREDIT_S))
        self._buckets.take(caller, cost_of_row, time.monotonic())

    def charge_rows(self, caller: str, cost: int) -> None:
        """Take the price of the further rows that a message had."""
        if self._buckets is not None and cost:
            self._buckets.take(caller, cost, time.monotonic())

    def _refuse_without_credit(self, caller: str) -> None:
        if self._buckets is None:
            return
        now = time.monotonic()
        wait_s = self._buckets.seconds_until_credit(caller, now)
        if wait_s <= 0:
            return
        seconds = math.ceil(wait_s)
        limit = self._rate * BURST_S
        raise Refusal(
            429,
            "RATE_LIMITED",
            f"a caller may use a cost of {self._rate} a second, got more: ask again in {seconds} s",
            details={
                "limit": limit,
                "used": round(limit - self._buckets.credit(caller, now)),
                "retryAfterSeconds": seconds,
            },
            headers={"Retry-After": str(seconds)},
        )


def _waste_ms(guard_s: float) -> float:
    return min(max(0.0, guard_s * 1000 - 1), MOST_WASTE_MS)


class LateRefusals:
    """Answers an address late that is refused more than ``REFUSALS_A_SECOND`` times a second, whatever for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._buckets = Buckets(REFUSALS_A_SECOND, REFUSALS_A_SECOND * BURST_S)
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; a refusal may wait."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        address = str((scope.get("client") or ("",))[0])
        is_large = _length(scope) > READ_ANYWAY_BYTES

        async def perhaps_late(message: Message) -> None:
            if message["type"] == "http.response.start" and 400 <= message["status"] < 500:
                message = await self._delayed(address, message, is_large=is_large)
            await send(message)

        await self._app(scope, receive, perhaps_late)

    async def _delayed(self, address: str, start: Message, *, is_large: bool) -> Message:
        now = time.monotonic()
        self._buckets.take(address, 1, now)
        if not self._buckets.seconds_until_credit(address, now):
            return start
        if self._waiting >= MOST_LATE:
            return _last(start)
        self._waiting += 1
        try:
            # Spread: a hundred that were refused together would come again together, and keep everybody else waiting.
            await asyncio.sleep(LATE_S * (1 + random.random()))
        finally:
            self._waiting -= 1
        # What is left of a body that nobody wants would have to be read before the next request of the connection.
        return _last(start) if is_large else start


def _last(start: Message) -> Message:
    """Return the beginning of an answer after which the connection ends."""
    return {**start, "headers": [*start["headers"], (b"connection", b"close")]}


def _length(scope: Scope) -> int:
    """Return how long the body is said to be; 0 where that is not said."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
