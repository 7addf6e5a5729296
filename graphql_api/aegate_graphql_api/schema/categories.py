"""Categories of the dashboard: counts of the queue by AE, location, route and partition; and when a day begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import strawberry

from aegate_core.database import as_datetime, as_int
from aegate_graphql_api.context import utc
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.delivery_states import DeliveryState, StateCount
from aegate_graphql_api.schema.scalars import JSON

Row = Mapping[str, Any]
LATELY = timedelta(hours=1)
LONGEST_ZONE = 64
GOOD = (DeliveryState.COMPLETED, DeliveryState.WARNING)
BAD = (DeliveryState.FAILED, DeliveryState.HELD, DeliveryState.RETRY)


@strawberry.type(description="Counts of one AE, location, route or patient partition.", directives=[QUEUE])
class Category:
    """A category of the dashboard."""

    name: str = strawberry.field(
        description="Its name: namespace/name, or the code of a location, such as ER."
    )
    counts: list[StateCount] = strawberry.field(description="Unfinished items, and those finished since.")
    oldest: datetime | None = strawberry.field(description="When its oldest unfinished item was made.")
    sent_last_hour: int = strawberry.field(
        description="Items that were sent completely within the last hour, with or without warnings."
    )
    where: JSON = strawberry.field(
        description='The filter that queueItems takes to list its items: {"destination": {"eq": "default/pacs"}}. '
        "Add state, finishedAt or a search to narrow it."
    )


def counts_of(rows: Iterable[Row]) -> list[StateCount]:
    """Return the sums by state, in the order of the states."""
    totals: Counter[str] = Counter()
    for row in rows:
        totals[row["state"]] += as_int(row["n"])
    return [StateCount(state=s, count=totals[s.value]) for s in DeliveryState if totals[s.value] > 0]


def oldest_of(rows: Iterable[Row]) -> datetime | None:
    """Return when the oldest unfinished item was made."""
    return min((as_datetime(r["oldest"]) for r in rows if r.get("oldest") is not None), default=None)


def sent_lately(rows: Iterable[Row]) -> int:
    """Return how many were sent within the last hour."""
    return sum(as_int(r["lately"]) for r in rows if r.get("lately") is not None and r["state"] in GOOD)


def categories(rows: Sequence[Row], column: str, field: str) -> list[Category]:
    """Return a category for each value of ``column``, those with trouble first; ``field`` is what filters by it."""
    own: dict[str, list[Row]] = {}
    for row in rows:
        if row[column] is not None:
            own.setdefault(str(row[column]), []).append(row)
    found = [
        Category(
            name=value.removeprefix("route:"),
            counts=counts_of(of_it),
            oldest=oldest_of(of_it),
            sent_last_hour=sent_lately(of_it),
            where=cast("Any", {field: {"eq": value}}),
        )
        for value, of_it in own.items()
    ]
    return sorted((c for c in found if c.counts or c.sent_last_hour), key=_trouble_first)


def _trouble_first(category: Category) -> tuple[tuple[bool, ...], str]:
    states = {c.state for c in category.counts}
    return tuple(state not in states for state in BAD), category.name


def midnight(name: str, now: datetime) -> datetime:
    """Return when today began in a time zone. Raises RequestRefused for one that there is not."""
    try:
        if len(name) > LONGEST_ZONE or name != name.strip("/. "):
            raise ValueError("no name of a zone")
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise RequestRefused(
            "INVALID_VALUE", "timeZone must be an IANA name such as Europe/Berlin or UTC: correct it"
        ) from error
    today: date = now.astimezone(zone).date()
    began = utc(datetime.combine(today, time.min, tzinfo=zone))
    assert began is not None, "today is no day at the end of time"
    return began
