"""What people type and what programs filter by, as filters of the stores.

Basic search: all terms must match, each as part of a text, without regard to case and accents; ``field:value`` asks one
field; quotes keep blanks together; ``*`` and ``?`` are any characters and one, in terms that fit whole words. Advanced:
``where`` inputs, field by field, with AND and OR.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Generic, TypeVar

import strawberry

from aegate_core.stores.listing import AllOf, AnyOf, Compare, Filter, Op
from aegate_core.stores.text_patterns import has_wildcard, letters
from aegate_graphql_api.context import utc
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.filter_values import check_value

SHORTEST_TERM = 3
MOST_TERMS = 10
LONGEST_SEARCH = 256
MAX_PREDICATES = 20
MAX_FILTER_DEPTH = 3
LONGEST_IN = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Term:
    """One word of a search; ``prefix`` None: anywhere."""

    prefix: str | None
    text: str

    @property
    def is_short(self) -> bool:
        """Whether no index finds it by itself."""
        return letters(self.text) < SHORTEST_TERM

    def compare(self, column: str, op: Op = Op.CONTAINS) -> Compare:
        """Return the comparison of a column with it; ``op`` is how, where it has no wildcards.

        A short one without a field is the beginning of a word: ``ct`` is not to find every doctor.
        """
        if has_wildcard(self.text):
            return Compare(column, Op.MATCHES, self.text)
        if self.prefix is None and self.is_short:
            return Compare(column, Op.MATCHES, f"{self.text}*")
        return Compare(column, op, self.text)


_TERM = re.compile(r'(?:([A-Za-z]+):)?("[^"]*"|\S+)')


def terms(search: str | None, prefixes: Iterable[str]) -> list[Term]:
    """Return the terms of a basic search. Raises RequestRefused BAD_SEARCH, without repeating what was typed."""
    if not search or not search.strip():
        return []
    if len(search) > LONGEST_SEARCH:
        raise _bad(
            f"it may have {LONGEST_SEARCH} characters: shorten it", limit=LONGEST_SEARCH, used=len(search)
        )
    if not _storable(search):
        raise _bad("it may have no NUL: take it out")
    known = {p.lower() for p in prefixes}
    found = []
    for match in _TERM.finditer(_without_commas(search)):
        prefix, text = match.group(1), match.group(2).strip('"').strip()
        if prefix is not None and prefix.lower() not in known:
            raise _bad(
                f"before a colon it knows {', '.join(sorted(known))}, got another word: use one of them"
            )
        if not text or (text.rstrip(":").lower() in known and text.endswith(":")):
            raise _bad("a field needs a value directly after its colon: give one")
        found.append(Term(prefix.lower() if prefix else None, text))
    if found and all(term.prefix is None and term.is_short for term in found):
        raise _bad(
            f"a term needs {SHORTEST_TERM} characters beside * and ?: lengthen one, or name its field as in location:ER"
        )
    if len(found) > MOST_TERMS:
        raise _bad(
            f"it may have {MOST_TERMS} terms, got {len(found)}: leave some out",
            limit=MOST_TERMS,
            used=len(found),
        )
    return found


_COMMA = re.compile(r"""("[^"]*")|([A-Za-z]+:[^\s"]+)|,""")


def _without_commas(search: str) -> str:
    """Return it with blanks for commas, as in ``Miller, Ann``, but for those in quotes and in the value of a field."""
    return _COMMA.sub(lambda found: " " if found.group() == "," else found.group(), search)


def _bad(why: str, **limit: int) -> RequestRefused:
    return RequestRefused("BAD_SEARCH", f"the search cannot be used: {why}", **limit)


def _storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


@strawberry.input(description="From and to, both included; one may be left out.")
class Range(Generic[T]):
    """From and to, both included."""

    from_: T | None = strawberry.field(default=None, name="from", description="Not less than this.")
    to: T | None = strawberry.field(default=None, description="Not more than this.")


@strawberry.input(
    description="Compares a text. contains, startsWith and matches do not regard the case of A to Z; in names of "
    "persons they regard neither case nor accents, and each of the three groups of a name counts: muller finds MÜLLER."
)
class TextFilter:
    """Compares a text."""

    eq: str | None = strawberry.field(default=None, description='Is just this, such as "Miller^Ann".')
    in_: list[str] | None = strawberry.field(
        default=None, name="in", description='Is one of these, at most 100: ["CT", "MR"].'
    )
    contains: str | None = strawberry.field(
        default=None,
        description='Has this in it. Of a person: all these words in any order, "ann mil" finds Miller^Ann.',
    )
    starts_with: str | None = strawberry.field(default=None, description='Begins with this, such as "Mil".')
    matches: str | None = strawberry.field(
        default=None,
        description="Is this, where * stands for any characters and ? for one: A12*. Of a person: words in any order, "
        "one with * or ? fits a whole word: M?ller, Ann*.",
    )
    range: Range[str] | None = strawberry.field(
        default=None, description='Sorts between these, by code points: dates from "20260101".'
    )
    is_null: bool | None = strawberry.field(
        default=None, description="true: absent or empty; false: neither."
    )


@strawberry.input(description="Compares a number.")
class NumberFilter:
    """Compares a number."""

    eq: int | None = strawberry.field(default=None, description="Is just this, such as 50.")
    in_: list[int] | None = strawberry.field(
        default=None, name="in", description="Is one of these, at most 100: [50, 70]."
    )
    range: Range[int] | None = strawberry.field(default=None, description="Lies between these.")


@strawberry.input(description="Compares what is true or false.")
class BooleanFilter:
    """Compares what is true or false."""

    eq: bool | None = strawberry.field(default=None, description="Is just this, such as true.")


@strawberry.input(description="Compares a time.")
class TimeFilter:
    """Compares a time."""

    range: Range[datetime] | None = strawberry.field(
        default=None, description='Lies between these, such as from "2026-01-31T08:00:00Z".'
    )
    is_null: bool | None = strawberry.field(
        default=None, description="true: has no time yet; false: has one."
    )


@strawberry.input(description="Compares a value of a fixed set.")
class OneOfFilter(Generic[T]):
    """Compares a value of a fixed set."""

    eq: T | None = strawberry.field(default=None, description="Is just this one.")
    in_: list[T] | None = strawberry.field(default=None, name="in", description="Is one of these.")


_OPS: Mapping[str, Op] = {
    "eq": Op.EQ,
    "in_": Op.IN,
    "contains": Op.CONTAINS,
    "starts_with": Op.STARTS_WITH,
    "matches": Op.MATCHES,
    "is_null": Op.IS_NULL,
}


def filter_of(where: object | None) -> Filter:
    """Return a ``where`` input as a filter; its fields are named as the store's columns. Raises RequestRefused."""
    if where is None:
        return AllOf(())
    found = _group(where, 1)
    if (used := _predicates(found)) > MAX_PREDICATES:
        raise _bad_filter(f"it may have {MAX_PREDICATES} comparisons", limit=MAX_PREDICATES, used=used)
    return found


