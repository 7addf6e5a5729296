"""Locations: the table of places that clinical staff keeps, named by AEs and routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import strawberry

from aegate_core.stores.index.list_resources import BY_CODE, LOCATIONS
from aegate_core.stores.listing import AllOf, Compare, Op
from aegate_graphql_api.connections import (
    DEFAULT_FIRST,
    After,
    Asked,
    Before,
    Connection,
    First,
    Last,
    Listing,
    connection,
)
from aegate_graphql_api.context import Info
from aegate_graphql_api.permissions import EITHER


@strawberry.type(description="A place, such as a room or a ward, known by a short code.", directives=[EITHER])
class Location:
    """A place."""

    code: str = strawberry.field(description="The code that AEs and routes name, such as ER.")
    display_name: str = strawberry.field(description="Its name for people, such as Emergency Room.")


async def locations(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
    info: Info,
    starts_with: Annotated[
        str | None, strawberry.argument(description="How the code begins, such as E; left out: all.")
    ] = None,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[Location]:
    """List locations by code."""
    where = AllOf((Compare("code", Op.STARTS_WITH, starts_with),) if starts_with else ())
    listing = Listing("locations", LOCATIONS, BY_CODE, where, starts_with)
    return await connection(info.context, listing, location_of, page=Asked(first, after, last, before))


def location_of(row: Mapping[str, Any]) -> Location:
    """Return a row of LOCATIONS as its type."""
    return Location(code=row["code"], display_name=row["display_name"])
