"""CloseUnit: what closes together and is then routed; why it is not complete yet, and what no route wanted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Optional, cast

import strawberry

from aegate_core.decisions.moving import NotMovingCode
from aegate_core.services.studies import OpenUnit, open_units_of
from aegate_core.stores.index.list_studies import UNIT_ORDER, UNITS
from aegate_core.stores.listing import AllOf, Compare, Op, read_by
from aegate_graphql_api.connections import (
    DEFAULT_FIRST,
    After,
    Asked,
    Before,
    By,
    Connection,
    First,
    Last,
    Listing,
    Search,
    connection,
)
from aegate_graphql_api.context import Context, Info, moment
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.enums import in_words
from aegate_graphql_api.schema.node import Node, global_id
from aegate_graphql_api.schema.of_study import OfStudyWhere, found_of_study
from aegate_graphql_api.search import OneOfFilter, TimeFilter

if TYPE_CHECKING:
    from aegate_graphql_api.schema.queue_item import WhyNotMoving
    from aegate_graphql_api.schema.study import Study


@in_words(
    "What came of a unit when it was complete.",
    ROUTED="It was put into the queue.",
    NO_ROUTE="No route wanted it: it is kept and goes nowhere. Correct a route, then reroute.",
    STORED="It stays here, as its AE's routeLevel None says, or nothing of it was new.",
)
class CloseOutcome(StrEnum):
    """Outcomes of a close."""

    ROUTED = "ROUTED"
    NO_ROUTE = "NO_ROUTE"
    STORED = "STORED"


@strawberry.type(
    description="What is complete together and then goes on to others: a study or one of its series, from one AE.",
    directives=[QUEUE],
)
class CloseUnit(Node):
    """A unit of closing."""

    key: strawberry.Private[int]
    study_key: strawberry.Private[int]
    series_instance_uid: str | None = strawberry.field(
        description="DICOM's own id of the series, such as 1.2.826.0.1.3680043.2; null: the unit is the whole study."
    )
    source_ae: str = strawberry.field(
        description="namespace/name of the AE that sent it, such as default/ct1."
    )
    due_at: datetime | None = strawberry.field(
        description="When it closes if nothing more arrives; null: nothing new."
    )
    closed_at: datetime | None = strawberry.field(
        description="When it was last complete and asked the routes; null: never yet."
    )
    outcome: CloseOutcome | None = strawberry.field(description="Of the last close.")
    closes: int = strawberry.field(description="How often it was complete, such as 2 when images came late.")

    @strawberry.field(description="Why it is not complete yet; null when nothing of it waits.")
    async def why_not_moving(
        self, info: Info
    ) -> Optional[Annotated[WhyNotMoving, strawberry.lazy("aegate_graphql_api.schema.queue_item")]]:  # noqa: UP045 - strawberry needs the name
        """Answer for all units of the answer at once."""
        from aegate_graphql_api.schema.queue_item import WhyNotMoving

        waiting = cast("Mapping[int, OpenUnit]", await info.context.loader(load_open).load(self.study_key))
        unit = waiting.get(self.key)
        if unit is None:
            return None
        return WhyNotMoving(
            code=NotMovingCode.WAITING_FOR_COMPLETE,
            text=unit.reason,
            next_step="it closes by itself; then it is routed",
            until=unit.due_at if unit.due_at > info.context.now else None,
        )

    @strawberry.field(description="The study that it is of.")
    async def study(
        self, info: Info
    ) -> Optional[Annotated[Study, strawberry.lazy("aegate_graphql_api.schema.study")]]:  # noqa: UP045 - strawberry needs the name
        """Load the studies of all units of the answer at once."""
        from aegate_graphql_api.schema.study import load_studies

        return cast("Study | None", await info.context.loader(load_studies).load(self.study_key))


@strawberry.input(description="All that is given must hold.")
class CloseUnitWhere(OfStudyWhere):
    """Filter of units."""

    outcome: OneOfFilter[CloseOutcome] | None = strawberry.field(
        default=None, description="What the last close made of it."
    )
    due_at: TimeFilter | None = strawberry.field(
        default=None, description="When it closes; null: nothing of it waits."
    )
    closed_at: TimeFilter | None = strawberry.field(default=None, description="When it closed last.")
    last_arrival_at: TimeFilter | None = strawberry.field(
        default=None, description="When an image of it came last."
    )
    all_of: Optional[list[CloseUnitWhere]] = strawberry.field(  # noqa: UP045 - strawberry resolves the name later
        default=None,
        name="AND",
        description="All of these must hold, too.",
    )
    any_of: Optional[list[CloseUnitWhere]] = strawberry.field(  # noqa: UP045 - as above
        default=None,
        name="OR",
        description="One of these must hold, too.",
    )


async def close_units(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
    info: Info,
    outcome: Annotated[
        CloseOutcome | None, strawberry.argument(description="Those of this outcome alone; left out: all.")
    ] = None,
    open: Annotated[
        bool | None,
        strawberry.argument(
            description="true: those of which something waits to be complete. false: the others. Left out: all."
        ),
    ] = None,
    search: Search = None,
    where: Annotated[CloseUnitWhere | None, By] = None,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[CloseUnit]:
    """List units, newest first."""
    parts = [await found_of_study(info.context, search, where)]
    if outcome is not None:
        parts.append(Compare("outcome", Op.EQ, outcome.value))
    if open is not None:
        parts.append(Compare("due_at", Op.IS_NULL, not open))
    asked = (outcome, open, search, where)
    listing = Listing("closeUnits", UNITS, UNIT_ORDER, AllOf(tuple(parts)), asked)
    return await connection(info.context, listing, unit_of, page=Asked(first, after, last, before))


async def load_open(context: Context, keys: list[int]) -> list[dict[int, OpenUnit]]:
    """Load what is still open of studies, by unit."""
    found: dict[int, dict[int, OpenUnit]] = defaultdict(dict)
    for unit in await open_units_of(context.db, keys, now=context.now):
        found[unit.study_id][unit.unit_id] = unit
    return [found[key] for key in keys]


async def load_units(context: Context, keys: list[int]) -> list[list[CloseUnit]]:
    """Load the close units of studies."""
    found: dict[int, list[CloseUnit]] = defaultdict(list)
    for row in sorted(
        await read_by(context.db, UNITS, "study", keys, context.scope), key=lambda r: int(str(r["id"]))
    ):
        found[int(str(row["study_key"]))].append(unit_of(row))
    return [found[key] for key in keys]


def unit_of(row: Mapping[str, Any]) -> CloseUnit:
    """Return a row of UNITS as its type."""
    return CloseUnit(
        id=global_id("CloseUnit", row["id"]),
        key=int(row["id"]),
        study_key=int(row["study_key"]),
        series_instance_uid=row["series_uid"] or None,
        source_ae=row["ae"],
        due_at=moment(row["due_at"]),
        closed_at=moment(row["closed_at"]),
        outcome=CloseOutcome(row["outcome"]) if row["outcome"] else None,
        closes=int(row["closes"]),
    )
