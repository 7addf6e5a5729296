"""What SIGINT, SIGTERM and a closed terminal (SIGHUP) mean to a command that needs time to stop.

The first one stops, a later one hastens. One wish may come as several signals: Ctrl-C reaches `make` and us, a service
manager signals the whole group, and each of them passes it on. What comes within a second of the first is the same
wish.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

SAME_WISH_S = 1.0
"""Signals this close to the first one hasten nothing."""


@dataclass(slots=True)
class Interrupts:
    """Calls ``stop`` once, at the first signal, and ``hurry`` for each that comes more than a second later."""

    stop: Callable[[], None]
    hurry: Callable[[], None]
    first_at: float | None = None

    def take(self, now: float) -> None:
        """Take a signal that came at ``now`` (monotonic seconds)."""
        if self.first_at is None:
            self.first_at = now
            self.stop()
        elif now - self.first_at > SAME_WISH_S:
            self.hurry()

    def listen(self) -> None:
        """Take SIGINT and SIGTERM from now on, in the running event loop; SIGHUP, too, unless `nohup` ignores it."""
        loop = asyncio.get_running_loop()
        hangup = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
        for number in (signal.SIGTERM, signal.SIGINT, *hangup):
            loop.add_signal_handler(number, lambda: self.take(time.monotonic()))
