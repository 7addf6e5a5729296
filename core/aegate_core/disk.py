"""What a failed call on a file means, and what a person can do about it: said in the same words everywhere."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from aegate_core.errors import StorageError, StorageFull

_REMEDIES = {
    errno.ENOSPC: "the file system is full: make room on it",
    errno.EDQUOT: "the quota is used up: raise it, or make room",
    errno.EROFS: "the file system is read-only: look into the system's log for why, and remount it writable",
    errno.EIO: "the disk fails: look into the system's log, and replace what is broken",
    errno.EMFILE: "this process has no file descriptor left: raise its limit (ulimit -n)",
    errno.ENFILE: "this machine has no file descriptor left: raise fs.file-max",
    errno.ENOMEM: "no memory is left: give this process more",
}
_NO_INODE = "the file system has no inode left: remove files from it, or make it anew with more inodes"


def storage_error(expected: str, error: OSError, where: Path | int | None = None) -> StorageError:
    """Return what a failed call on a file means: ``expected`` ("spool must be writable"), what came, and what to do.

    ``where``: a path or descriptor on the file system, so that a lack of inodes is not taken for a lack of bytes.
    """
    kind = StorageFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
    came = errno.errorcode.get(error.errno or 0, "unknown")
    remedy = _REMEDIES.get(error.errno or 0, "mend its permissions, or what lies in its place")
    if error.errno == errno.ENOSPC and where is not None and _has_no_inode(where):
        remedy = _NO_INODE
    return kind(f"{expected}, got {came}: {remedy}")


def _has_no_inode(where: Path | int) -> bool:
    """Say so only where the file system counts them: btrfs says that it has none at all."""
    with contextlib.suppress(OSError):
        stat = os.statvfs(where)
        return stat.f_files > 0 and stat.f_favail == 0
    return False
