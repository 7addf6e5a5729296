"""Connections: pages by keyset cursors.

A cursor is opaque and versioned; it carries the key values of a row and a digest of the list, filter and order it was
given for. Another filter's cursor is refused: the page it would begin has no meaning.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, TypeVar

import strawberry

from aegate_core.database import as_datetime
from aegate_core.stores.listing import Filter, Order, PageQuery, Source, count, read_page
from aegate_graphql_api.context import Context, utc
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.limits import LONGEST_PAGE, UNPAGED_LIST
from aegate_graphql_api.permissions import ANYONE
from aegate_graphql_api.schema.enums import in_words

VERSION = 1
T = TypeVar("T")

First = Annotated[int, strawberry.argument(description="How many, 1 to 100.")]
After = Annotated[str | None, strawberry.argument(description="The endCursor of the page before.")]
Last = Annotated[
    int | None,
    strawberry.argument(
        description="How many from the end, 1 to 100, instead of first: the page that ends before the cursor before."
    ),
]
Before = Annotated[
    str | None, strawberry.argument(description="The startCursor of the page behind; goes with last.")
]
Search = Annotated[
    str | None,
    strawberry.argument(
        description="As typed into one box: each word must be somewhere in what is searched, part of a word is enough "
        "(3 characters at least); a field's name before a colon searches that field alone, as in location:ER."
    ),
]
Id = Annotated[strawberry.ID, strawberry.argument(description="Its id, from an answer of this API.")]
By = strawberry.argument(description="What the rows must fulfil; left out: all rows.")
Sort = strawberry.argument(description="In which order the rows come.")
Resolved = Annotated[
    bool | None,
    strawberry.argument(description="false: those nobody dealt with yet. true: the others. null: all."),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """Which page a caller asks for."""

    first: int
    after: str | None = None
    last: int | None = None
    before: str | None = None

    def check(self) -> None:
        """Raise RequestRefused for a page that cannot be."""
        if self.last is None:
            if self.before is not None:
                raise RequestRefused("INVALID_VALUE", "before goes with last: give both, or first and after")
            size, name = self.first, "first"
        else:
            if self.after is not None or self.first != DEFAULT_FIRST:
                raise RequestRefused(
                    "INVALID_VALUE", "first and after go without last: give last and before alone"
                )
            size, name = self.last, "last"
        if not 1 <= size <= LONGEST_PAGE:
            raise no_page(name, size)


def no_page(name: str, size: int) -> RequestRefused:
    """Return the refusal of a page of that size."""
    message = f"{name} must be 1 to {LONGEST_PAGE}, got {size}: ask page by page"
    return RequestRefused("INVALID_VALUE", message, limit=LONGEST_PAGE, used=size)


@in_words(
    "How far a count can be trusted.",
    EXACT="There are just as many.",
    AT_LEAST="There are as many and more: counting stopped.",
)
class Precision(StrEnum):
    """How far a count can be trusted."""

    EXACT = "EXACT"
    AT_LEAST = "AT_LEAST"


@strawberry.type(description="How many there are; counting stops at 10,000.", directives=[ANYONE])
class TotalCount:
    """A capped count."""

    value: int = strawberry.field(description="The number, at most 10,000.")
    precision: Precision = strawberry.field(
        description="EXACT, or AT_LEAST where there are more than value says."
    )


@strawberry.type(description="Where a page stands.", directives=[ANYONE])
class PageInfo:
    """Where a page stands."""

    has_next_page: bool = strawberry.field(
        description="true: there are more; ask again with endCursor as after."
    )
    has_previous_page: bool = strawberry.field(
        description="true: there are some before it; ask again with startCursor as before."
    )
    start_cursor: str | None = strawberry.field(
        description="The place of the page's first row; null: it has none."
    )
    end_cursor: str | None = strawberry.field(
        description="The place of the page's last row, for the next question's after; null: it has none."
    )


@strawberry.type(description="An item with its cursor.", directives=[ANYONE])
class Edge(Generic[T]):
    """An item with its cursor."""

    cursor: str = strawberry.field(
        description="The place of this row in the list: as after it gives what follows."
    )
    node: T = strawberry.field(description="The row itself.")


@strawberry.type(description="A page of a list.", directives=[ANYONE])
class Connection(Generic[T]):
    """A page of a list."""

    @strawberry.field(description="The rows of the page, each with its cursor.")
    def edges(self) -> list[Edge[T]]:
        """Give each row its cursor, only when asked."""
        return [Edge(cursor=c, node=n) for c, n in zip(self.cursors(), self.nodes, strict=True)]

    nodes: list[T] = strawberry.field(
        description="The rows of the page; use these unless you need a cursor for each."
    )
    page_info: PageInfo = strawberry.field(description="Whether there is more, and how to ask for it.")
    cursors: strawberry.Private[Callable[[], list[str]]]
    counter: strawberry.Private[Callable[[], Awaitable[tuple[int, bool]]]]
    is_plain: strawberry.Private[bool] = False
    """Whether the nodes are their answers already; see plain_rows."""

    @strawberry.field(description="How many the whole list has; costs a query of its own.")
    async def total_count(self) -> TotalCount:
        """Count, only when asked."""
        value, exact = await self.counter()
        return TotalCount(value=value, precision=Precision.EXACT if exact else Precision.AT_LEAST)


@dataclass(frozen=True, slots=True)
class Listing:
    """A list as a caller asks for it. ``asked`` is what the caller gave (search, filter): cursors hold for it alone."""

    name: str
    source: Source
    order: Order
    where: Filter
    asked: object = None


async def connection(
    context: Context, listing: Listing, make: Callable[[dict[str, Any]], T], *, page: Asked
) -> Connection[T]:
    """Return a page of what the caller may see. Raises RequestRefused for a page size or cursor that cannot be."""
    page.check()
    backward = page.last is not None
    cursor = page.before if backward else page.after
    wanted = context.wanted
    # To make a seal takes as long as to read ten rows.
    is_sealed = wanted is None or wanted.has_page_info or cursor is not None
    seal = _seal(listing) if is_sealed else ""
    query = PageQuery(
        order=listing.order,
        first=page.first if page.last is None else page.last,
        where=listing.where,
        after=decode_cursor(cursor, seal, listing.order) if cursor is not None else None,
        backward=backward,
    )
    nodes: list[T]
    if wanted is not None:
        nodes, keys, has_more = await wanted.read(context.db, listing.source, make, query, context.scope)
    else:
        found = await read_page(context.db, listing.source, query, context.scope)
        nodes, keys, has_more = [make(row) for row in found.rows], found.keys, found.has_next

    def cursor_of(keys: Sequence[object]) -> str:
        return _encode(keys, seal, listing.order)

    return Connection(
        nodes=nodes,
        page_info=PageInfo(
            has_next_page=cursor is not None if backward else has_more,
            has_previous_page=has_more if backward else cursor is not None,
            start_cursor=cursor_of(keys[0]) if keys else None,
            end_cursor=cursor_of(keys[-1]) if keys else None,
        ),
        cursors=lambda: [cursor_of(of_row) for of_row in keys],
        counter=lambda: count(context.db, listing.source, listing.where, context.scope),
        is_plain=wanted is not None,
    )


def decode_cursor(cursor: str, seal: str, order: Order) -> tuple[object, ...]:
    """Return the key values. Raises RequestRefused BAD_CURSOR or CURSOR_OF_ANOTHER_LIST."""
    try:
        version, sealed, values = json.loads(
            base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        )
        if version != VERSION or not isinstance(sealed, str) or len(values) != len(order.keys):
            raise ValueError("another form")
        keys = tuple(_value(v, cast) for v, (_, cast) in zip(values, order.keys, strict=True))
    except (ValueError, TypeError, UnicodeError, binascii.Error, RecursionError) as error:
        if _is_ours(cursor):
            raise _another_list() from error
        raise RequestRefused(
            "BAD_CURSOR", "after must be an endCursor or cursor that this API gave: begin again without it"
        ) from error
    if sealed != seal:
        raise _another_list()
    return keys


def _is_ours(cursor: str) -> bool:
    """Whether it has our form, whatever it was given for."""
    try:
        version, sealed, values = json.loads(base64.urlsafe_b64decode(cursor))
    except (ValueError, TypeError, RecursionError):
        return False
    return version == VERSION and isinstance(sealed, str) and len(sealed) == 16 and isinstance(values, list)


def _another_list() -> RequestRefused:
    return RequestRefused(
        "CURSOR_OF_ANOTHER_LIST",
        "this cursor was given for another list, filter or order: begin again without it, or ask as before",
    )


def _seal(listing: Listing) -> str:
    text = repr((listing.name, listing.order.name, listing.asked))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _encode(keys: Sequence[object], seal: str, order: Order) -> str:
    values = [
        as_datetime(k).isoformat() if cast == "timestamptz" else k
        for k, (_, cast) in zip(keys, order.keys, strict=True)
    ]
    return base64.urlsafe_b64encode(
        json.dumps([VERSION, seal, values], separators=(",", ":")).encode()
    ).decode()


def _value(value: object, cast: str) -> object:
    if cast == "timestamptz":
        moment = utc(datetime.fromisoformat(str(value)))
        if moment is not None:
            return moment
    if cast == "bigint" and type(value) is int and abs(value) < 2**63:
        return value
    if cast == "text" and isinstance(value, str) and b"\0" not in value.encode():  # no lone surrogates either
        return value
    raise ValueError("another type")


DEFAULT_FIRST = UNPAGED_LIST
