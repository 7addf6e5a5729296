"""Destination: an AE as a receiver, with its slots, its breaker, its hold and how much waits for it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Optional, cast

import strawberry

from aegate_core.database import as_datetime
from aegate_core.decisions.breaker import BreakerState
from aegate_core.stores.listing import AllOf, AnyOf, read_by
from aegate_core.stores.queue.list_items import DESTINATION_ORDER, DESTINATIONS, live_counts, slots_in_use
from aegate_graphql_api.connections import (
    DEFAULT_FIRST,
    After,
    Asked,
    Before,
    By,
    Connection,
    First,
    Id,
    Last,
    Listing,
    Search,
    connection,
)
from aegate_graphql_api.context import Context, Info, moment
from aegate_graphql_api.permissions import ENTITIES, QUEUE
from aegate_graphql_api.schema.delivery_states import DeliveryState, StateCount
from aegate_graphql_api.schema.enums import in_words
from aegate_graphql_api.schema.node import Node, global_id, key_of
from aegate_graphql_api.schema.resources import ApplicationEntity, load_entities
from aegate_graphql_api.search import OneOfFilter, TextFilter, TimeFilter, filter_of, terms

in_words(
    "Whether a destination takes what we send.",
    CLOSED="It goes.",
    OPEN="It is in trouble: nothing is sent, and it is asked again and again whether it answers (C-ECHO, a ping).",
    TRIAL="It answers again: one delivery may try, and when an image is stored, all others follow.",
    REJECTED_BY_PEER="It refuses to talk to us, such as for our AE title; it is asked again every five minutes.",
)(BreakerState)


@strawberry.type(
    description="A connection (association) to a destination that is open now.", directives=[QUEUE]
)
class Slot:
    """A slot in use."""

    n: int = strawberry.field(description="Its number, from 1 to the destination's maxConnections.")
    worker: str = strawberry.field(description="The worker process that sends in it; empty: not known.")
    expires_at: datetime = strawberry.field(description="When the lease ends unless the worker renews it.")


@strawberry.type(
    description="An Application Entity as a receiver of images: whether it takes them, and how much waits for it.",
    directives=[QUEUE],
)
class Destination(Node):
    """A destination."""

    key: strawberry.Private[int]
    ae: str = strawberry.field(description="namespace/name of the AE.")
    max_connections: int = strawberry.field(description="Studies pushed to it at once, over all workers.")
    enabled: bool = strawberry.field(
        description="false: the AE is switched off; nothing is sent to it, and what waits for it stays."
    )
    gone_at: datetime | None = strawberry.field(description="Since when there is no such AE; its items wait.")
    invalid_condition: str | None = strawberry.field(
        description="Why it is configured so that nothing can be sent to it, as a condition says; null: it is not."
    )
    held_at: datetime | None = strawberry.field(
        description="Since when a person holds all that goes to it; null: nobody does."
    )
    held_by: str | None = strawberry.field(description="Who holds it, by the name of their token or account.")
    hold_reason: str | None = strawberry.field(
        description="What they gave as the reason, such as maintenance until 14:00."
    )
    breaker: BreakerState = strawberry.field(description="Whether it takes what we send, as was last seen.")
    breaker_since: datetime | None = strawberry.field(
        description="Since when it is so; null: it has always gone well."
    )
    failures_in_row: int = strawberry.field(description="How many attempts failed since one last went well.")
    last_error: str | None = strawberry.field(
        description="What the last attempt failed with, such as a refused connection; kept after it goes again."
    )
    next_probe_at: datetime | None = strawberry.field(
        description="When it is asked again whether it answers; null: that is not due."
    )
    last_used_at: datetime | None = strawberry.field(
        description="When something was last tried to be sent to it; null: never."
    )
    last_success_at: datetime | None = strawberry.field(
        description="When it last took something; null: never."
    )

    @strawberry.field(description="Connections (associations) that are open now.")
    async def slots(self, info: Info) -> list[Slot]:
        """Load the slots of all destinations of the answer at once."""
        return cast("list[Slot]", await info.context.loader(load_slots).load(self.key))

    @strawberry.field(description="Unfinished items by state.")
    async def waiting(self, info: Info) -> list[StateCount]:
        """Count for all destinations of the answer at once."""
        return cast("list[StateCount]", await info.context.loader(load_counts).load(self.key))

    @strawberry.field(description="The AE itself; null when it is gone.", directives=[ENTITIES])
    async def application_entity(self, info: Info) -> ApplicationEntity | None:
        """Load the AEs of all destinations of the answer at once."""
        return cast("ApplicationEntity | None", await info.context.loader(load_entities).load(self.ae))


@strawberry.input(description="All that is given must hold.")
class DestinationWhere:
    """Filter of destinations."""

    ae: TextFilter | None = strawberry.field(
        default=None, description="namespace/name of the AE, such as default/pacs."
    )
    breaker: OneOfFilter[BreakerState] | None = strawberry.field(
        default=None, description="Whether it goes, or is in trouble."
    )
    held_at: TimeFilter | None = strawberry.field(
        default=None, description="Since when a person holds it; null: nobody does."
    )
    gone_at: TimeFilter | None = strawberry.field(
        default=None, description="Since when there is no such AE; null: there is."
    )
    last_success_at: TimeFilter | None = strawberry.field(
        default=None, description="When it last took something."
    )
    all_of: Optional[list[DestinationWhere]] = strawberry.field(  # noqa: UP045 - strawberry resolves the name later
        default=None,
        name="AND",
        description="All of these must hold, too.",
    )
    any_of: Optional[list[DestinationWhere]] = strawberry.field(  # noqa: UP045 - as above
        default=None,
        name="OR",
        description="One of these must hold, too.",
    )


async def destinations(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
    info: Info,
    search: Search = None,
    where: Annotated[DestinationWhere | None, By] = None,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[Destination]:
    """List destinations by name, also those that are gone."""
    parts = [filter_of(where)]
    for term in terms(search, ("ae",)):
        parts.append(AnyOf((term.compare("text"), term.compare("ae"))))
    asked = (search, where)
    listing = Listing("destinations", DESTINATIONS, DESTINATION_ORDER, AllOf(tuple(parts)), asked)
    return await connection(info.context, listing, destination_of, page=Asked(first, after, last, before))


async def destination(info: Info, id: Id) -> Destination | None:
    """Return one destination."""
    return await by_ae(info.context, key_of(id, "Destination"))


async def by_ae(context: Context, ae: str) -> Destination | None:
    """Return the destination of an AE."""
    rows = await read_by(context.db, DESTINATIONS, "ae", [ae], context.scope)
    return destination_of(rows[0]) if rows else None


async def load_destinations(context: Context, keys: list[int]) -> list[Destination | None]:
    """Load destinations by their keys."""
    found = {
        int(str(r["id"])): destination_of(r)
        for r in await read_by(context.db, DESTINATIONS, "id", keys, context.scope)
    }
    return [found.get(key) for key in keys]


async def load_slots(context: Context, keys: list[int]) -> list[list[Slot]]:
    """Load the slots in use."""
    found: dict[int, list[Slot]] = defaultdict(list)
    for row in await slots_in_use(context.db, keys, await context.db.time()):
        slot = Slot(
            n=int(str(row["n"])), worker=str(row["worker"] or ""), expires_at=as_datetime(row["expires_at"])
        )
        found[int(str(row["destination_key"]))].append(slot)
    return [found[key] for key in keys]


async def load_counts(context: Context, keys: list[int]) -> list[list[StateCount]]:
    """Load how much waits."""
    found: dict[int, Counter[str]] = defaultdict(Counter)
    for row in await live_counts(context.db, keys, context.scope):
        found[int(str(row["destination_key"]))][str(row["state"])] += int(str(row["n"]))
    return [
        [StateCount(state=DeliveryState(s), count=n) for s, n in sorted(found[key].items())] for key in keys
    ]


_FIELDS = [
    "ae",
    "max_connections",
    "invalid_condition",
    "held_by",
    "hold_reason",
    "failures_in_row",
    "last_error",
]


def destination_of(row: Mapping[str, Any]) -> Destination:
    """Return a row of DESTINATIONS as its type. Its id is by name: it outlives the AE's deletion."""
    return Destination(
        id=global_id("Destination", row["ae"]),
        key=int(row["id"]),
        enabled=bool(row["enabled"]),
        breaker=BreakerState(row["breaker"]),
        gone_at=moment(row["gone_at"]),
        held_at=moment(row["held_at"]),
        breaker_since=moment(row["breaker_since"]),
        next_probe_at=moment(row["next_probe_at"]),
        last_used_at=moment(row["last_used_at"]),
        last_success_at=moment(row["last_success_at"]),
        **{name: row[name] for name in _FIELDS},
    )
