"""Lists of rows: filters as values turned into SQL, and pages by keyset.

Pages go by ``(sort columns, id) < (…)``: OFFSET reads what it skips. Only orders that have an index are offered.
The same text runs on both databases; whatever a caller gives becomes an argument, never SQL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

from aegate_core.database import Database
from aegate_core.errors import InvalidInput
from aegate_core.stores import text_patterns
from aegate_core.stores.scope import Arguments, Belongs, Scope
from aegate_core.stores.text_patterns import Needle

SORTED = ' COLLATE "C"'
"""By code points, as SQLite sorts: a server's own collation may be any."""

COUNT_CAP = 10_000
"""Counting stops here: the first page of ten million rows must not read them all."""


class Op(StrEnum):
    """How a column is compared."""

    EQ = "eq"
    IN = "in"
    CONTAINS = "contains"
    STARTS_WITH = "startsWith"
    MATCHES = "matches"
    """As CONTAINS or EQ, with the wildcards of a person."""
    FROM = "from"
    TO = "to"
    IS_NULL = "isNull"


@dataclass(frozen=True, slots=True)
class Compare:
    """One predicate."""

    column: str
    op: Op
    value: object


@dataclass(frozen=True, slots=True)
class AllOf:
    """All parts hold; none: everything."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One part holds; none: nothing."""

    parts: tuple[Filter, ...]


Filter = Compare | AllOf | AnyOf

EVERYTHING = AllOf(())


@dataclass(frozen=True, slots=True)
class Column:
    """What a name of a filter stands for. ``within`` wraps the comparison, as an EXISTS does."""

    sql: str
    cast: str = "text"
    within: str = "{}"
    search: str | None = None
    """The column with its search text: contains and its kin look there, for what is asked folded in the same way."""
    is_name: bool = False
    """Whether ``search`` is made by ``name_text``: words are looked for in any order."""
    is_uid: bool = False
    """Whether it is compared as it stands, so that an index serves its beginning, too."""
    study: str | None = None
    """The alias of the row whose search text holds the words of this column, too, in most lists the study's: an index
    finds the few rows to look at closely."""
    words: str = "study_words"
    """SQLite's index of those search texts."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order that has an index; the last key is unique, none is ever null. All keys run in one direction."""

    name: str
    keys: tuple[tuple[str, str], ...]
    """(SQL, cast) of each."""
    descending: bool = True
    where: str = ""
    """The rows that have a place in it, where not all do."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A list: what is selected, from where, always only where, what can be asked of it, and whose its rows are."""

    select: str
    table: str
    columns: Mapping[str, Column]
    belongs: tuple[Belongs, ...]
    """By any one of these a row is a caller's; none: everybody's who may ask for the list."""
    where: str = "TRUE"


_PLAIN = re.compile(r"\w+\.\w+ AS (\w+)")


@lru_cache(maxsize=256)
def narrowed(source: Source, names: tuple[str, ...]) -> Source:
    """Return a list with these columns alone, in this order, where its columns are plain ones.

    Raises ValueError for others: what stands between commas need not be a column then.
    """
    pieces = {}
    for piece in source.select.split(", "):
        named = _PLAIN.fullmatch(piece)
        if named is None:
            raise ValueError(f"only lists of plain columns can be narrowed, this one has: {piece}")
        pieces[named[1]] = piece
    return replace(source, select=", ".join(pieces[name] for name in names))


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which rows: filter, order, how many, after which key values."""

    order: Order
    first: int
    where: Filter = EVERYTHING
    after: tuple[object, ...] | None = None
    backward: bool = False
    """The page that ends before ``after``, or is the last one; its rows stand in the same order."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows with their key values (for cursors), and whether more follow; of one read backward, whether more precede."""

    rows: tuple[dict[str, object], ...]
    keys: tuple[tuple[object, ...], ...]
    has_next: bool


async def read_page(db: Database, source: Source, query: PageQuery, scope: Scope) -> Page:
    """Return one page of what ``scope`` may see."""
    sql, values = page_statement(db.dialect, source, query, scope)
    rows = await db.fetch(sql, *values)
    shown = rows[: query.first]
    if query.backward:
        shown = shown[::-1]
    keys = tuple(tuple(row[f"key_{n}"] for n in range(len(query.order.keys))) for row in shown)
    return Page(tuple(shown), keys, len(rows) > query.first)


