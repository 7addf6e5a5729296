"""Make pynetdicom's reactor stand still, for certain, while we wait for an answer.

pynetdicom's own way has a race: the reactor says that it is paused before it looks at its checkpoint, so a sender
may go on while the reactor still takes one message off the queue: ours, now and then, on a busy machine. The sender
then waits for an answer that has come already, until its timeout.
"""

from __future__ import annotations

import threading
import time
from typing import Any


class Checkpoint:
    """Stands in for the association's ``threading.Event``, and knows whether the reactor really waits at it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._is_open = True
        self._is_holding = False

    @property
    def is_holding(self) -> bool:
        """Whether a thread waits here, and will until `set`."""
        with self._condition:
            return self._is_holding and not self._is_open

    def is_set(self) -> bool:
        """Whether threads may pass."""
        return self._is_open

    def set(self) -> None:
        """Let threads pass."""
        with self._condition:
            self._is_open = True
            self._condition.notify_all()

    def clear(self) -> None:
        """Stop the next thread that comes, and those that have not left yet."""
        with self._condition:
            self._is_open = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is open. A thread that was let pass and did not leave before the next `clear` stays."""
        with self._condition:
            while not self._is_open:
                self._is_holding = True
                self._condition.wait(timeout)
                if timeout is not None:
                    break
            self._is_holding = False
            return self._is_open


def install(association: Any) -> None:
    """Give the association such a checkpoint; before its reactor runs, that is when the connection opens."""
    association._reactor_checkpoint = Checkpoint()


def hold(association: Any) -> None:
    """Return when the reactor stands still, or has ended. Whoever is done calls ``_reactor_checkpoint.set()``."""
    checkpoint: Checkpoint = association._reactor_checkpoint
    checkpoint.clear()
    while not checkpoint.is_holding and association.is_alive():
        time.sleep(0.0001)