def _group(where: object, depth: int) -> Filter:
    if depth > MAX_FILTER_DEPTH:
        raise _bad_filter(f"AND and OR may nest {MAX_FILTER_DEPTH} deep", limit=MAX_FILTER_DEPTH, used=depth)
    assert is_dataclass(where), "strawberry inputs are dataclasses"
    parts: list[Filter] = []
    for field in fields(where):
        value = getattr(where, field.name)
        if value is None:
            continue
        if field.name == "all_of":
            parts.append(AllOf(tuple(_group(w, depth + 1) for w in value)))
        elif field.name == "any_of":
            parts.append(AnyOf(tuple(_group(w, depth + 1) for w in value)))
        else:
            parts.extend(_comparisons(field.name, value))
    return AllOf(tuple(parts))


def _comparisons(column: str, comparing: object) -> list[Filter]:
    assert is_dataclass(comparing), "strawberry inputs are dataclasses"
    found: list[Filter] = []
    for field in fields(comparing):
        value = getattr(comparing, field.name)
        if value is None:
            continue
        if isinstance(value, Range):
            ends = ((Op.FROM, value.from_), (Op.TO, value.to))
            compared = [(op, end) for op, end in ends if end is not None]
        else:
            compared = [(_OPS[field.name], value)]
        for op, given in compared:
            check_value(column, op, given)
            found.append(Compare(column, op, _checked(given)))
    return found


def _checked(value: object) -> object:
    if isinstance(value, list):
        if len(value) > LONGEST_IN:
            raise _bad_filter(f"in may list {LONGEST_IN} values", limit=LONGEST_IN, used=len(value))
        return [_checked(v) for v in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        if (moment := utc(value)) is None:
            raise _bad_filter("times need a time zone, such as 2026-01-31T08:00:00Z")
        return moment
    if isinstance(value, str) and len(value) > LONGEST_SEARCH:
        raise _bad_filter(
            f"texts may have {LONGEST_SEARCH} characters", limit=LONGEST_SEARCH, used=len(value)
        )
    if isinstance(value, str) and not _storable(value):
        raise _bad_filter("texts may have no NUL")
    return value


def _predicates(where: Filter) -> int:
    return 1 if isinstance(where, Compare) else sum(_predicates(p) for p in where.parts)


def _bad_filter(why: str, **limit: int) -> RequestRefused:
    return RequestRefused("BAD_FILTER", f"the filter cannot be used: {why}", **limit)
