"""The folders of the spool: ``<root>/<namespace>/<name>/<process>/``."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def is_namespace(name: str) -> bool:
    """Say whether a folder below the root is a namespace's: a volume has its own there (lost+found, .snapshot)."""
    return _NAMESPACE.fullmatch(name) is not None


def process_folders(root: Path) -> Iterator[Path]:
    """Yield the folders of all processes, in the order of their names."""
    for namespace in sorted(entries(root)):
        if is_namespace(namespace.name):
            for ae in sorted(entries(namespace)):
                yield from sorted(entries(ae))


def entries(folder: Path) -> Iterator[Path]:
    """Yield what stands in ``folder``; nothing when it is gone or no folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        yield from list(folder.iterdir())


def fsync_folder(folder: Path) -> None:
    """Make durable which names stand in ``folder``."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
