"""Dashboard: how many are where, trouble first; what is unfinished and has no queue row yet is counted too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import strawberry

from aegate_core.database import as_int
from aegate_core.stores.index.list_resources import (
    entity_conditions,
    open_counts,
    spooled,
    unclosed_units,
)
from aegate_core.stores.listing import EVERYTHING, Order, PageQuery, read_page
from aegate_core.stores.queue import rollup
from aegate_core.stores.queue.list_items import DESTINATIONS, failed, unfinished
from aegate_graphql_api.context import Context, Info, moment, utc
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.categories import (
    LATELY,
    Category,
    categories,
    counts_of,
    midnight,
    oldest_of,
    sent_lately,
)
from aegate_graphql_api.schema.delivery_states import StateCount
from aegate_graphql_api.schema.enums import in_words
from aegate_graphql_api.schema.resources import conditions_of

LONGEST_LOOK_BACK = timedelta(days=7)


@in_words(
    "What is wrong, the gravest first.",
    DESTINATION_DOWN="An AE does not take what we send; it is asked again and again by itself.",
    FAILED_ITEMS="Queue items were given up: look at their images, then retry or cancel them.",
    NO_ROUTE="Something is complete and no route wants it, so it goes nowhere.",
    ENTITY_NOT_READY="An AE is not as it is configured, such as without a listener.",
    QUARANTINED="Received objects could not be parsed; they are kept.",
    CONFLICTS="Received objects do not fit to what was here, and nobody decided about them.",
    DESTINATION_HELD="A person holds all that goes to an AE.",
    DESTINATION_GONE="An AE was removed, and items wait for it; count says how many.",
)
class TroubleKind(StrEnum):
    """Kinds of trouble, in the order they are shown."""

    DESTINATION_DOWN = "DESTINATION_DOWN"
    FAILED_ITEMS = "FAILED_ITEMS"
    NO_ROUTE = "NO_ROUTE"
    ENTITY_NOT_READY = "ENTITY_NOT_READY"
    QUARANTINED = "QUARANTINED"
    CONFLICTS = "CONFLICTS"
    DESTINATION_HELD = "DESTINATION_HELD"
    DESTINATION_GONE = "DESTINATION_GONE"


@strawberry.type(description="Something a person should look at.", directives=[QUEUE])
class Trouble:
    """A trouble."""

    kind: TroubleKind = strawberry.field(description="What kind of trouble.")
    ae: str | None = strawberry.field(
        description="namespace/name of the AE that it is about; null: it is about several."
    )
    count: int = strawberry.field(description="How many things it is about, such as 3 failed items.")
    text: str = strawberry.field(description="What is wrong, in a sentence for people.")
    since: datetime | None = strawberry.field(description="Since when; null: not known.")


@strawberry.type(description="What an AE sent that is not through yet.", directives=[QUEUE])
class Arriving:
    """Work that no queue row shows."""

    source_ae: str = strawberry.field(
        description="namespace/name of the AE that sent it, such as default/ct1."
    )
    unindexed: int = strawberry.field(description="Acknowledged objects that are not indexed yet.")
    unclosed_units: int = strawberry.field(description="Studies or series that are not complete yet.")
    oldest: datetime | None = strawberry.field(description="When the oldest of it came.")


@strawberry.type(
    description="Counts by state and by AE, location, route and patient partition; trouble first.",
    directives=[QUEUE],
)
class Dashboard:
    """The dashboard."""

    trouble: list[Trouble] = strawberry.field(description="What a person should look at, the gravest first.")
    counts: list[StateCount] = strawberry.field(description="Unfinished items, and those finished since.")
    by_destination: list[Category] = strawberry.field(description="By the AE that items go to.")
    by_source: list[Category] = strawberry.field(description="By the AE that the images came from.")
    by_location: list[Category] = strawberry.field(description="By location; what has none is left out.")
    by_route: list[Category] = strawberry.field(
        description="By the route that asked for it; what a person asked for is left out."
    )
    by_partition: list[Category] = strawberry.field(description="By patient partition.")
    sent_last_hour: int = strawberry.field(
        description="Throughput: items that were sent completely within the last hour, such as 120."
    )
    arriving: list[Arriving] = strawberry.field(description="By AE, what no queue row shows yet.")
    unclosed_units: int = strawberry.field(description="Studies or series that are not complete yet.")
    unindexed: int = strawberry.field(description="Acknowledged objects that are not indexed yet.")
    no_route: int = strawberry.field(description="Units whose last close no route matched.")
    open_conflicts: int = strawberry.field(description="Conflicts that nobody resolved.")
    quarantined: int = strawberry.field(description="Objects that could not be parsed, kept.")
    failed: int = strawberry.field(
        description="All FAILED items, whenever they failed; 10,001 stands for more."
    )
    oldest: datetime | None = strawberry.field(description="When the oldest unfinished item was made.")
    finished_since: datetime = strawberry.field(
        description="Since when finished items are counted: a quarter of an hour begins there."
    )


FinishedSince = Annotated[
    datetime | None,
    strawberry.argument(
        description="Count what was finished since then, at most 7 days back; instead of timeZone's midnight."
    ),
]
TimeZone = Annotated[
    str,
    strawberry.argument(
        description='IANA name of the zone whose day "today" is, such as "Europe/Berlin": finished items are '
        "counted since its midnight."
    ),
]


async def dashboard(
    info: Info, finished_since: FinishedSince = None, time_zone: TimeZone = "UTC"
) -> Dashboard:
    """Count. Finished items are counted since ``finishedSince``, or since midnight in ``timeZone``."""
    context = info.context
    since = _since(finished_since, midnight(time_zone, context.now), context.now)
    rows: list[Mapping[str, Any]] = [*await unfinished(context.db, context.scope)]
    waiting: Counter[str] = Counter()
    for row in rows:
        waiting[str(row["destination"])] += as_int(row["n"])
    rows += await rollup.finished(context.db, since, context.now - LATELY, context.scope)
    open_ = await open_counts(context.db, context.scope)
    failures = await failed(context.db, context.scope)
    arriving = await _arriving(context)
    by_route = [r for r in rows if str(r["requested_by"]).startswith("route:")]
    return Dashboard(
        trouble=await _trouble(context, open_, failures, waiting),
        counts=counts_of(rows),
        by_destination=categories(rows, "destination", "destination"),
        by_source=categories(rows, "source_ae", "sourceAe"),
        by_location=categories(rows, "location_code", "locationCode"),
        by_route=categories(by_route, "requested_by", "requestedBy"),
        by_partition=categories(rows, "partition", "partition"),
        sent_last_hour=sent_lately(rows),
        arriving=arriving,
        unclosed_units=sum(a.unclosed_units for a in arriving),
        unindexed=sum(a.unindexed for a in arriving),
        no_route=open_["no_route"],
        open_conflicts=open_["conflicts"],
        quarantined=open_["quarantined"],
        failed=failures,
        oldest=oldest_of(rows),
        finished_since=since,
    )


def _since(asked: datetime | None, day: datetime, now: datetime) -> datetime:
    since = day if asked is None else utc(asked)
    if since is None or now - since > LONGEST_LOOK_BACK:
        raise RequestRefused(
            "INVALID_VALUE", "finishedSince must be a time with zone, at most 7 days back: move it"
        )
    return rollup.quarter_of(since)


async def _arriving(context: Context) -> list[Arriving]:
    found: dict[str, Arriving] = {}
    for row in await spooled(context.db, context.scope):
        ae = str(row["ae"])
        found[ae] = Arriving(
            source_ae=ae, unindexed=as_int(row["n"]), unclosed_units=0, oldest=moment(row["oldest"])
        )
    for row in await unclosed_units(context.db, context.scope):
        ae = str(row["ae"])
        one = found.setdefault(ae, Arriving(source_ae=ae, unindexed=0, unclosed_units=0, oldest=None))
        one.unclosed_units = as_int(row["n"])
        times = [t for t in (one.oldest, moment(row["oldest"])) if t is not None]
        one.oldest = min(times, default=None)
    return [found[ae] for ae in sorted(found)]


async def _trouble(
    context: Context, open_: Mapping[str, int], failures: int, waiting: Mapping[str, int]
) -> list[Trouble]:
    destinations = await _destinations(context)
    found = [t for row in destinations if (t := _destination_trouble(row, waiting.get(str(row["ae"]), 0)))]
    for kind, count, text in (
        (TroubleKind.FAILED_ITEMS, failures, "items failed: look at their instances, then retry or cancel"),
        (
            TroubleKind.NO_ROUTE,
            open_["no_route"],
            "complete units that no route matched: see closeUnits(outcome: NO_ROUTE), correct a route, then reroute",
        ),
        (TroubleKind.QUARANTINED, open_["quarantined"], "received objects that could not be parsed"),
        (TroubleKind.CONFLICTS, open_["conflicts"], "conflicts that nobody resolved"),
    ):
        if count:
            found.append(Trouble(kind=kind, ae=None, count=count, text=f"{count} {text}", since=None))
    for row in await entity_conditions(context.db, context.scope):
        ready = next((c for c in conditions_of(row["conditions"]) if c.type == "Ready"), None)
        if ready is not None and ready.status == "False" and ready.reason not in ("Disabled", "Suspended"):
            text = f"not ready: {ready.reason}"
            since = ready.last_transition_time
            found.append(
                Trouble(kind=TroubleKind.ENTITY_NOT_READY, ae=str(row["ae"]), count=1, text=text, since=since)
            )
    order = list(TroubleKind)
    return sorted(found, key=lambda t: (order.index(t.kind), t.ae or ""))


async def _destinations(context: Context) -> tuple[dict[str, object], ...]:
    order = Order("ID", (("d.id", "bigint"),), descending=False)
    query = PageQuery(order, 10_000, EVERYTHING)
    return (await read_page(context.db, DESTINATIONS, query, context.scope)).rows


def _destination_trouble(row: Mapping[str, Any], waiting: int) -> Trouble | None:
    ae = str(row["ae"])
    if row["breaker"] != "CLOSED" and row["gone_at"] is None:
        text = f"{row['breaker']}: {row['last_error'] or 'no answer'}"
        since = moment(row["breaker_since"])
        return Trouble(kind=TroubleKind.DESTINATION_DOWN, ae=ae, count=1, text=text, since=since)
    if row["gone_at"] is not None:
        if not waiting:
            return None
        text = (
            f"removed, and items wait for it ({waiting}): declare the ApplicationEntity again, or cancel them"
        )
        return Trouble(
            kind=TroubleKind.DESTINATION_GONE, ae=ae, count=waiting, text=text, since=moment(row["gone_at"])
        )
    if row["held_at"] is not None:
        text = f"held by {row['held_by']}" + (f": {row['hold_reason']}" if row["hold_reason"] else "")
        return Trouble(
            kind=TroubleKind.DESTINATION_HELD, ae=ae, count=1, text=text, since=moment(row["held_at"])
        )
    return None
