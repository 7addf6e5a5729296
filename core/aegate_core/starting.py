"""A process that still imports, and has not begun: a wish for its end needs nothing but its end."""

from __future__ import annotations

import os
import signal


def end_at_once_on_sigterm(code: int = 0) -> None:
    """Let SIGTERM end this process with ``code``, until it has a handler of its own; also process 1 of a container.

    No SystemExit: it comes up in whatever is imported just then, and where that catches everything, or in a callback
    whose exceptions nobody hears, it is lost, and the signal with it. So a listener outlived its supervisor.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(code))
