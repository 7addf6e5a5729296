"""Where a lab keeps what it builds and what runs: one folder outside the tree, of the person who runs it."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DIGEST_CHARACTERS = 12
"""Enough to tell two recipes apart, short enough for an image's tag."""


def cache_folder() -> Path:
    """Return ``AEGATE_LAB_CACHE``, else ``aegate-lab`` in the user's cache folder; it is made when missing."""
    asked = os.environ.get("AEGATE_LAB_CACHE")
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(asked) if asked else Path(caches) / "aegate-lab"
    folder = folder.expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest(*parts: str | bytes) -> str:
    """Return a short name for a recipe: the same parts give the same name."""
    total = hashlib.sha256()
    for part in parts:
        one = part.encode() if isinstance(part, str) else part
        total.update(len(one).to_bytes(8, "big") + one)
    return total.hexdigest()[:DIGEST_CHARACTERS]


@contextmanager
def only_builder() -> Iterator[Path]:
    """Hold the cache against other builders, so two test runs at once build everything once. Gives its folder."""
    folder = cache_folder()
    with (folder / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
