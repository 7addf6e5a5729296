"""Words to search for: as they were typed, or a line of standard input, which no list of processes shows."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from aegate_core.errors import InvalidInput


def words_of(typed: Sequence[str]) -> str | None:
    """Return what is searched for; None where nothing was typed, and everything is meant.

    Raises InvalidInput for words that are none: an empty variable of a script must not mean everything.
    """
    if not typed:
        return None
    words = (sys.stdin.readline() if list(typed) == ["-"] else " ".join(typed)).strip()
    if not words:
        raise InvalidInput(
            "expected words to search for, got none: write some, or leave them out for everything"
        )
    return words