async def read_tuples(
    db: Database, source: Source, query: PageQuery, scope: Scope, *, with_keys: bool
) -> tuple[Sequence[Sequence[Any]], bool]:
    """Return one page of what ``scope`` may see as values in the order of the columns, and whether more follow.

    With keys: behind them come the key values. As `read_page`, for whoever has no need of names.
    """
    sql, values = page_statement(db.dialect, source, query, scope, with_keys=with_keys)
    rows = await db.fetch_tuples(sql, *values)
    shown = rows[: query.first]
    return shown[::-1] if query.backward else shown, len(rows) > query.first


def page_statement(
    dialect: str, source: Source, query: PageQuery, scope: Scope, *, with_keys: bool = True
) -> tuple[str, list[object]]:
    """Return the statement that reads a page, and one row more, with its arguments."""
    arguments = Arguments(dialect=dialect)
    conditions = [
        f"({source.where})",
        scope.condition(source.belongs, arguments, is_page=True),
        sql_of(query.where, source.columns, arguments),
    ]
    direction, sign = ("DESC", "<") if query.order.descending is not query.backward else ("ASC", ">")
    keys = query.order.keys
    if query.order.where:
        conditions.append(query.order.where)
    if query.after is not None:
        places = [arguments.add(v, cast) for v, (_, cast) in zip(query.after, keys, strict=True)]
        conditions.append(f"({', '.join(k for k, _ in keys)}) {sign} ({', '.join(places)})")
    named = "".join(f", {sql} AS key_{n}" for n, (sql, _) in enumerate(keys)) if with_keys else ""
    ordered = ", ".join(f"{sql} {direction}" for sql, _ in keys)
    sql = (
        f"SELECT {source.select}{named} FROM {source.table} WHERE {' AND '.join(conditions)} "
        f"ORDER BY {ordered} LIMIT {arguments.add(query.first + 1, 'bigint')}"
    )
    return sql, arguments.values


async def count(db: Database, source: Source, where: Filter, scope: Scope) -> tuple[int, bool]:
    """Return how many rows ``scope`` may see, at most COUNT_CAP, and whether that is exact."""
    arguments = Arguments(dialect=db.dialect)
    own = scope.condition(source.belongs, arguments)
    condition = f"{own} AND {sql_of(where, source.columns, arguments)}"
    found = await db.fetch_value(
        f"SELECT count(*) FROM (SELECT 1 AS one FROM {source.table} WHERE ({source.where}) AND {condition} "
        f"LIMIT {COUNT_CAP + 1}) AS counted",
        *arguments.values,
    )
    return min(int(found), COUNT_CAP), int(found) <= COUNT_CAP


async def read_by(
    db: Database, source: Source, column: str, values: Sequence[object], scope: Scope
) -> list[dict[str, object]]:
    """Return all rows whose ``column`` is one of ``values`` and which ``scope`` may see, in no order."""
    return await read_where(db, source, Compare(column, Op.IN, list(values)), scope)


async def read_where(db: Database, source: Source, where: Filter, scope: Scope) -> list[dict[str, object]]:
    """Return all rows that ``where`` finds and ``scope`` may see, in no order: of a list that is short, or by keys."""
    arguments = Arguments(dialect=db.dialect)
    own = scope.condition(source.belongs, arguments)
    condition = sql_of(where, source.columns, arguments)
    return await db.fetch(
        f"SELECT {source.select} FROM {source.table} WHERE ({source.where}) AND {own} AND {condition}",
        *arguments.values,
    )


def sql_of(where: Filter, columns: Mapping[str, Column], arguments: Arguments) -> str:
    """Return ``where`` as SQL. Raises InvalidInput for a column that the list does not have."""
    if isinstance(where, AllOf):
        return _joined(where.parts, columns, arguments, " AND ", "TRUE")
    if isinstance(where, AnyOf):
        return _joined(where.parts, columns, arguments, " OR ", "FALSE")
    column = columns.get(where.column)
    if column is None:
        raise InvalidInput(
            f"this list cannot be filtered by {where.column}: use one of {', '.join(sorted(columns))}"
        )
    return column.within.format(_comparison(where, column, arguments))


