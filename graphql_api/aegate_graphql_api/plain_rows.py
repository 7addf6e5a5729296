"""Rows of the database as what is selected of them, without an object for each: a generated function a selection.

The surprise: times stay datetimes. Every one is in UTC, and orjson writes them as GraphQL's scalar would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Any

from graphql import GraphQLField, GraphQLNonNull, GraphQLObjectType, GraphQLOutputType, get_named_type

from aegate_core.database import Database, as_datetime
from aegate_core.stores.listing import PageQuery, Source, narrowed, read_page, read_tuples
from aegate_core.stores.scope import Scope
from aegate_graphql_api.context import moment
from aegate_graphql_api.plain_lists import AS_IT_IS, Plan, Unusual, definition_of, name_of, object_of, reader
from aegate_graphql_api.rows import Read, Rows

ReadRows = Callable[[Sequence[Sequence[Any]]], list[Any]]
Keys = Sequence[Sequence[object]]

_MOST_READERS = 256


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is selected of a page: of its rows attributes alone, and perhaps where it stands."""

    nodes: GraphQLOutputType
    plan: Plan
    has_page_info: bool

    async def read(
        self, db: Database, source: Source, make: Callable[[Any], Any], query: PageQuery, scope: Scope
    ) -> tuple[list[Any], Keys, bool]:
        """Return the rows of a page as their answers, the keys of the first and last one, and whether more follow.

        The keys only with `has_page_info`. Raises whatever it likes for a row that is unusual.
        """
        if not isinstance(make, Rows):
            found = await read_page(db, source, query, scope)
            answers = reader(self.nodes, self.plan)([make(row) for row in found.rows])
            return answers, found.keys, found.has_next
        columns, read = row_reader(make, object_of(get_named_type(self.nodes)), self.plan)
        rows, has_next = await read_tuples(
            db, narrowed(source, columns), query, scope, with_keys=self.has_page_info
        )
        keys: Keys = ()
        if self.has_page_info and rows:
            keys = [tuple(row)[len(columns) :] for row in (rows[0], rows[-1])]
        return read(rows), keys, has_next


@lru_cache(maxsize=_MOST_READERS)
def row_reader(rows: Rows[Any], kind: GraphQLObjectType, plan: Plan) -> tuple[tuple[str, ...], ReadRows]:
    """Return the columns that are read for ``plan``, and a function from their values, in this order, to answers.

    As in `plain_lists`: straight lines, made of numbers and of names in quotes alone.
    """
    if rows.kind is not definition_of(kind).origin:
        raise Unusual
    columns: dict[str, int] = {}
    bound: dict[str, Any] = {"UTC": UTC, "datetime": datetime}
    lines: list[str] = []
    members: list[str] = []
    for n, (response_name, name, below) in enumerate(plan):
        if name == "__typename":
            members.append(f"{response_name!r}: {kind.name!r}")
            continue
        field = kind.fields[name]
        read = rows.attributes[definition_of(field).python_name]
        if below is not None:
            raise Unusual
        place = columns.setdefault(read.column, len(columns))
        lines += _written(n, f"c{place}", field, read, bound)
        members.append(f"{response_name!r}: v{n}")
    if not columns:
        raise Unusual
    values = "".join(f"c{place}, " for place in range(len(columns)))
    written = [
        *("def read(rows):", "    found = []", f"    for {values}*_ in rows:"),
        *(f"        {line}" for line in lines),
        f"        found.append({{{', '.join(members)}}})",
        "    return found",
    ]
    exec("\n".join(written), bound)
    made: ReadRows = bound["read"]
    return tuple(columns), made


def _written(n: int, column: str, field: GraphQLField, read: Read, bound: dict[str, Any]) -> list[str]:
    """Return lines that make the answer of a column's value; what is usual is answered without a call."""
    through, leaf, kind = read.through, reader(field.type, None), name_of(field.type)
    bound[f"through{n}"], bound[f"leaf{n}"] = through, leaf
    absent = "" if isinstance(field.type, GraphQLNonNull) else f"v{n} is None or "
    if through is None:
        lines = [f"v{n} = {column}"]
    elif kind == "DateTime" and through in (as_datetime, moment):
        is_usual = f"{column}.__class__ is datetime and {column}.tzinfo is UTC"
        lines = [f"v{n} = {column}", f"if not ({absent}{is_usual}): v{n} = leaf{n}(through{n}(v{n}))"]
        return lines if through is moment or not absent else [f"v{n} = leaf{n}(through{n}({column}))"]
    elif isinstance(through, type) and issubclass(through, Enum):
        bound[f"names{n}"] = {member.value: leaf(member) for member in through}
        return [f"v{n} = names{n}.get({column}) or leaf{n}(through{n}({column}))"]
    else:
        lines = [f"v{n} = through{n}({column})"]
    is_leaf = AS_IT_IS.get(kind, "False").format(f"v{n}")
    return [*lines, f"if not ({absent}{is_leaf}): v{n} = leaf{n}(v{n})"]
