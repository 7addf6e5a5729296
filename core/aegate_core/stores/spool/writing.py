"""One listener process's part of the spool: objects on their way in, and the order that makes them durable."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import socket
import threading
from pathlib import Path

from aegate_core.dicom.identifiers import ArrivalId, ResourceKey
from aegate_core.disk import storage_error
from aegate_core.steps import Step, reached
from aegate_core.stores.spool.folders import entries, fsync_folder, process_folders
from aegate_core.stores.spool.locks import LOCKS, take_lock
from aegate_core.stores.spool.records import SideRecord
from aegate_core.stores.spool.room import Room, room_of
from aegate_core.stores.spool.sweeping import remove_unacknowledged

_WRITABLE = "spool must be writable, cannot"


class SpoolFolder:
    """One listener process's part of the spool, from start to end of its life. Threads may share it."""

    def __init__(self, root: Path, process: str | None = None) -> None:
        """Take a process name of our own, and its lock. Raises StorageError if that cannot be written.

        With a ``process`` that had a life before, what that left unacknowledged is removed: the lock says it is over.
        """
        self.root = root
        self.process = process or _process_name()
        self._folders: dict[ResourceKey, int] = {}
        self._folders_lock = threading.Lock()
        """A descriptor may not be closed, and its number given away, between being looked up and being copied."""
        try:
            _make_durable(root, root.parent)
            _make_durable(root / LOCKS, root)
            _fsync_ancestors(root.absolute().parent)
            self._lock = take_lock(root / LOCKS / f"{self.process}.lock")
            for folder in process_folders(root) if process else ():
                if folder.name == process:
                    remove_unacknowledged(list(entries(folder)))
        except OSError as error:
            raise storage_error(f"{_WRITABLE} make {root}", error, root.parent) from error

    def begin(self, ae: ResourceKey, arrival_id: ArrivalId, header: bytes) -> SpoolFile:
        """Start ``<arrival id>.dcm.part`` with ``header``. Raises StorageError, StorageFull."""
        try:
            return self._begin(ae, arrival_id, header)
        except FileNotFoundError:
            self._forget(ae)  # somebody removed the folder under us: make it anew, once
        try:
            return self._begin(ae, arrival_id, header)
        except OSError as error:
            raise storage_error(f"{_WRITABLE} write into {self.root}", error, self.root) from error

    def room(self) -> Room:
        """Return the room that is left. Raises StorageError when the spool is gone."""
        return room_of(self.root)

    def check_writable(self, *, durably: bool = False) -> None:
        """Raise StorageError unless a file can be made here now; ``durably``: and written, and fsynced."""
        probe = self.root / LOCKS / f"{self.process}.probe"
        try:
            with probe.open("wb", buffering=0) as file:
                if durably:
                    file.write(b"\1" * 4096)  # a quota counts blocks, and an empty file has none
                    os.fsync(file.fileno())
            probe.unlink()
        except OSError as error:
            raise storage_error(f"{_WRITABLE} write into {self.root}", error, self.root) from error

    def close(self) -> None:
        """Let the lock go: what is left is for the sweeper. Safe to repeat."""
        for ae in list(self._folders):
            self._forget(ae)
        if self._lock >= 0:
            with contextlib.suppress(OSError):
                (self.root / LOCKS / f"{self.process}.lock").unlink()
            os.close(self._lock)
            self._lock = -1

    def _begin(self, ae: ResourceKey, arrival_id: ArrivalId, header: bytes) -> SpoolFile:
        try:
            with self._folders_lock:
                spooled = SpoolFile(self._folder(ae), arrival_id)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise storage_error(f"{_WRITABLE} write into {self.root}", error, self.root) from error
        spooled.write(memoryview(header))
        return spooled

    def _folder(self, ae: ResourceKey) -> int:
        known = self._folders.get(ae)
        if known is not None:
            return known
        parent = self.root
        for part in (ae.namespace, ae.name, self.process):
            _make_durable(parent / part, parent)
            parent = parent / part
        self._folders[ae] = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._folders[ae]

    def _forget(self, ae: ResourceKey) -> None:
        with self._folders_lock:
            folder = self._folders.pop(ae, None)
            if folder is not None:
                os.close(folder)


