"""One SQL text for both databases: written for PostgreSQL, turned into SQLite's by a few exact rules.

``$1`` -> ``?1``; ``x = ANY($1)`` -> ``x IN (SELECT value FROM json_each(?1))``; ``jsonb_array_elements`` and
``jsonb_array_elements_text`` -> ``json_each``, of whose columns ``value`` alone is in both; ``::type`` casts and
``FOR UPDATE [OF t] [SKIP LOCKED]`` go (one writer at a time), and ``COLLATE "C"``, which is how SQLite compares anyway.
What else differs is written twice, by dialect.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

from aegate_core.errors import InvalidValue

_ANY = re.compile(r"=\s*ANY\s*\(\s*\$(\d+)(?:::[a-z_ ]+(?:\[\])?)?\s*\)", re.IGNORECASE)
_CAST = re.compile(r"::[a-z_]+(?:\[\])?", re.IGNORECASE)
_LOCK = re.compile(r"\bFOR (?:NO KEY )?UPDATE(?:\s+OF\s+\w+)?(?:\s+SKIP\s+LOCKED)?", re.IGNORECASE)
_COLLATE = re.compile(r'\s+COLLATE "C"')
_ELEMENTS = re.compile(r"\bjsonb_array_elements(?:_text)?\(")
_PLACE = re.compile(r"\$(\d+)")


@lru_cache(maxsize=1024)
def to_sqlite(sql: str) -> str:
    """Return ``sql`` in SQLite's words."""
    sql = _COLLATE.sub("", _ANY.sub(r"IN (SELECT value FROM json_each(?\1))", sql))
    sql = _ELEMENTS.sub("json_each(", sql)
    return _PLACE.sub(r"?\1", _LOCK.sub("", _CAST.sub("", sql)))


def sqlite_arguments(arguments: Sequence[object]) -> list[object]:
    """Adapt arguments: times as text that sorts (UTC), lists and dicts as JSON."""
    return [_sqlite_argument(a) for a in arguments]


def _sqlite_argument(value: object) -> object:
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False)
    return value


def postgres_arguments(arguments: Sequence[object]) -> list[object]:
    """Adapt arguments: dicts as JSON text. Lists stay lists, for ANY; a JSON column takes one as ``json.dumps(it)``."""
    return [json.dumps(a, ensure_ascii=False) if isinstance(a, dict) else a for a in arguments]


def time_text(value: datetime) -> str:
    """Return a time as Tortoise writes it on SQLite: UTC, a blank between date and time, ``+00:00`` at the end.

    Such texts sort by time, also where the microseconds are absent ('+' stands before '.' in ASCII).
    Raises InvalidValue for a naive time: it would sort wrongly.
    """
    if value.tzinfo is None:
        raise InvalidValue("a time for the database must be aware, got a naive one: use datetime.now(UTC)")
    return value.astimezone(UTC).isoformat(" ")


def as_datetime(value: object) -> datetime:
    """Return a time column of a raw row, from either database, as aware UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return datetime.fromisoformat(str(value)).astimezone(UTC)


def as_int(value: object) -> int:
    """Return a number of a raw row, from either database.

    PostgreSQL's ``sum`` of bigint is numeric and comes as a Decimal, whose text may be ``9E+4``.
    """
    return int(value) if isinstance(value, int | Decimal) else int(str(value))


def as_json(value: object) -> object:
    """Return a JSON column of a raw row, from either database, as Python values."""
    return json.loads(value) if isinstance(value, str | bytes) else value
