"""Read the spool, take out of it what is indexed, and clear away what listeners that are gone never acknowledged."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aegate_core.dicom.identifiers import ArrivalId
from aegate_core.errors import InvalidInput
from aegate_core.steps import Step, reached
from aegate_core.stores.spool.folders import entries, process_folders
from aegate_core.stores.spool.locks import LOCKS, is_dead
from aegate_core.stores.spool.records import SideRecord, SpooledArrival


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
    objects = (p for folder in process_folders(root) for p in entries(folder) if p.suffix == ".dcm")
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


def sweep(root: Path) -> Swept:
    """Remove what dead listeners left unacknowledged, and their empty folders. Two may sweep at once.

    Their acknowledged arrivals stay and are counted: `scan` yields them as any other.
    """
    dead: set[str] = set()
    parts = arrivals = 0
    for folder in process_folders(root):
        if not is_dead(root, folder.name):
            continue
        dead.add(folder.name)
        files = list(entries(folder))
        objects = sum(p.suffix == ".dcm" for p in files)
        arrivals += objects
        parts += remove_unacknowledged(files)
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


def remove_unacknowledged(files: list[Path]) -> int:
    """Remove what of a folder's ``files`` was never acknowledged; return how many objects that were."""
    removed = _never_acknowledged(files)
    for path in removed:
        path.unlink(missing_ok=True)
    return sum(path.suffix == ".part" for path in removed)
