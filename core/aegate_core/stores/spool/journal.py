"""What a listener has to tell the audit, as lines in files of the spool: a listener has no database.

``<root>/.audit/<process>/<name>.open`` is written to, line by line; ``<name>.done`` is whole, and for the indexer. A
line is written at once, so a kill loses none; it is on the disk within a second. The names are never used twice: by
name and line whoever takes them up knows what was taken up before.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from aegate_core.steps import Step, reached
from aegate_core.stores.spool.folders import entries, fsync_folder
from aegate_core.stores.spool.locks import is_dead

JOURNALS = ".audit"
"""Folder of the journals below the root; no namespace can have that name."""

FILE_BYTES = 256 * 1024
"""A file is closed when it is so long, or when nothing waits before it: an outage leaves few files, and long ones."""
MOST_BYTES = 64 << 20
"""Of one listener, while nobody takes them up: 200,000 associations. Beyond it they are counted alone."""
OPEN, DONE = ".open", ".done"


class Journal:
    """The journal of one process. Threads may share it; `turn` is called by one of them, every second or so.

    The lock of ``process`` must be held: what a life before left open is closed here.
    """

    def __init__(self, root: Path, process: str, *, most_bytes: int = MOST_BYTES) -> None:
        self.folder = root / JOURNALS / process
        self.most_bytes = most_bytes
        self._lock = threading.Lock()
        self._file = -1
        self._name = ""
        self._size = 0
        self._is_dirty = False
        self._waiting = 0
        """Bytes in files that are done, as last looked at."""
        self._look()

    @property
    def size_bytes(self) -> int:
        """How much of it waits, about."""
        return self._waiting + self._size

    @property
    def is_open(self) -> bool:
        """Whether there is something that `turn` has to look after."""
        return self._file >= 0

    def write(self, line: bytes) -> bool:
        """Add a line, so that a kill does not lose it; False where there is no room, or the disk does not take it."""
        with self._lock:
            if self.size_bytes + len(line) > self.most_bytes:
                return False
            try:
                self._open()
                written = os.write(self._file, line)
            except OSError:
                return False
            if written != len(line):
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._size)
                return False
            self._size += written
            self._is_dirty = True
        reached(Step.RECORD_WRITTEN)
        return True

    def turn(self, *, is_last: bool = False) -> None:
        """Bring what was written to the disk, and give a file away when it is time. Raises OSError."""
        self._look()
        with self._lock:
            file, is_dirty = self._file, self._is_dirty
            if file < 0:
                return
            is_due = is_last or (self._size > 0 and (not self._waiting or self._size >= FILE_BYTES))
            self._is_dirty = False
            if is_due:
                path, self._file = self.folder / self._name, -1
                self._name = ""
                self._waiting += self._size
                self._size = 0
        # Not under the lock: a disk that is busy keeps no association waiting.
        try:
            if is_dirty:
                os.fsync(file)
        finally:
            if is_due:
                os.close(file)
                path.rename(path.with_suffix(DONE))
                fsync_folder(self.folder)

    def close(self) -> None:
        """Give away what there is. Raises OSError."""
        self.turn(is_last=True)

    def _open(self) -> None:
        if self._file >= 0:
            return
        self._name = f"{time.time_ns():016x}-{secrets.token_hex(4)}{OPEN}"
        self._size = 0
        try:
            self._file = self._make()
        except FileNotFoundError:  # an indexer removed the folder, which was empty, under us
            self._file = self._make()

    def _make(self) -> int:
        for folder in (self.folder.parent, self.folder):
            folder.mkdir(
                mode=0o750, exist_ok=True
            )  # not the root: a spool that is gone is not made anew beside it
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        return os.open(self.folder / self._name, flags, 0o640)

    def _look(self) -> None:
        """Count what waits; what was left open, by a life before or by a spool that was away, waits too from now on."""
        waiting = 0
        for path in list(entries(self.folder)):
            with contextlib.suppress(OSError):
                if path.suffix == OPEN and path.name != self._name:
                    path = path.rename(path.with_suffix(DONE))
                waiting += path.stat().st_size if path.suffix == DONE else 0
        self._waiting = waiting


def journals(root: Path, ours: Callable[[str], bool]) -> Iterator[Path]:
    """Yield the files that are to be taken up, the oldest first: those that are done, and all of who is gone.

    Only of processes that are ``ours``.
    """
    found: list[Path] = []
    for folder in entries(root / JOURNALS):
        if not ours(folder.name):
            continue
        there = list(entries(folder))  # before asking who lives: what a new life opens is not among them
        is_over = is_dead(root, folder.name)
        files = [p for p in there if p.suffix == DONE or (is_over and p.suffix == OPEN)]
        if not files and is_over:
            with contextlib.suppress(OSError):
                folder.rmdir()
        found += files
    yield from sorted(found, key=lambda path: path.name)
