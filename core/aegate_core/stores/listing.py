"""Lists of rows: filters as values turned into SQL, and pages by keyset.

Pages go by ``(sort columns, id) < (…)``: OFFSET reads what it skips. Only orders that have an index are offered.
The same text runs on both databases; whatever a caller gives becomes an argument, never SQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from aegate_core.database import Database
from aegate_core.dicom.text import search_text
from aegate_core.errors import InvalidInput
from aegate_core.stores.scope import Arguments, Belongs, Scope

COUNT_CAP = 10_000
"""Counting stops here: the first page of ten million rows must not read them all."""


class Op(StrEnum):
    """How a column is compared."""

    EQ = "eq"
    IN = "in"
    CONTAINS = "contains"
    STARTS_WITH = "startsWith"
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
    """The column with its search text: contains and startsWith look there, for what is asked folded in the same way."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order that has an index; the last key is unique. All keys run in one direction."""

    name: str
    keys: tuple[tuple[str, str], ...]
    """(SQL, cast) of each."""
    descending: bool = True


@dataclass(frozen=True, slots=True)
class Source:
    """A list: what is selected, from where, always only where, what can be asked of it, and whose its rows are."""

    select: str
    table: str
    columns: Mapping[str, Column]
    belongs: tuple[Belongs, ...]
    """By any one of these a row is a caller's; none: everybody's who may ask for the list."""
    where: str = "TRUE"


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which rows: filter, order, how many, after which key values."""

    order: Order
    first: int
    where: Filter = EVERYTHING
    after: tuple[object, ...] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Rows with their key values (for cursors), and whether more follow."""

    rows: tuple[dict[str, object], ...]
    keys: tuple[tuple[object, ...], ...]
    has_next: bool


async def read_page(db: Database, source: Source, query: PageQuery, scope: Scope) -> Page:
    """Return one page of what ``scope`` may see."""
    arguments = Arguments()
    conditions = [
        f"({source.where})",
        scope.condition(source.belongs, arguments, is_page=True),
        sql_of(query.where, source.columns, arguments),
    ]
    direction, sign = ("DESC", "<") if query.order.descending else ("ASC", ">")
    keys = query.order.keys
    if query.after is not None:
        places = [arguments.add(v, cast) for v, (_, cast) in zip(query.after, keys, strict=True)]
        conditions.append(f"({', '.join(k for k, _ in keys)}) {sign} ({', '.join(places)})")
    named = ", ".join(f"{sql} AS key_{n}" for n, (sql, _) in enumerate(keys))
    ordered = ", ".join(f"{sql} {direction}" for sql, _ in keys)
    rows = await db.fetch(
        f"SELECT {source.select}, {named} FROM {source.table} WHERE {' AND '.join(conditions)} "
        f"ORDER BY {ordered} LIMIT {arguments.add(query.first + 1, 'bigint')}",
        *arguments.values,
    )
    shown = rows[: query.first]
    values = tuple(tuple(row[f"key_{n}"] for n in range(len(keys))) for row in shown)
    return Page(tuple(shown), values, len(rows) > query.first)


async def count(db: Database, source: Source, where: Filter, scope: Scope) -> tuple[int, bool]:
    """Return how many rows ``scope`` may see, at most COUNT_CAP, and whether that is exact."""
    arguments = Arguments()
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
    arguments = Arguments()
    own = scope.condition(source.belongs, arguments)
    condition = sql_of(Compare(column, Op.IN, list(values)), source.columns, arguments)
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
    if op is Op.IN:
        return f"{sql} = ANY({arguments.add(value, column.cast + '[]')})"
    if op is Op.IS_NULL:
        absent = f"({sql} IS NULL OR {sql} = '')" if column.cast == "text" else f"({sql} IS NULL)"
        return absent if value else f"(NOT {absent})"
    if op in (Op.CONTAINS, Op.STARTS_WITH):
        return _like(compare, column, arguments)
    sign = {Op.EQ: "=", Op.FROM: ">=", Op.TO: "<="}[op]
    return f"{sql} {sign} {arguments.add(value, column.cast)}"


def _like(compare: Compare, column: Column, arguments: Arguments) -> str:
    wanted = search_text(str(compare.value)) if column.search else str(compare.value)
    pattern = "".join(f"\\{c}" if c in "\\%_" else c for c in wanted) + "%"
    if compare.op is Op.CONTAINS:
        pattern = "%" + pattern
    place = arguments.add(pattern)
    if column.search:
        return f"{column.search} LIKE {place} ESCAPE '\\'"
    # Both sides by the database: SQLite knows no case but ASCII's, so what Python lowers it would never find.
    return f"lower({column.sql}) LIKE lower({place}) ESCAPE '\\'"
