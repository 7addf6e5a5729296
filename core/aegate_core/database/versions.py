"""Which schemas this code works on: its own, and one that a newer version has expanded.

A migration's name says when it takes something away: ``0007_drop_old_column_requires_0006`` may be run only when all
code that runs knows ``0006``. So a release adds, the next one stops using, and the one after that takes away; code
that is replaced works on until its last pod is gone. docs/adr/0017.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_REQUIRES = re.compile(r"_requires_(\d{4})$")


def newer_than(known: Collection[str], applied: Collection[str]) -> list[str]:
    """Return the migrations that a database has and this code does not know, in order."""
    return sorted(set(applied) - set(known))


def missing_from(applied: Collection[str], known: Collection[str]) -> list[str]:
    """Return the migrations that a database lacks, in order."""
    return sorted(set(known) - set(applied))


def outdated_by(known: Collection[str], applied: Collection[str]) -> str | None:
    """Return the first migration that took away what this code needs, or None: it works on that schema."""
    newest = max(name[:4] for name in known)
    for name in newer_than(known, applied):
        requires = _REQUIRES.search(name)
        if requires is not None and requires[1] > newest:
            return name
    return None
