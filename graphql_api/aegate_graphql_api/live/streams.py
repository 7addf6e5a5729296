"""What keeps streams within bounds: how many there are, how long each may go on, how all end when the server stops.

A stream is what one connection holds open: a WebSocket with its operations, or one response of server-sent events.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aegate_core.errors import AegateError
from aegate_graphql_api.authentication import Authenticator
from aegate_graphql_api.permissions import Caller

OPERATIONS = 20
"""Of one WebSocket at once."""
MESSAGES_A_SECOND = 50
"""Of one WebSocket, on average over `BURST` of them."""
BURST = 200
RETRY_MS = 500
"""When to come back, at the soonest; then spread so that 200 come back a second."""
SPREAD_MS = 5


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How many streams there may be, and how long anything of them may take."""

    in_all: int = 2_500
    by_caller: int = 500
    unknown: int = 500
    """WebSockets that have not said yet who they are."""
    init_s: float = 10.0
    """How long a WebSocket may take to say who it is."""
    send_s: float = 10.0
    """How long a client may take to read what lies between it and us; slower ones are cut."""
    recheck_s: float = 30.0
    """How often the token of an open stream is looked at again: one that is revoked ends its streams so much later."""
    keepalive_s: float = 15.0
    """How often a silent event stream says that it lives: proxies cut what is silent for a minute."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a stream ends, for both transports: a close code of a WebSocket, and one of `errors.CODES`."""

    close_code: int
    code: str
    message: str
    retry_ms: int | None = None
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def extensions(self) -> dict[str, object]:
        """What an error says beside its message."""
        retry = {} if self.retry_ms is None else {"retryAfterMs": self.retry_ms}
        return {"code": self.code, **retry, **self.details}

    @property
    def reason(self) -> str:
        """What stands in a WebSocket's close frame, at most 123 bytes."""
        hint = "" if self.retry_ms is None else f" retryAfterMs={self.retry_ms}"
        return f"{self.code}:{hint} {self.message}"[:123]


INIT_TIMEOUT = Ending(4408, "UNAUTHENTICATED", "connection_init did not come in time: send it first")
UNKNOWN = Ending(
    4403, "UNAUTHENTICATED", "the token is not valid (unknown, expired or revoked): ask for another"
)
EXPIRED = Ending(4403, "UNAUTHENTICATED", "the token expired or was revoked: connect again with another")
TOO_SLOW = Ending(4410, "TOO_MANY_STREAMS", "messages were not read in time: connect again, and read faster")


def fault(correlation: str) -> Ending:
    """Return the ending by a fault of ours."""
    return Ending(4500, "INTERNAL", f"tell your administrator the correlation id {correlation}")


class Stream:
    """One connection's place: `end` asks it to end, `ending` says why it did."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self.limits = streams.limits
        self.caller: Caller | None = None
        self.token = ""
        self.ending: Ending | None = None
        self._limit: asyncio.Timeout | None = None

    @contextmanager
    def limited(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Let `end` end what runs inside of ``limit``."""
        self._limit = limit
        try:
            yield
        finally:
            self._limit = None

    def welcome(self, caller: Caller, token: str) -> None:
        """Take note of who it is. Raises TooMany when the caller has as many as they may."""
        most = self._streams.limits.by_caller
        if self._streams.by_caller[caller.name] >= most:
            raise TooMany(self._streams.too_many("the caller", most))
        self.caller, self.token = caller, token
        self._streams.unknown -= 1
        self._streams.by_caller[caller.name] += 1

    def end(self, ending: Ending) -> None:
        """Ask it to end."""
        if self.ending is None:
            self.ending = ending
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time())

    def expires_in(self) -> float | None:
        """Return for how long the token is valid; None: it does not expire."""
        if self.caller is None or self.caller.expires_at is None:
            return None
        return max(0.0, (self.caller.expires_at - datetime.now(UTC)).total_seconds())


class TooMany(Exception):
    """There are as many streams as there may be."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.code)
        self.ending = ending


class Streams:
    """All streams of the process."""

    def __init__(self, authenticator: Authenticator, limits: StreamLimits | None = None) -> None:
        self.limits = limits or StreamLimits()
        self.by_caller: Counter[str] = Counter()
        self.unknown = 0
        self._authenticator = authenticator
        self._open: set[Stream] = set()
        self._is_stopping = False
        self._checking: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._open)

    @contextmanager
    def place(self) -> Iterator[Stream]:
        """Hold a place for a connection. Raises TooMany when there is none, or the server is being stopped."""
        if self._is_stopping:
            raise TooMany(self.stopping())
        for count, most in ((self.count, self.limits.in_all), (self.unknown, self.limits.unknown)):
            if count >= most:
                raise TooMany(self.too_many("the server", most))
        stream = Stream(self)
        self._open.add(stream)
        self.unknown += 1
        self._empty.clear()
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._recheck())
        try:
            yield stream
        finally:
            self._open.discard(stream)
            if stream.caller is None:
                self.unknown -= 1
            else:
                self.by_caller[stream.caller.name] -= 1
                if not self.by_caller[stream.caller.name]:
                    del self.by_caller[stream.caller.name]
            if not self._open:
                self._empty.set()

    async def drain(self, within_s: float) -> None:
        """End all streams, telling each when to come back; return when they have ended, or the time is up."""
        self._is_stopping = True
        for stream in list(self._open):
            stream.end(self.stopping())
        try:
            async with asyncio.timeout(within_s):
                await self._empty.wait()
        except TimeoutError:
            pass  # the server cuts them

    def stopping(self) -> Ending:
        """Return the ending of a server that is being stopped."""
        return Ending(1012, "SERVER_STOPPING", "the server is being stopped: connect again", self._retry_ms())

    def too_many(self, whose: str, limit: int) -> Ending:
        """Return the ending of a stream too many."""
        message = f"{whose} may have {limit} streams, and has: close some, or come back later"
        details = {"limit": limit, "used": limit + 1}
        return Ending(1013, "TOO_MANY_STREAMS", message, self._retry_ms(), details)

    def unavailable(self) -> Ending:
        """Return the ending of a stream while nobody can say who its caller is, or the database is away."""
        return Ending(
            1013, "UNAVAILABLE", "what we need does not answer now: connect again", self._retry_ms()
        )

    def _retry_ms(self) -> int:
        return RETRY_MS + random.randrange(1_000 + SPREAD_MS * self.count)

    async def _recheck(self) -> None:
        """Look at the tokens of open streams again, now and then."""
        while self._open:
            await asyncio.sleep(self.limits.recheck_s)
            for stream in list(self._open):
                with suppress(
                    AegateError
                ):  # who cannot be asked now is asked again, and expiry ends it anyway
                    if not await self._is_still_welcome(stream):
                        stream.end(EXPIRED)

    async def _is_still_welcome(self, stream: Stream) -> bool:
        before = stream.caller
        if before is None:
            return True
        now = await self._authenticator.authenticate(stream.token, address=before.address)
        return now is not None and (now.permissions, now.scope) == (before.permissions, before.scope)