def _joined(
    parts: Sequence[Filter], columns: Mapping[str, Column], arguments: Arguments, word: str, empty: str
) -> str:
    return "(" + word.join(sql_of(p, columns, arguments) for p in parts) + ")" if parts else empty


def _comparison(compare: Compare, column: Column, arguments: Arguments) -> str:
    sql, value, op = column.sql, compare.value, compare.op
    if column.is_uid:
        sql += SORTED
        if op is Op.STARTS_WITH:
            ends = arguments.add(value), arguments.add(f"{value}{LAST_CHARACTER}")
            return f"({sql} >= {ends[0]} AND {sql} < {ends[1]})"
    if op in (Op.CONTAINS, Op.STARTS_WITH, Op.MATCHES):
        return _found(op, str(value), column, arguments)
    if op is Op.IN:
        return f"{sql} = ANY({arguments.add(value, column.cast + '[]')})"
    if op is Op.IS_NULL:
        absent = f"({sql} IS NULL OR {sql} = '')" if column.cast == "text" else f"({sql} IS NULL)"
        return absent if value else f"(NOT {absent})"
    if op is Op.EQ:
        return f"{sql} = {arguments.add(value, column.cast)}"
    return f"{column.sql}{_sorted(column)} {_SIGNS[op]} {arguments.add(value, column.cast)}"


LAST_CHARACTER = "\U0010ffff"
_SIGNS = {Op.FROM: ">=", Op.TO: "<="}
SHORTEST_INDEXED = 3
"""Both databases index texts by three characters."""


def _sorted(column: Column) -> str:
    return SORTED if column.cast == "text" else ""


def _found(op: Op, value: str, column: Column, arguments: Arguments) -> str:
    """Return where ``value`` is found in a text, and what narrows that down by an index."""
    # SQLite knows no case but ASCII's, so nor may PostgreSQL where no search text was made.
    looked = column.search or f"lower({column.sql}{SORTED})"
    wanted = "{}" if column.search else f"lower({{}}{SORTED})"
    conditions = []
    for needle in _needles(op, value, column):
        fits = (f"{looked} LIKE {wanted.format(arguments.add(p))} ESCAPE '\\'" for p in needle.patterns)
        conditions += [f"({' OR '.join(fits)})", *_narrowed(needle, column, arguments)]
    return f"({' AND '.join(conditions)})" if conditions else "TRUE"


def _needles(op: Op, value: str, column: Column) -> tuple[Needle, ...]:
    if column.is_name:
        if op is Op.STARTS_WITH:
            return (text_patterns.name_beginning(value),)
        return text_patterns.name_words(value, wild=op is Op.MATCHES)
    if column.search:
        return (text_patterns.word(value) if op is Op.MATCHES else text_patterns.phrase(value),)
    plain = {
        Op.CONTAINS: text_patterns.contained,
        Op.STARTS_WITH: text_patterns.beginning,
        Op.MATCHES: text_patterns.whole,
    }
    return (plain[op](value),)


def _narrowed(needle: Needle, column: Column, arguments: Arguments) -> list[str]:
    """Return what an index of the study's search text can tell beforehand."""
    pieces = [p for p in needle.pieces if len(p) >= SHORTEST_INDEXED]
    if column.study is None or not pieces:
        return []
    if arguments.dialect == "sqlite":
        words = " ".join('"' + piece.replace('"', '""') + '"' for piece in pieces)
        return [
            f"{column.study}.id IN (SELECT rowid FROM {column.words} WHERE {column.words} MATCH "
            f"{arguments.add(words)})"
        ]
    if column.search == f"{column.study}.search_text":
        return []  # the index serves the comparison itself
    found = [p for piece in pieces for p in text_patterns.contained(piece).patterns]
    return [f"{column.study}.search_text LIKE {arguments.add(p)} ESCAPE '\\'" for p in found]
