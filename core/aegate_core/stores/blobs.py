"""Where indexed objects lie: one file an arrival, never changed, never found by a UID.

``<root>/ab/cd/<arrival id>.dcm``, ab and cd the *last* four hex digits of the id: the first ones of a time-ordered id
would fill one folder for weeks. A key belongs to one arrival for ever, so putting it again is harmless.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NewType

from aegate_core.dicom.identifiers import ArrivalId, parse_arrival_id
from aegate_core.disk import storage_error
from aegate_core.errors import InvalidValue
from aegate_core.steps import Step, reached

BlobKey = NewType("BlobKey", str)
"""``ab/cd/<arrival id>.dcm``."""

_FSYNC_AT_MOST = 8
"""More files and folders than this are synced with their whole file system. By feel: other writers' data goes along."""

_COPY_BYTES = 1 << 20

_SYNCFS = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


def blob_key(arrival_id: ArrivalId) -> BlobKey:
    """Return the key of an arrival's blob."""
    return BlobKey(f"{arrival_id[-4:-2]}/{arrival_id[-2:]}/{arrival_id}.dcm")


class BlobStore:
    """Blobs below one folder. Several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._durable: set[str] = set()
        """Folders that stand durably in their parents: one that is there may be made by a process that died then."""
        self._doubted: set[str] = set()
        """Keys whose fsync failed: the kernel may have given up what it did not write, and says so only once."""

    def put(self, arrival_id: ArrivalId, path: Path) -> BlobKey:
        """Make ``path`` durable under the arrival's key and return that; see `put_many`."""
        return self.put_many([(arrival_id, path)])[0]

    def put_many(self, arrivals: Sequence[tuple[ArrivalId, Path]]) -> list[BlobKey]:
        """Make files durable under their arrivals' keys: files, then folders, are fsynced before it returns.

        A hard link where both lie on one file system; else a copy, read again and compared. The source stays. Raises
        FileNotFoundError when a source is gone and its blob is not there, StorageError, StorageFull.
        """
        keys = [blob_key(arrival_id) for arrival_id, _ in arrivals]
        try:
            folders = self._make_folders(Path(key).parent for key in keys)
            for key, (_, path) in zip(keys, arrivals, strict=True):
                self._place(key, path)
            reached(Step.BLOB_PLACED)
            self._doubted.update(keys)
            make_durable(self.root, [*(self.root / key for key in keys), *folders])
            self._doubted.difference_update(keys)
            self._durable.update(level for key in keys for level in _levels(Path(key)))
            reached(Step.BLOB_FSYNCED)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise storage_error("blob store must be writable", error, self.root) from error
        return keys

    def path(self, key: str) -> Path:
        """Return where the blob lies. Raises InvalidValue for what is no key: a key can never leave the store."""
        name = key.rpartition("/")[2]
        arrival_id = parse_arrival_id(name.removesuffix(".dcm"))
        if key != blob_key(arrival_id):
            raise InvalidValue("blob key must be ab/cd/<arrival id>.dcm, got another form")
        return self.root / key

    def open(self, key: str) -> BinaryIO:
        """Open a blob for reading. Raises InvalidValue, FileNotFoundError."""
        return self.path(key).open("rb")

    def remove_many(self, keys: Sequence[str]) -> None:
        """Remove blobs by their exact keys, for good: folders are fsynced before it returns. Safe to repeat.

        Only after the rows that point at them say that they are removed. Raises StorageError.
        """
        folders: set[Path] = set()
        try:
            for key in keys:
                path = self.path(key)
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                    folders.add(path.parent)
            if folders:
                make_durable(self.root, sorted(folders))
        except OSError as error:
            raise storage_error("blob store must be writable", error, self.root) from error

    def holds_any(self, keys: Sequence[str]) -> bool:
        """Say whether at least one of the blobs is there."""
        return any(self.path(key).exists() for key in keys)

    def folders(self) -> Iterator[Path]:
        """Yield every folder ``ab/cd`` that there is, in order; nothing when there is no store yet."""
        for first in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            if first.is_dir():
                yield from (second for second in sorted(first.iterdir()) if second.is_dir())

    def _place(self, key: BlobKey, source: Path) -> None:
        """Put an arrival's file in its place; what is doubted there is replaced, not fsynced a second time."""
        if key in self._doubted:
            _copy(source, self.root / key)
        else:
            place(source, self.root / key)

    def _make_folders(self, wanted: Iterable[Path]) -> list[Path]:
        """Make the folders that lack; return all whose entries change: theirs, and the parents of new ones.

        New is what this process has not yet made durable: another one may have made it and not come to its fsync.
        """
        changed: set[Path] = set()
        if not self.root.is_dir():
            self.root.mkdir(mode=0o750, parents=True, exist_ok=True)
            changed.add(self.root.parent)
        for relative in set(wanted):
            changed.add(self.root / relative)
            for name in _levels(relative / "any"):
                level = self.root / name
                if name not in self._durable or not level.is_dir():
                    level.mkdir(mode=0o750, exist_ok=True)
                    changed.add(level.parent)
        return sorted(changed)


def _levels(key: Path) -> tuple[str, str]:
    """Return the two folders of a key: ``ab`` and ``ab/cd``."""
    return str(key.parent.parent), str(key.parent)


def place(source: Path, target: Path) -> None:
    """Put ``source`` at ``target``, whole but not durable yet; what stands there already is the same object.

    A hard link where both lie on one file system; else a copy, read again and compared.
    """
    try:
        target.hardlink_to(source)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            if error.errno == errno.ENOENT and target.exists():
                return
            raise
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    """Copy through a part file, so that a target is always whole; compare what the disk gives back."""
    part = target.with_suffix(f".{os.getpid()}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        with source.open("rb") as original, os.fdopen(descriptor, "wb") as copy:
            shutil.copyfileobj(original, copy, _COPY_BYTES)
        _fsync(part)
        if _digest(part) != _digest(source):
            raise OSError(errno.EIO, "the copy differs from the original")
        part.replace(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_durable(root: Path, changed: Sequence[Path]) -> None:
    """Return when files and folders below ``root`` are on the disk.

    Many at once by syncfs(2), which waits as fsync does: one commit of the journal instead of one each (ext4, 256 new
    blobs: 0.03 s instead of 3 s).
    """
    if len(changed) > _FSYNC_AT_MOST and _SYNCFS is not None:
        sync_file_system(root)
        return
    for path in changed:
        _fsync(path)


def sync_file_system(folder: Path) -> None:
    """Return when all that anybody wrote on the folder's file system is on the disk."""
    if _SYNCFS is None:
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if _SYNCFS(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "syncfs")
    finally:
        os.close(descriptor)
