"""Blobs in a folder: a file each at ``<root>/<key>``, a hard link where the spool is on the same file system."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from aegate_core.dicom.identifiers import ArrivalId
from aegate_core.disk import storage_error
from aegate_core.steps import Step, reached
from aegate_core.stores.blobs.keys import MARK, BlobKey, blob_key, parse_blob_key

_FSYNC_AT_MOST = 8
"""More files and folders than this are synced with their whole file system. By feel: other writers' data goes along."""

_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)
"""A hard link cannot be made here: it is another file system, or one that has none."""

_COPY_BYTES = 1 << 20

_PART = ".part"
"""The end of the name of a blob that is being copied."""

_SYNCFS = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


class FolderStore:
    """Blobs below one folder (`store.BlobStore`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._durable: set[str] = set()
        """Folders that stand durably in their parents: one that is there may be made by a process that died then."""
        self._placed: frozenset[BlobKey] = frozenset()
        """Keys that we made durable last: they come again when the database did not take their rows."""

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.root)

    @property
    def scratch(self) -> Path:
        """The root: on the volume that is known to have room."""
        return self.root

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
            make_durable(self.root, [*(self.root / key for key in keys), *folders])
            self._placed = frozenset(keys)
            reached(Step.BLOB_FSYNCED)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise storage_error("blob store must be writable", error, self.root) from error
        return keys

    def path(self, key: str) -> Path:
        """Return where the blob lies. Raises InvalidValue for what is no key: a key can never leave the store."""
        return self.root / parse_blob_key(key)[0]

    @contextlib.contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """Give the blob itself. Raises InvalidValue; who opens it learns whether it is there."""
        yield self.path(key)

    def size_bytes(self, key: str) -> int:
        """Return how large a blob is. Raises InvalidValue, FileNotFoundError, OSError."""
        return self.path(key).stat().st_size

    def age(self, key: str) -> timedelta:
        """Return how long ago the blob was put, by the file server's clock where the store can be written.

        By its inode's time: a hard link has the times of the spool's file, but for that one, which the link moved.
        Raises InvalidValue, FileNotFoundError, OSError.
        """
        put_at = self.path(key).stat().st_ctime
        try:
            with tempfile.TemporaryFile(dir=self.root) as probe:
                now = os.fstat(probe.fileno()).st_ctime
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            now = time.time()
        return timedelta(seconds=now - put_at)

    def remove_many(self, keys: Sequence[str]) -> None:
        """Remove blobs by their exact keys, for good: folders are fsynced before it returns. Safe to repeat.

        Also the folders of those that are gone already: whoever removed them may have died before. Only after the rows
        that point at them say that they are removed. Raises StorageError.
        """
        paths = [self.path(key) for key in keys]
        try:
            for path in paths:
                path.unlink(missing_ok=True)
            folders = sorted({path.parent for path in paths if path.parent.is_dir()})
            if folders:
                make_durable(self.root, folders)
        except OSError as error:
            raise storage_error("blob store must be writable", error, self.root) from error

    def holds_any(self, keys: Sequence[str]) -> bool:
        """Say whether at least one of the blobs is there."""
        return any(self.path(key).exists() for key in keys)

    def listing(self) -> Iterator[list[str]]:
        """Yield the names in every folder ``ab/cd`` that there is, in order; nothing when there is no store yet."""
        for first in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            for second in sorted(first.iterdir()) if first.is_dir() else ():
                if second.is_dir():
                    paths = sorted(p for p in second.iterdir() if p.suffix != _PART)
                    yield [str(p.relative_to(self.root)) for p in paths]

    def mark(self, installation: str) -> str:
        """Make the folder an installation's unless it is somebody's, durably; return whose it is.

        Raises StorageError.
        """
        mark = self.root / MARK
        try:
            if not mark.exists():
                self.root.mkdir(mode=0o750, parents=True, exist_ok=True)
                self._write_mark(mark, installation)
            return mark.read_text(errors="replace").strip()
        except OSError as error:
            raise storage_error("blob store must be writable", error, self.root) from error

    def _write_mark(self, mark: Path, installation: str) -> None:
        """Give it its name when it is whole and durable: by a link, which fails where another was faster."""
        part = mark.with_name(f"{MARK}.{secrets.token_hex(8)}{_PART}")
        try:
            with part.open("x") as file:
                file.write(f"{installation}\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                mark.hardlink_to(part)
            except FileExistsError:
                pass
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                part.replace(mark)  # who reads it afterwards reads the last one
            _fsync(self.root)
        finally:
            part.unlink(missing_ok=True)

    def sweep(self) -> int:
        """Do nothing: who copies to a blob takes away what others left of it."""
        return 0

    def trouble(self) -> str | None:
        """Return None: what is wrong with a folder is said by whoever uses it."""
        return None

    def _place(self, key: BlobKey, source: Path) -> None:
        """Put an arrival's file in its place; what lies there, and we do not know to be durable, is made anew.

        Its fsync may have failed, under us or under a process that is gone: the kernel gives up what it could not
        write, says so only once, and a second fsync succeeds. Replaced, never removed: its row may be committed by now.
        """
        target = self.root / key
        if key in self._placed or not target.exists():
            place(source, target)
            return
        try:
            _copy(source, target)
        except FileNotFoundError:
            if source.exists() or not target.exists():
                raise
            # Another indexer took it out of the spool: all of it is durable.

    def _make_folders(self, wanted: Iterable[Path]) -> list[Path]:
        """Make the folders that lack, durably; return ``wanted`` as paths, in order.

        Also those that are there, but not made durable by this process: another one may have made them and not come to
        its fsync. What we made goes again where the fsync fails: a second one would succeed, and say nothing.
        """
        changed: set[Path] = set()
        made: list[Path] = []
        if not self.root.is_dir():
            self.root.mkdir(mode=0o750, parents=True, exist_ok=True)
            changed.add(self.root.parent)
        folders = set(wanted)
        levels = sorted({level for folder in folders for level in _levels(folder / "any")})
        for name in levels:
            level = self.root / name
            if name in self._durable and level.is_dir():
                continue
            changed.add(level.parent)
            with contextlib.suppress(FileExistsError):
                level.mkdir(mode=0o750)
                made.append(level)
        try:
            make_durable(self.root, sorted(changed))
        except OSError:
            for level in reversed(made):
                with contextlib.suppress(OSError):  # another process uses it already
                    level.rmdir()
            raise
        self._durable.update(levels)
        return sorted(self.root / folder for folder in folders)


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
        if error.errno not in _NO_LINKS:
            if error.errno == errno.ENOENT and target.exists():
                return
            raise
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    """Copy through a part file, so that a target is always whole; compare what the disk gives back."""
    part = target.with_suffix(f".{os.getpid()}{_PART}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        with source.open("rb") as original, os.fdopen(descriptor, "wb") as copy:
            fcntl.flock(copy, fcntl.LOCK_EX)
            shutil.copyfileobj(original, copy, _COPY_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
            if _digest(part) != _digest(source):
                raise OSError(errno.EIO, "the copy differs from the original")
            part.replace(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
    _remove_abandoned_parts(target)


def _remove_abandoned_parts(target: Path) -> None:
    """Remove what processes that were killed in a copy to ``target`` left; one that still copies holds its lock."""
    for part in target.parent.glob(f"{target.stem}.*{_PART}"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
