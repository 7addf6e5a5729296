"""How full the spool's file system is, and from when on nothing more is taken in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from aegate_core.disk import storage_error


@dataclass(frozen=True, slots=True)
class Room:
    """How full the spool's file system is, for this user."""

    free_bytes: int
    used_percent: float
    size_bytes: int = 0
    """Of all that this user could ever use."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """Congested above both: the percentage speaks for small volumes, the bytes for large ones."""

    used_percent: float = 95.0
    free_bytes: int = 5 * 1024**3

    def is_exceeded_by(self, room: Room) -> bool:
        """Say whether nothing more should be taken in."""
        return room.used_percent > self.used_percent and room.free_bytes < self.free_bytes

    def is_near(self, room: Room) -> bool:
        """Say whether a tenth of the file system is left until it is exceeded, or less."""
        is_used = room.used_percent > self.used_percent - 10
        return is_used and room.free_bytes < self.free_bytes + room.size_bytes // 10


def room_of(folder: Path) -> Room:
    """Return the room on the file system of ``folder``. Raises StorageError when it cannot be asked."""
    try:
        stat = os.statvfs(folder)
    except OSError as error:
        raise storage_error(f"spool must be writable, cannot look at {folder}", error, folder) from error
    reachable = stat.f_blocks - stat.f_bfree + stat.f_bavail
    used = 100.0 * (1 - stat.f_bavail / reachable) if reachable else 100.0
    return Room(stat.f_bavail * stat.f_frsize, round(used, 2), reachable * stat.f_frsize)
