"""The durable spool: what was acknowledged and is not yet indexed, as files that survive any crash.

``<root>/<namespace>/<name>/<process>/<arrival id>.dcm`` with a side record ``<arrival id>.json``; while bytes
arrive the object is called ``.dcm.part``. The order of `SpoolFile.commit` is the promise behind every 0x0000:
object fsynced, side record fsynced, object renamed, folder fsynced. A process folder belongs to one process
life and is named in ``<root>/.listeners/<process>.lock``, which that process holds locked: so a sweeper knows
whose ``.part`` is dead without trusting process ids or clocks.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aegate_core.dicom.identifiers import ArrivalId, ResourceKey, parse_arrival_id, parse_resource_key
from aegate_core.disk import storage_error
from aegate_core.errors import InvalidInput
from aegate_core.steps import Step, reached

LOCKS = ".listeners"
"""Folder of the lock files below the root; no namespace can have that name."""

_WRITABLE = "spool must be writable, cannot"
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class SideRecord:
    """What is known of an arrival and does not stand in the object itself. Titles are without padding."""

    arrival_id: ArrivalId
    ae: ResourceKey
    calling_title: str
    called_title: str
    peer_address: str
    received_at: datetime
    abstract_syntax: str
    """Of the presentation context; a device may send another SOP class under it."""
    transfer_syntax: str
    sop_class_uid: str
    """Affected SOP Class UID of the command (PS3.7 9.3.1)."""
    sop_instance_uid: str
    data_offset: int
    """Where in the file the data set begins: after preamble and file meta."""
    size_bytes: int
    """Of the whole file."""

    def to_json(self) -> str:
        """Return the record as one JSON object."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(values | {"ae": str(self.ae), "received_at": self.received_at.isoformat()})

    @staticmethod
    def from_json(text: str | bytes) -> SideRecord:
        """Read what `to_json` wrote. Raises InvalidInput for anything else."""
        try:
            values = json.loads(text)
            return SideRecord(
                **values
                | {
                    "arrival_id": parse_arrival_id(values["arrival_id"]),
                    "ae": parse_resource_key(values["ae"]),
                    "received_at": datetime.fromisoformat(values["received_at"]).astimezone(UTC),
                }
            )
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            reason = type(error).__name__
            raise InvalidInput(
                f"side record must be what a listener wrote, got other text ({reason})"
            ) from error


@dataclass(frozen=True, slots=True)
class SpooledArrival:
    """One acknowledged object in the spool."""

    path: Path
    side: SideRecord

    @property
    def side_path(self) -> Path:
        """The side record's file."""
        return self.path.with_suffix(".json")


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
        raise storage_error(f"{_WRITABLE} look at {folder}", error, folder) from error
    reachable = stat.f_blocks - stat.f_bfree + stat.f_bavail
    used = 100.0 * (1 - stat.f_bavail / reachable) if reachable else 100.0
    return Room(stat.f_bavail * stat.f_frsize, round(used, 2), reachable * stat.f_frsize)


