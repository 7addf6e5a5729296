"""Dashboard: how many are where, trouble first; what is unfinished and has no queue row yet is counted too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import strawberry

from aegate_core.database import as_datetime, as_int
from aegate_core.stores.index.list_resources import (
    entity_conditions,
    open_counts,
    spooled,
    unclosed_units,
)
from aegate_core.stores.listing import EVERYTHING, Order, PageQuery, read_page
from aegate_core.stores.queue.list_items import DESTINATIONS, failed, grouped
from aegate_graphql_api.context import Context, Info, moment, utc
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.destination import StateCount
from aegate_graphql_api.schema.queue_item import DeliveryState
from aegate_graphql_api.schema.resources import conditions_of

LONGEST_LOOK_BACK = timedelta(days=7)


@strawberry.enum(description="What is wrong, the gravest first.")
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

    kind: TroubleKind
    ae: str | None
    count: int
    text: str
    since: datetime | None


@strawberry.type(description="Counts of one AE, location or route.", directives=[QUEUE])
class Category:
    """A category of the dashboard."""

    name: str
    counts: list[StateCount]
    oldest: datetime | None = strawberry.field(description="When its oldest unfinished item was made.")


@strawberry.type(description="What an AE sent that is not through yet.", directives=[QUEUE])
class Arriving:
    """Work that no queue row shows."""

    source_ae: str
    unindexed: int = strawberry.field(description="Acknowledged objects that are not indexed yet.")
    unclosed_units: int = strawberry.field(description="Studies or series that are not complete yet.")
    oldest: datetime | None


@strawberry.type(
    description="Counts by state and by AE, location and route; trouble first.", directives=[QUEUE]
)
class Dashboard:
    """The dashboard."""

    trouble: list[Trouble]
    counts: list[StateCount] = strawberry.field(description="Unfinished items, and those finished since.")
    by_destination: list[Category]
    by_source: list[Category]
    by_location: list[Category]
    by_route: list[Category]
    arriving: list[Arriving]
    unclosed_units: int
    unindexed: int
    no_route: int = strawberry.field(description="Units whose last close no route matched.")
    open_conflicts: int
    quarantined: int
    failed: int = strawberry.field(
        description="All FAILED items, whenever they failed; 10,001 stands for more."
    )
    oldest: datetime | None
    finished_since: datetime


async def dashboard(info: Info, finished_since: datetime | None = None) -> Dashboard:
    """Count. Finished items are counted since ``finishedSince``: midnight UTC when left out, at most 7 days back."""
    context = info.context
    since = utc(finished_since or context.now.replace(hour=0, minute=0, second=0, microsecond=0))
    if since is None or context.now - since > LONGEST_LOOK_BACK:
        raise RequestRefused(
            "INVALID_VALUE", "finishedSince must be a time with zone, at most 7 days back: move it"
        )
    rows = await grouped(context.db, since, context.scope)
    open_ = await open_counts(context.db, context.scope)
    failures = await failed(context.db, context.scope)
    arriving = await _arriving(context)
    return Dashboard(
        trouble=await _trouble(context, open_, failures),
        counts=_counts(rows),
        by_destination=_categories(rows, "destination"),
        by_source=_categories(rows, "source_ae"),
        by_location=_categories(rows, "location_code"),
        by_route=_categories(
            [r for r in rows if str(r["requested_by"]).startswith("route:")], "requested_by"
        ),
        arriving=arriving,
        unclosed_units=sum(a.unclosed_units for a in arriving),
        unindexed=sum(a.unindexed for a in arriving),
        no_route=open_["no_route"],
        open_conflicts=open_["conflicts"],
        quarantined=open_["quarantined"],
        failed=failures,
        oldest=_oldest(rows),
        finished_since=since,
    )


_UNFINISHED = ("SCHEDULED", "IN_PROGRESS", "RETRY", "HELD")


def _counts(rows: Iterable[Mapping[str, Any]]) -> list[StateCount]:
    totals: Counter[str] = Counter()
    for row in rows:
        totals[row["state"]] += int(row["n"])
    return [
        StateCount(state=state, count=totals[state.value]) for state in DeliveryState if totals[state.value]
    ]


def _oldest(rows: Iterable[Mapping[str, Any]]) -> datetime | None:
    return min((as_datetime(r["oldest"]) for r in rows if r["state"] in _UNFINISHED), default=None)


def _categories(rows: Iterable[Mapping[str, Any]], column: str) -> list[Category]:
    grouped_rows: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row[column] is not None:
            grouped_rows.setdefault(str(row[column]).removeprefix("route:"), []).append(row)
    return [
        Category(name=name, counts=_counts(own), oldest=_oldest(own))
        for name, own in sorted(grouped_rows.items())
    ]


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


async def _trouble(context: Context, open_: Mapping[str, int], failures: int) -> list[Trouble]:
    found = [t for row in await _destinations(context) if (t := _destination_trouble(row))]
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


def _destination_trouble(row: Mapping[str, Any]) -> Trouble | None:
    ae = str(row["ae"])
    if row["breaker"] != "CLOSED" and row["gone_at"] is None:
        text = f"{row['breaker']}: {row['last_error'] or 'no answer'}"
        since = moment(row["breaker_since"])
        return Trouble(kind=TroubleKind.DESTINATION_DOWN, ae=ae, count=1, text=text, since=since)
    if row["held_at"] is not None:
        text = f"held by {row['held_by']}" + (f": {row['hold_reason']}" if row["hold_reason"] else "")
        return Trouble(
            kind=TroubleKind.DESTINATION_HELD, ae=ae, count=1, text=text, since=moment(row["held_at"])
        )
    if row["gone_at"] is not None:
        text = "there is no such ApplicationEntity any more; what waits for it is kept"
        return Trouble(
            kind=TroubleKind.DESTINATION_GONE, ae=ae, count=1, text=text, since=moment(row["gone_at"])
        )
    return None
