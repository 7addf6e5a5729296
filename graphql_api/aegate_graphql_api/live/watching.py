"""What a subscriber watches: a filter of the store for the snapshot, a question about a row for what changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aegate_core.stores.listing import AllOf, Compare, Filter, Op
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.filter_values import check_value
from aegate_graphql_api.search import LONGEST_IN


@dataclass(frozen=True, slots=True)
class OneOf:
    """A column of a list that must hold one of these values; ``row`` is what the column is called in its rows."""

    column: str
    values: frozenset[object]
    row: str

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has one of the values."""
        return row[self.row] in self.values


@dataclass(frozen=True, slots=True)
class Watch:
    """All of these must hold."""

    parts: tuple[OneOf, ...]

    def filter(self) -> Filter:
        """Return it for the store."""
        return AllOf(tuple(Compare(p.column, Op.IN, sorted(p.values, key=str)) for p in self.parts))

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is watched."""
        return all(part.holds(row) for part in self.parts)


ALL = Watch(())


def check_length(name: str, given: Sequence[object]) -> None:
    """Raise RequestRefused for a list of none, or of more values than it may have."""
    if not 1 <= len(given) <= LONGEST_IN:
        raise RequestRefused(
            "BAD_FILTER",
            f"{name} must hold 1 to {LONGEST_IN} values: leave it out or correct it",
            limit=LONGEST_IN,
            used=len(given),
        )


def one_of(
    name: str, given: Sequence[object] | None, column: str, row: str | None = None
) -> tuple[OneOf, ...]:
    """Return the condition of an argument, none where it was left out. Raises RequestRefused for what cannot be."""
    if given is None:
        return ()
    check_length(name, given)
    if any(isinstance(v, str) and "\0" in v for v in given):
        raise RequestRefused("BAD_FILTER", f"{name} must hold values without NUL: correct it")
    check_value(column, Op.IN, list(given), called=name)
    return (OneOf(column, frozenset(given), row or column),)