class SpoolFolder:
    """One listener process's part of the spool, from start to end of its life. Threads may share it."""

    def __init__(self, root: Path, process: str | None = None) -> None:
        """Take a process name of our own, and its lock. Raises StorageError if that cannot be written."""
        self.root = root
        self.process = process or _process_name()
        self._folders: dict[ResourceKey, int] = {}
        self._folders_lock = threading.Lock()
        """A descriptor may not be closed, and its number given away, between being looked up and being copied."""
        try:
            _make_durable(root, root.parent)
            _make_durable(root / LOCKS, root)
            _fsync_ancestors(root.absolute().parent)
            self._lock = _take_lock(root / LOCKS / f"{self.process}.lock")
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
        """Let the lock go: what is left is for the sweeper."""
        for ae in list(self._folders):
            self._forget(ae)
        with contextlib.suppress(OSError):
            (self.root / LOCKS / f"{self.process}.lock").unlink()
        os.close(self._lock)

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


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found of listeners that are gone."""

    processes: int
    parts: int
    arrivals: int
    """Acknowledged objects that wait in their folders: the indexer takes them as any other."""


def scan(root: Path, *, unreadable: Callable[[Path, str], None] | None = None) -> Iterator[SpooledArrival]:
    """Yield every acknowledged arrival, oldest first: no device waits behind another one's backlog.

    An object whose side record cannot be read goes to ``unreadable`` with the reason, and stays where it is.
    Objects that another process removes meanwhile are passed over.
    """
    objects = (p for folder in _process_folders(root) for p in _entries(folder) if p.suffix == ".dcm")
    for path in sorted(objects, key=lambda p: p.name):
        try:
            side = SideRecord.from_json(path.with_suffix(".json").read_bytes())
        except (OSError, InvalidInput) as error:
            if unreadable and path.exists():
                unreadable(path, type(error).__name__)
            continue
        yield SpooledArrival(path, side)


def holds(root: Path, arrival_id: ArrivalId) -> bool:
    """Say whether the arrival is still in the spool, whoever received it."""
    return any((folder / f"{arrival_id}.dcm").exists() for folder in _process_folders(root))


def remove(spooled: SpooledArrival) -> None:
    """Take an arrival out of the spool, when row and blob are safe. Safe to repeat."""
    take_out(spooled.path)


def take_out(path: Path) -> None:
    """Take an object and its side record out of the spool, when row and blob are safe. Safe to repeat."""
    path.unlink(missing_ok=True)
    reached(Step.OBJECT_UNLINKED)
    path.with_suffix(".json").unlink(missing_ok=True)
    reached(Step.SPOOL_LEFT)


def count_left_over(root: Path) -> int:
    """Count what the next `sweep` will remove: files of dead listeners that were never acknowledged."""
    return sum(
        len(_never_acknowledged(list(_entries(folder))))
        for folder in _process_folders(root)
        if _is_dead(root, folder.name)
    )


def sweep(root: Path) -> Swept:
    """Remove what dead listeners left unacknowledged, and their empty folders. Two may sweep at once.

    Their acknowledged arrivals stay and are counted: `scan` yields them as any other.
    """
    dead: set[str] = set()
    parts = arrivals = 0
    for folder in _process_folders(root):
        if not _is_dead(root, folder.name):
            continue
        dead.add(folder.name)
        entries = list(_entries(folder))
        objects = sum(p.suffix == ".dcm" for p in entries)
        arrivals += objects
        for path in _never_acknowledged(entries):
            path.unlink(missing_ok=True)
            parts += path.suffix == ".part"
        if not objects:
            with contextlib.suppress(OSError):
                folder.rmdir()
    for path in _entries(root / LOCKS):
        _is_dead(root, path.stem, leaves=path)
    return Swept(len(dead), parts, arrivals)


def _never_acknowledged(entries: list[Path]) -> list[Path]:
    """Return objects written in part, and side records without their object."""
    objects = {p.stem for p in entries if p.suffix == ".dcm"}
    return [p for p in entries if p.suffix == ".part" or (p.suffix == ".json" and p.stem not in objects)]


def _process_name() -> str:
    host = re.sub(r"[^a-z0-9-]", "-", socket.gethostname().lower())[:40]
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def is_namespace(name: str) -> bool:
    """Say whether a folder below the root is a namespace's: a volume has its own there (lost+found, .snapshot)."""
    return _NAMESPACE.fullmatch(name) is not None


def _process_folders(root: Path) -> Iterator[Path]:
    for namespace in sorted(_entries(root)):
        if is_namespace(namespace.name):
            for ae in sorted(_entries(namespace)):
                yield from sorted(_entries(ae))


def _entries(folder: Path) -> Iterator[Path]:
    """Yield what stands in ``folder``; nothing when it is gone or no folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        yield from list(folder.iterdir())


def _is_dead(root: Path, process: str, *, leaves: Path | None = None) -> bool:
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


def _take_lock(path: Path) -> int:
    """Hold ``path`` locked until the descriptor is closed. A sweeper may unlink it between open and lock."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(lock).st_ino:
                return lock
        os.close(lock)


def _make_durable(folder: Path, parent: Path) -> None:
    """Make ``folder`` unless it is there; fsync ``parent`` either way: its maker may have died before.

    Where that fails a new folder goes again: the kernel may have given it up, and says so to the first fsync alone.
    """
    is_new = not folder.exists()
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    try:
        _fsync_folder(parent)
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
            _fsync_folder(parent)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
