"""Whether the spool can take more: above the watermark or unwritable, nothing new comes in (PS3.8 table 9-21)."""

from __future__ import annotations

import threading
import time

from aegate_core.errors import StorageError
from aegate_core.events import SPOOL_CONGESTED, SPOOL_EASED, SPOOL_NEARLY_FULL, SPOOL_ROOM, Log
from aegate_core.stores.spool import Room, SpoolFolder, Watermark
from aegate_scp.metrics import ListenerMetrics

_CHECK_EVERY_S = 1.0
"""Chosen by feel: at 1 GB/s a gigabyte may come in above the watermark, which keeps more than that free."""


class Congestion:
    """Ask the file system at most once a second, whoever asks; say so when the answer changes."""

    def __init__(self, spool: SpoolFolder, watermark: Watermark, metrics: ListenerMetrics) -> None:
        self.watermark = watermark
        self._spool = spool
        self._metrics = metrics
        self._log = Log("scp")
        self._lock = threading.Lock()
        self._checked_at_s = float("-inf")
        self._trouble: str | None = None
        self._is_near = False
        self._is_doubted = False

    def trouble(self) -> str | None:
        """Return why nothing can be taken in, or None."""
        now_s = time.monotonic()
        if now_s - self._checked_at_s >= _CHECK_EVERY_S and self._lock.acquire(blocking=False):
            try:
                self._checked_at_s = now_s
                self._check()
            finally:
                self._lock.release()
        return self._trouble

    def warning(self) -> str | None:
        """Return that room is getting short, while all is still taken in, or None; as of the last `trouble`."""
        if self._trouble or not self._is_near:
            return None
        return "spool is nearly full: make room, or new associations will be refused"

    def check_again(self) -> None:
        """Let the next question look anew: the watermark has changed."""
        self._checked_at_s = float("-inf")

    def doubt(self) -> None:
        """Let the next question look anew, and write to the disk until that works: a write has just failed.

        A used-up quota lets empty files be made, and a broken disk takes what it is not asked to keep.
        """
        self._is_doubted = True
        self.check_again()

    def _check(self) -> None:
        room = Room(0, 100.0)
        trouble = None
        try:
            room = self._spool.room()
            self._warn(self.watermark.is_near(room), room)
            if self.watermark.is_exceeded_by(room):
                trouble = "spool is above its watermark"
            self._spool.check_writable(durably=self._is_doubted)
            self._is_doubted = False
        except StorageError as error:
            trouble = error.message
        self._metrics.spool_free_bytes.set(room.free_bytes)
        self._metrics.is_congested.set(1 if trouble else 0)
        if bool(trouble) != bool(self._trouble):
            self._say(trouble, room)
        self._trouble = trouble

    def _warn(self, is_near: bool, room: Room) -> None:
        self._metrics.is_nearly_full.set(1 if is_near else 0)
        if is_near == self._is_near:
            return
        self._is_near = is_near
        path = str(self._spool.root)
        if is_near:
            self._log(
                SPOOL_NEARLY_FULL, path=path, free_bytes=room.free_bytes, used_percent=room.used_percent
            )
        else:
            self._log(SPOOL_EASED, path=path, free_bytes=room.free_bytes)

    def _say(self, trouble: str | None, room: Room) -> None:
        path = str(self._spool.root)
        if trouble:
            self._log(
                SPOOL_CONGESTED,
                path=path,
                free_bytes=room.free_bytes,
                used_percent=room.used_percent,
                reason=trouble,
            )
        else:
            self._log(SPOOL_ROOM, path=path, free_bytes=room.free_bytes)