class SpoolFile:
    """One object on its way in: written as it comes, then committed or discarded, by one thread."""

    def __init__(self, folder: int, arrival_id: ArrivalId) -> None:
        self._folder = os.dup(folder)
        self._id = arrival_id
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.open(f"{arrival_id}.dcm.part", flags, 0o640, dir_fd=self._folder)
        except OSError:
            os.close(self._folder)
            raise
        self._is_open = True
        self.size_bytes = 0

    def write(self, data: memoryview) -> None:
        """Append ``data``, all of it. Raises StorageError, StorageFull; the file is then discarded."""
        try:
            while data:
                written = os.write(self._file, data)
                self.size_bytes += written
                data = data[written:]
        except OSError as error:
            refusal = storage_error(f"{_WRITABLE} write {self._id}", error, self._folder)
            self.discard()
            raise refusal from error

    def watch(self) -> Departure:
        """Return what tells, after `commit`, that an indexer has taken the object. Raises StorageError."""
        try:
            return Departure(os.dup(self._folder), f"{self._id}.dcm")
        except OSError as error:
            raise storage_error(f"{_WRITABLE} look into {self._id}", error, self._folder) from error

    def commit(self, record: SideRecord) -> None:
        """Make object and side record durable under their final names; only after this may 0x0000 be sent.

        Raises StorageError, StorageFull; nothing of the arrival is left then.
        """
        part, side, final = f"{self._id}.dcm.part", f"{self._id}.json", f"{self._id}.dcm"
        try:
            reached(Step.WRITTEN)
            os.fsync(self._file)
            reached(Step.FSYNCED)
            _write_durable(side, record.to_json().encode(), self._folder)
            reached(Step.SIDE_RECORDED)
            os.rename(part, final, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            reached(Step.RENAMED)
            os.fsync(self._folder)
            reached(Step.FOLDER_FSYNCED)
        except OSError as error:
            # The rename may have happened: the peer hears a failure, so nobody may index it.
            for name in (final, part, side):
                _unlink(name, self._folder)
            raise storage_error(f"{_WRITABLE} make durable {self._id}", error, self._folder) from error
        finally:
            self._close()

    def discard(self) -> None:
        """Remove what was written. Safe to repeat, and after `commit` without effect."""
        if self._is_open:
            _unlink(f"{self._id}.dcm.part", self._folder)
            self._close()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            for descriptor in (self._file, self._folder):
                # What a network file system says here was said to fsync before, or the object is given up anyway.
                with contextlib.suppress(OSError):
                    os.close(descriptor)


class Departure:
    """Tells whether a committed object has left the spool: its rows are committed then, its blob or quarantine too."""

    def __init__(self, folder: int, name: str) -> None:
        self._folder = folder
        self._name = name

    def is_over(self) -> bool:
        """Say whether an indexer has taken it. A folder that was moved or removed under us is no indexer's work."""
        try:
            with contextlib.suppress(FileNotFoundError):
                os.stat(self._name, dir_fd=self._folder)
                return False
            return os.fstat(self._folder).st_nlink > 0
        except OSError:
            return False

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._folder)


def _process_name() -> str:
    host = re.sub(r"[^a-z0-9-]", "-", socket.gethostname().lower())[:40]
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def _make_durable(folder: Path, parent: Path) -> None:
    """Make ``folder`` unless it is there; fsync ``parent`` either way: its maker may have died before.

    Where that fails a new folder goes again: the kernel may have given it up, and says so to the first fsync alone.
    """
    is_new = not folder.exists()
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    try:
        fsync_folder(parent)
    except OSError:
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _fsync_ancestors(folder: Path) -> None:
    """Fsync the folders above: they may have been made a moment ago.

    One that may not be read was not made by us, and file systems exist that cannot do it: neither ends a start.
    """
    for parent in folder.parents:
        with contextlib.suppress(OSError):
            fsync_folder(parent)


def _write_durable(name: str, content: bytes, folder: int) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640, dir_fd=folder)
    try:
        if os.write(descriptor, content) != len(content):
            raise OSError(errno.ENOSPC, "side record written in part")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlink(name: str, folder: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)
