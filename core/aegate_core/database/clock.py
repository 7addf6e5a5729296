"""The time that leases, closes and backoffs go by: the database's, so that machines whose clocks differ agree on it.

Between two looks at the database the monotonic clock carries it on: a step of this machine's clock changes nothing.
The database's own clock may be stepped, too (with SQLite it is this machine's). A leap ahead is remembered: whoever
judges by it that somebody else is late gives them time to look as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from aegate_core.database.connection import Database

_SLOW_LOOK_S = 1.0
"""A look that took longer tells less than an older one."""

_LEAP = timedelta(seconds=2)
"""Ahead by more between two looks is a step; less is the drift of two clocks, or a look that was slow."""


class DatabaseClock:
    """The database's time; `look` first, and again now and then. ``monotonic`` is an argument for tests."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: tuple[datetime, float] | None = None
        self._asked: float | None = None
        self._leap: tuple[timedelta, float] | None = None
        self.stepped = timedelta()
        """By how much it was stepped ahead in all since the first look; what was taken back counts no more."""

    @property
    def is_set(self) -> bool:
        """Whether it has ever looked."""
        return self._seen is not None

    async def look(self, db: Database) -> None:
        """Ask the database what time it is."""
        self._asked = asked = self._monotonic()
        at = await db.time()
        heard = self._monotonic()
        # Taken as of when we heard it: behind by the way back, never ahead, so nobody's lease is ended early.
        if self._seen is None:
            self._seen = at, heard
        elif heard - asked < _SLOW_LOOK_S:
            leap = at - self.at(heard)
            if leap > _LEAP:
                self._leap = leap, heard
            if abs(leap) > _LEAP:
                self.stepped += leap
            self._seen = at, heard

    async def look_again(self, db: Database, every_s: float) -> None:
        """Look unless that was done, or tried, less than ``every_s`` seconds ago."""
        if self._asked is None or self._monotonic() - self._asked >= every_s:
            await self.look(db)

    def now(self) -> datetime:
        """Return the database's time of now. Raises RuntimeError before the first `look`."""
        return self.at(self._monotonic())

    def at(self, monotonic_s: float) -> datetime:
        """Return the database's time of a monotonic moment. Raises RuntimeError before the first `look`."""
        if self._seen is None:
            raise RuntimeError("the clock must be set by a look at the database before it is read")
        at, heard = self._seen
        return at + timedelta(seconds=monotonic_s - heard)

    def leaped(self, within: timedelta) -> timedelta:
        """Return by how much it was stepped ahead in the last ``within``; zero when it was not."""
        if self._leap is None or self._monotonic() - self._leap[1] >= within.total_seconds():
            return timedelta()
        return self._leap[0]
