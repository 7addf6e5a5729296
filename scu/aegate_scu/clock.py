"""The time that leases go by: the database's, so that machines whose clocks differ agree on when a lease ends.

Between two looks at the database the monotonic clock carries it on: a step of this machine's clock changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from aegate_core.database import Database

_SLOW_LOOK_S = 1.0
"""A look that took longer tells less than an older one."""


class DatabaseClock:
    """The database's time; `look` first, and again now and then. ``monotonic`` is an argument for tests."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: tuple[datetime, float] | None = None

    async def look(self, db: Database) -> None:
        """Ask the database what time it is."""
        asked = self._monotonic()
        at = await db.time()
        heard = self._monotonic()
        # Taken as of when we heard it: behind by the way back, never ahead, so nobody's lease is ended early.
        if self._seen is None or heard - asked < _SLOW_LOOK_S:
            self._seen = at, heard

    def now(self) -> datetime:
        """Return the database's time of now. Raises RuntimeError before the first `look`."""
        if self._seen is None:
            raise RuntimeError("the clock must be set by a look at the database before it is read")
        at, heard = self._seen
        return at + timedelta(seconds=self._monotonic() - heard)
