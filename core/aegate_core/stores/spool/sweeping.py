"""Read the spool, take out of it what is indexed, and clear away what listeners that are gone never acknowledged."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aegate_core.dicom.identifiers import ArrivalId
from aegate_core.errors import InvalidInput
from aegate_core.steps import Step, reached
from aegate_core.stores.spool.folders import entries, fsync_folder, is_namespace, process_folders
from aegate_core.stores.spool.journal import JOURNALS
from aegate_core.stores.spool.locks import LOCKS, is_dead
from aegate_core.stores.spool.records import SideRecord, SpooledArrival


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found of listeners that are gone."""

    processes: int
    parts: int
    arrivals: int
    """Acknowledged objects that wait in their folders: the indexer takes them as any other."""


def scan(
    root: Path,
    *,
    unreadable: Callable[[Path, str], None] | None = None,
    ours: Callable[[str], bool] = lambda process: True,
) -> Iterator[SpooledArrival]:
    """Yield every acknowledged arrival, oldest first: no device waits behind another one's backlog.

    Only of processes that are ``ours``. An object whose side record cannot be read goes to ``unreadable`` with the
    reason, and stays where it is. Objects that another process removes meanwhile are passed over.
    """
    folders = (folder for folder in process_folders(root) if ours(folder.name))
    objects = (p for folder in folders for p in entries(folder) if p.suffix == ".dcm")
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
    return any((folder / f"{arrival_id}.dcm").exists() for folder in process_folders(root))


def is_readable(path: Path) -> bool:
    """Say whether an object's side record can be read, or the object has left the spool."""
    try:
        SideRecord.from_json(path.with_suffix(".json").read_bytes())
    except (OSError, InvalidInput):
        return not path.exists()
    return True


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
        len(_never_acknowledged(list(entries(folder))))
        for folder in process_folders(root)
        if is_dead(root, folder.name)
    )


def sweep(root: Path, *, quiet_s: float = 0.0) -> Swept:
    """Remove what dead listeners left unacknowledged, and their empty folders. Two may sweep at once.

    Their acknowledged arrivals stay and are counted: `scan` yields them as any other. ``quiet_s``: how long, by the
    volume's own clock, a file must have been left alone; for a volume of several nodes, whose locks may fail.
    """
    before = _volume_time(root) - quiet_s if quiet_s else None
    dead: set[str] = set()
    parts = arrivals = 0
    for folder in process_folders(root):
        if not is_dead(root, folder.name):
            continue
        dead.add(folder.name)
        files = list(entries(folder))
        objects = sum(p.suffix == ".dcm" for p in files)
        arrivals += objects
        parts += remove_unacknowledged(files, before=before)
        if not objects:
            with contextlib.suppress(OSError):
                folder.rmdir()
    for path in entries(root / LOCKS):
        is_dead(root, path.stem, leaves=path)
    return Swept(len(dead), parts, arrivals)


def _never_acknowledged(files: list[Path]) -> list[Path]:
    """Return objects written in part, and side records without their object."""
    objects = {p.stem for p in files if p.suffix == ".dcm"}
    return [p for p in files if p.suffix == ".part" or (p.suffix == ".json" and p.stem not in objects)]


def remove_unacknowledged(files: list[Path], *, before: float | None = None) -> int:
    """Remove what of a folder's ``files`` was never acknowledged; return how many objects that were.

    ``before``: only what was last written before that time of the volume.
    """
    removed = [p for p in _never_acknowledged(files) if before is None or _written_before(p, before)]
    for path in removed:
        path.unlink(missing_ok=True)
    return sum(path.suffix == ".part" for path in removed)


def clear(root: Path) -> bool:
    """Sweep, remove the folders that are empty then, durably, and say whether nothing is left of any listener."""
    sweep(root)
    for namespace in entries(root):
        if is_namespace(namespace.name):
            for ae in entries(namespace):
                _remove_empty(ae)
            _remove_empty(namespace)
    for journal in entries(root / JOURNALS):
        _remove_empty(journal)
    _remove_empty(root / JOURNALS)
    _remove_empty(root / LOCKS)
    fsync_folder(root)
    return not any(is_namespace(p.name) or p.name in (LOCKS, JOURNALS) for p in entries(root))


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _volume_time(root: Path) -> float:
    """Return what time it is by the file system: its server's clock, where it has one."""
    probe = root / LOCKS / f"{secrets.token_hex(8)}.clock"
    probe.parent.mkdir(mode=0o750, exist_ok=True)
    file = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        return os.fstat(file).st_mtime
    finally:
        os.close(file)
        probe.unlink(missing_ok=True)


def _written_before(path: Path, time_s: float) -> bool:
    try:
        return path.stat().st_mtime < time_s
    except FileNotFoundError:
        return False
