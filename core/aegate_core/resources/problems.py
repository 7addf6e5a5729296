"""What is wrong with a manifest: where it stands in the file, what was expected, what came, what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from aegate_core.resources.fields import KIND_NAMES
from aegate_core.resources.reference import ResourceRef

Path = tuple[str | int, ...]
"""Where a value stands in a manifest: ("spec", "to", 0)."""

LONGEST_SHOWN = 60
"""Characters of a value that a message shows."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule broken by one value of a manifest."""

    path: Path
    expected: str
    got: str
    advice: str = ""
    is_rule: bool = False
    """``expected`` is the message of a CRD's own rule, a sentence in itself."""
    is_blocking: bool = False
    """Rules cannot be asked about such an object: a value is missing, too large, or none that the schema knows."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A violation with its place: a file and a line that count from 1; 0 where there is none."""

    file: str
    line: int
    column: int
    field: str
    expected: str
    got: str
    advice: str = ""
    resource: ResourceRef | None = None
    is_rule: bool = False

    @property
    def message(self) -> str:
        """Expected, got, and the next step, in one sentence."""
        if self.is_rule:
            return f"{self.expected} (got {self.got})" if self.got else self.expected
        return f"expected {self.expected}, got {self.got}" + (f": {self.advice}" if self.advice else "")

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        subject = " ".join(str(part) for part in (self.resource, self.field) if part)
        return f"{place}: {subject}: {self.message}" if subject else f"{place}: {self.message}"

    def to_json(self) -> dict[str, object]:
        """Return all members for programs."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "kind": self.resource and self.resource.kind,
            "namespace": self.resource and self.resource.key.namespace,
            "name": self.resource and self.resource.key.name,
            "field": self.field,
            "expected": self.expected,
            "got": self.got,
            "advice": self.advice,
            "message": self.message,
        }


def render_path(path: Path) -> str:
    """Return ``spec.to[0]`` for ("spec", "to", 0); a member that is no word stands in brackets and quotes.

    >>> render_path(("metadata", "labels", "a/b"))
    'metadata.labels["a/b"]'
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", part):
            text += f".{part}"
        else:
            text += f"[{json.dumps(part)}]"
    return text.removeprefix(".")


def show(value: object) -> str:
    """Return ``value`` for a message: what it is, and as much of it as fits.

    >>> show(False), show("x")
    ('the boolean false', "'x'")
    """
    if isinstance(value, str):
        return (
            repr(value)
            if len(value) <= LONGEST_SHOWN
            else f"{value[:LONGEST_SHOWN]!r}… ({len(value)} characters)"
        )
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        text = str(value)
        shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
        return f"the {'integer' if isinstance(value, int) else 'number'} {shown}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return KIND_NAMES.get(type(value), type(value).__name__)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that was perhaps meant, or an empty text."""
    by_fold = {candidate.casefold(): candidate for candidate in known}
    close = get_close_matches(name.casefold(), by_fold, n=1, cutoff=0.6)
    return by_fold[close[0]] if close else ""
