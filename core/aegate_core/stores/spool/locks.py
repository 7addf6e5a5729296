"""Locks that say which process lives: taken before its first folder is made, let go by the kernel when it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

LOCKS = ".listeners"
"""Folder of the lock files below the root; no namespace can have that name."""


def is_dead(root: Path, process: str, *, leaves: Path | None = None) -> bool:
    """Say whether nobody holds the lock of ``process``: it is taken before the first folder is made.

    ``leaves`` goes when it is dead, under its lock: a listener that is just starting sees that and makes it anew.
    """
    try:
        lock = os.open(root / LOCKS / f"{process}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        lock = -1
    try:
        if lock >= 0:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if leaves is not None:
            leaves.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        if lock >= 0:
            os.close(lock)


def take_lock(path: Path) -> int:
    """Hold ``path`` locked until the descriptor is closed. A sweeper may unlink it between open and lock."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(lock).st_ino:
                return lock
        os.close(lock)
