"""Waking up when something lies in the spool: by the kernel's word, and by looking every two seconds in any case.

Names alone tell how much waits and since when: an arrival id begins with the milliseconds at which it came. So a
spool of 100,000 objects is surveyed without opening one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path

from watchfiles import Change, awatch

from aegate_core.stores.index.progress import Waiting
from aegate_core.stores.spool import is_namespace

LOOK_EVERY_S = 2.0
"""Also without word from the kernel: network file systems give none, and its queue may overflow."""

DEBOUNCE_MS, STEP_MS = 50, 25
"""Arrivals that come within 50 ms make one batch; 25 ms of quiet end it earlier. A step wakes an idle process, too."""


def survey(
    root: Path, *, without: Collection[str] = (), ours: Callable[[str], bool] = lambda process: True
) -> dict[str, Waiting]:
    """Return by AE key how many objects lie below ``root`` and when the oldest came.

    ``without`` names some not to count; only folders of processes that are ``ours`` count.
    """
    found: dict[str, Waiting] = {}
    for namespace in _folders(root):
        for ae in _folders(namespace) if is_namespace(namespace.name) else ():
            folders = (folder for folder in _folders(ae) if ours(folder.name))
            ids = [name for folder in folders for name in _objects(folder) if name not in without]
            if ids:
                found[f"{namespace.name}/{ae.name}"] = Waiting(_time_of(min(ids)), len(ids))
    return found


def _folders(parent: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        yield from (path for path in list(parent.iterdir()) if path.is_dir())


def _objects(folder: Path) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        yield from (path.stem for path in list(folder.iterdir()) if path.suffix == ".dcm")


def _time_of(arrival_id: str) -> datetime:
    """Return when an arrival id was made; a name that is none counts as very old, so that nothing closes over it."""
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(int(arrival_id[:12], 16) / 1000, UTC)
    return datetime.fromtimestamp(0, UTC)


class SpoolWatch:
    """Says when to look into the spool. `run` is a task of its own; it ends when cancelled."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Listen to the kernel. Where it cannot be heard, the looks every two seconds remain."""
        with contextlib.suppress(OSError, RuntimeError):
            async for _ in awatch(
                self._root,
                watch_filter=_is_arrival,
                debounce=DEBOUNCE_MS,
                step=STEP_MS,
                raise_interrupt=False,
            ):
                self._changed.set()

    async def wait(self, timeout_s: float) -> None:
        """Return when something came, or after ``timeout_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        self._changed.clear()

    def wake(self) -> None:
        """End a `wait` now."""
        self._changed.set()


def _is_arrival(change: Change, path: str) -> bool:
    return change is Change.added and path.endswith(".dcm")
