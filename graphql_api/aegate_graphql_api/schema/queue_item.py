"""QueueItem: a unit of work for one destination, why it is not moving, what became of each instance, its history."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Optional, cast

import strawberry

from aegate_core.database import as_datetime, as_json
from aegate_core.decisions.moving import NotMovingCode
from aegate_core.decisions.moving import WhyNotMoving as Why
from aegate_core.decisions.outcome_words import explain_outcome
from aegate_core.services.deliveries import InLine, in_line, why_not_moving
from aegate_core.stores.index.list_resources import keys_matching, routes_matching
from aegate_core.stores.listing import AllOf, AnyOf, Compare, Filter, Op, read_by
from aegate_core.stores.queue.list_items import (
    EVENT_ORDER,
    EVENTS,
    ITEM_INSTANCE_ORDER,
    ITEM_INSTANCES,
    ITEM_ORDERS,
    ITEMS,
    destination_ids,
)
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
    Sort,
    connection,
)
from aegate_graphql_api.context import Context, Info, moment
from aegate_graphql_api.patient_data import PATIENT_DATA
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.rows import Read, Rows
from aegate_graphql_api.schema.delivery_states import DeliveryState, InstanceState
from aegate_graphql_api.schema.node import Node, global_id, number_of
from aegate_graphql_api.schema.of_study import anything_of_a_study
from aegate_graphql_api.schema.queue_item_where import QueueItemWhere, QueueOrder
from aegate_graphql_api.schema.scalars import JSON, BigInt
from aegate_graphql_api.schema.study import Study, load_studies
from aegate_graphql_api.search import Term, filter_of, terms

if TYPE_CHECKING:
    from aegate_graphql_api.schema.destination import Destination


@strawberry.type(
    description="Why an item is not moving, in one sentence, and what happens next.", directives=[QUEUE]
)
class WhyNotMoving:
    """An answer."""

    code: NotMovingCode = strawberry.field(description="The reason, for programs.")
    text: str = strawberry.field(description="The reason, in a sentence for people.")
    next_step: str = strawberry.field(description="What happens by itself, or what a person can do.")
    until: datetime | None = strawberry.field(description="When it is looked at again; null: no time is set.")


@strawberry.type(
    description="An image in a delivery, with what the destination answered.",
    directives=[QUEUE, PATIENT_DATA],
)
class DeliveryInstance:
    """An instance's outcome."""

    arrival_id: str = strawberry.field(
        description="Which arrival of the image is sent: every time that an image comes is an arrival of its own."
    )
    sop_instance_uid: str | None = strawberry.field(
        description="DICOM's own id of the image, such as 1.2.826.0.1.3680043.2.1.1."
    )
    sop_class_uid: str | None = strawberry.field(
        description="What kind of object it is, as a UID: 1.2.840.10008.5.1.4.1.1.2 is a CT image."
    )
    state: InstanceState = strawberry.field(description="What became of it.")
    status: int | None = strawberry.field(
        description="What the destination answered last, as DICOM's number (PS3.7 C); 0 is success; null: nothing."
    )
    status_hex: str | None = strawberry.field(description="The same as it stands in manuals, such as 0xA900.")
    explanation: str | None = strawberry.field(
        description="What became of it and what comes of that, in one sentence, by the Standard's meaning of the "
        "status; null: nothing yet."
    )
    attempts: int = strawberry.field(description="How often it was sent.")
    error_code: str | None = strawberry.field(
        description="What it failed with, for programs, such as STATUS_A900 or NO_CONTEXT; null: nothing."
    )
    available_at: datetime | None = strawberry.field(description="When it is tried again.")
    finished_at: datetime | None = strawberry.field(
        description="When it was sent or given up; null: neither yet."
    )
    coerced: JSON = strawberry.field(
        description="What we overwrote on the way out: keyword to old and new value."
    )


@strawberry.type(description="A step of a queue item from one state to another.", directives=[QUEUE])
class DeliveryEvent:
    """A transition."""

    at: datetime = strawberry.field(description="When it went from the one to the other.")
    from_state: DeliveryState | None = strawberry.field(
        description="The state before; null: it was made then."
    )
    to_state: DeliveryState = strawberry.field(description="The state after.")
    actor: str = strawberry.field(
        description="Who did it: the name of a token or account, the route, or the part of aegate that acted."
    )
    code: str | None = strawberry.field(description="Why, for programs; null: nothing special.")
    message: str | None = strawberry.field(description="Why, in words, such as the reason that was given.")


@strawberry.type(
    description="Something that is to be sent to one destination: a study, a series, or an image.",
    directives=[QUEUE],
)
class QueueItem(Node):
    """A queue item."""

    key: strawberry.Private[int]
    study_key: strawberry.Private[int]
    destination_key: strawberry.Private[int]
    destination_ae: str = strawberry.field(description="namespace/name of the AE that it goes to.")
    level: str = strawberry.field(description="Study, Series or Image.")
    unit_uid: str = strawberry.field(
        description="DICOM's own id of what is sent: of the study, series or image."
    )
    source_ae: str = strawberry.field(
        description="namespace/name of the AE that sent it to us, such as default/ct1."
    )
    partition: str = strawberry.field(
        description="namespace/name of the patient partition that it belongs to."
    )
    location_code: str | None = strawberry.field(
        description="Code of the place where the sending device stands, such as ER; null: none is given."
    )
    state: DeliveryState = strawberry.field(description="Where it is on its way.")
    priority: int = strawberry.field(
        description="0 to 100, the highest goes first; a point is worth a minute of waiting."
    )
    bumped_at: datetime | None = strawberry.field(
        description="When somebody put it before everything else; null: nobody did."
    )
    supplementary: bool = strawberry.field(description="Images that came after the study was closed once.")
    requested_by: str = strawberry.field(
        description="What put it into the queue: route:default/ct-to-pacs, or person:NAME."
    )
    available_at: datetime = strawberry.field(
        description="Not sent before then, such as after a failed attempt."
    )
    attempts: int = strawberry.field(description="How often it was begun, such as 3.")
    hold_code: str | None = strawberry.field(
        description="Why it is held: PERSON, PATIENT_MISMATCH, NEEDS_RECONCILIATION or DESTINATION_GONE; else null."
    )
    held_by: str | None = strawberry.field(description="Who holds it; null: no person.")
    hold_reason: str | None = strawberry.field(description="What they gave as the reason.")
    cancel_requested_by: str | None = strawberry.field(
        description="Who cancelled it while it is being sent: it ends between two images."
    )
    hold_requested_by: str | None = strawberry.field(
        description="Who held it while it is being sent: it stops between two images."
    )
    instances_total: int = strawberry.field(description="How many images it has, such as 120.")
    instances_done: int = strawberry.field(description="How many of them the destination took.")
    instances_failed: int = strawberry.field(description="How many of them were given up.")
    size_bytes: BigInt = strawberry.field(description="Size of its images together, in bytes.")
    error_code: str | None = strawberry.field(
        description="What the last attempt failed with, for programs, such as STATUS_A900; null: nothing."
    )
    error_message: str | None = strawberry.field(description="The same in words; null: nothing.")
    created_at: datetime = strawberry.field(description="When it was put into the queue.")
    started_at: datetime | None = strawberry.field(description="When sending last began; null: never yet.")
    finished_at: datetime | None = strawberry.field(
        description="When it was completed, given up or cancelled; null: none of these yet."
    )
    version: int = strawberry.field(description="Give it back with a mutation to change this version only.")

    @strawberry.field(description="Null when the item is finished and lost nothing.")
    async def why_not_moving(self, info: Info) -> WhyNotMoving | None:
        """Answer for all items of the answer at once."""
        return cast("WhyNotMoving | None", await info.context.loader(load_why).load(self.key))

    @strawberry.field(
        description="Its place in the line of its destination, 1 is next; null: it does not wait in line (see "
        "whyNotMoving), or more than 1,000 are before it."
    )
    async def position(self, info: Info) -> int | None:
        """Answer for all items of the answer at once."""
        place = cast("InLine | None", await info.context.loader(load_places).load(self.key))
        return None if place is None else place.position

    @strawberry.field(
        description="When it will begin to be sent, by its place, the connections to the destination and how long "
        "others took in the last 15 minutes; null: nobody can tell."
    )
    async def estimated_start(self, info: Info) -> datetime | None:
        """Answer for all items of the answer at once."""
        place = cast("InLine | None", await info.context.loader(load_places).load(self.key))
        return None if place is None else place.starts_at

    @strawberry.field(description="The study that it is of.")
    async def study(self, info: Info) -> Study | None:
        """Load the studies of all items of the answer at once."""
        return cast("Study | None", await info.context.loader(load_studies).load(self.study_key))

    @strawberry.field(description="Where it goes.")
    async def destination(
        self, info: Info
    ) -> Optional[Annotated[Destination, strawberry.lazy("aegate_graphql_api.schema.destination")]]:  # noqa: UP045 - strawberry needs the name
        """Load the destinations of all items of the answer at once."""
        from aegate_graphql_api.schema.destination import load_destinations

        return cast(
            "Destination | None", await info.context.loader(load_destinations).load(self.destination_key)
        )

    @strawberry.field(description="What became of each instance.")
    async def instances(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
        self,
        info: Info,
        state: Annotated[
            InstanceState | None, strawberry.argument(description="Those in this state alone; left out: all.")
        ] = None,
        first: First = DEFAULT_FIRST,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[DeliveryInstance]:
        """Page through the instances."""
        where: list[Filter] = [Compare("delivery", Op.EQ, self.key)]
        if state is not None:
            where.append(Compare("state", Op.EQ, state.value))
        asked = (self.key, state)
        listing = Listing("itemInstances", ITEM_INSTANCES, ITEM_INSTANCE_ORDER, AllOf(tuple(where)), asked)
        return await connection(info.context, listing, instance_of, page=Asked(first, after, last, before))

    @strawberry.field(description="Every transition, newest first.")
    async def history(
        self,
        info: Info,
        first: First = DEFAULT_FIRST,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[DeliveryEvent]:
        """Page through the transitions."""
        listing = Listing("history", EVENTS, EVENT_ORDER, Compare("delivery", Op.EQ, self.key), self.key)
        return await connection(info.context, listing, event_of, page=Asked(first, after, last, before))


PREFIXES: Mapping[str, tuple[str, Op]] = {
    "patient": ("patient_name", Op.CONTAINS),
    "id": ("patient_id", Op.STARTS_WITH),
    "accession": ("accession_number", Op.STARTS_WITH),
    "study": ("study_instance_uid", Op.STARTS_WITH),
    "location": ("location_code", Op.STARTS_WITH),
    "route": ("requested_by", Op.CONTAINS),
}


async def queue_items(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
    info: Info,
    search: Search = None,
    where: Annotated[QueueItemWhere | None, By] = None,
    order_by: Annotated[QueueOrder, Sort] = QueueOrder.NEWEST,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[QueueItem]:
    """List queue items."""
    found = await items_filter(info.context, search, where)
    listing = Listing("queueItems", ITEMS, ITEM_ORDERS[order_by.name], found, (search, where))
    return await connection(info.context, listing, item_of, page=Asked(first, after, last, before))


async def queue_item(info: Info, id: Id) -> QueueItem | None:
    """Return one queue item."""
    return cast("QueueItem | None", await info.context.loader(load_items).load(number_of(id, "QueueItem")))


async def items_filter(context: Context, search: str | None, where: QueueItemWhere | None) -> Filter:
    """Return what a search and a filter ask for."""
    parts = [filter_of(where)]
    for term in terms(search, (*PREFIXES, "ae", "from", "to")):
        parts.append(await _term(context, term))
    return AllOf(tuple(parts))


async def _term(context: Context, term: Term) -> Filter:
    if term.prefix is not None and term.prefix in PREFIXES:
        column, op = PREFIXES[term.prefix]
        return term.compare(column, op)
    aes = await keys_matching(context.db, term.compare("text"))
    if term.prefix == "from":
        return Compare("source_ae", Op.IN, aes)
    to = await destination_ids(context.db, aes)
    if term.prefix == "to":
        return Compare("destination_key", Op.IN, to)
    if term.prefix == "ae":
        return AnyOf((Compare("source_ae", Op.IN, aes), Compare("destination_key", Op.IN, to)))
    # Each alternative that cannot be costs: with one beside it, no index of the studies is of use.
    alternatives = [anything_of_a_study(term)]
    if to:
        alternatives.append(Compare("destination_key", Op.IN, to))
    if routes := await routes_matching(context.db, term.compare("key")):
        alternatives.append(Compare("requested_by", Op.IN, [f"route:{key}" for key in routes]))
    return AnyOf(tuple(alternatives))


async def load_items(context: Context, keys: list[int]) -> list[QueueItem | None]:
    """Load items by their keys."""
    found = {
        int(str(r["id"])): item_of(r) for r in await read_by(context.db, ITEMS, "id", keys, context.scope)
    }
    return [found.get(key) for key in keys]


async def load_why(context: Context, keys: list[int]) -> list[WhyNotMoving | None]:
    """Answer why items are not moving."""
    # By the database's clock: leases and the workers' signs of life go by it.
    answers = await why_not_moving(context.db, keys, now=await context.db.time())
    return [_why(answers.get(key)) for key in keys]


async def load_places(context: Context, keys: list[int]) -> list[InLine | None]:
    """Say where items stand in line."""
    found = await in_line(context.db, keys, now=await context.db.time())
    return [found.get(key) for key in keys]


def _why(why: Why | None) -> WhyNotMoving | None:
    if why is None:
        return None
    return WhyNotMoving(code=why.code, text=why.text, next_step=why.next_step, until=why.until)


def _id_of(key: Any) -> strawberry.ID:
    return global_id("QueueItem", key)


_AS_THEY_ARE = (
    "level",
    "unit_uid",
    "source_ae",
    "partition",
    "location_code",
    "priority",
    "requested_by",
    "attempts",
    "hold_code",
    "held_by",
    "hold_reason",
    "cancel_requested_by",
    "hold_requested_by",
    "instances_total",
    "instances_done",
    "instances_failed",
    "size_bytes",
    "error_code",
    "error_message",
    "version",
)

item_of = Rows(
    QueueItem,
    id=Read("id", _id_of),
    key=Read("id", int),
    study_key=Read("study_key", int),
    destination_key=Read("destination_key", int),
    destination_ae=Read("destination"),
    state=Read("state", DeliveryState),
    bumped_at=Read("bumped_at", moment),
    supplementary=Read("supplementary", bool),
    available_at=Read("available_at", as_datetime),
    created_at=Read("created_at", as_datetime),
    started_at=Read("started_at", moment),
    finished_at=Read("finished_at", moment),
    **{name: Read(name) for name in _AS_THEY_ARE},
)
"""Returns a row of ITEMS as its type."""


def instance_of(row: Mapping[str, Any]) -> DeliveryInstance:
    """Return a row of ITEM_INSTANCES as its type."""
    status = row["status"]
    return DeliveryInstance(
        arrival_id=row["arrival_id"],
        sop_instance_uid=row["sop_instance_uid"],
        sop_class_uid=row["sop_class_uid"],
        state=InstanceState(row["state"]),
        status=status,
        status_hex=None if status is None else f"0x{status:04X}",
        explanation=explain_outcome(status, row["error_code"]),
        attempts=int(row["attempts"]),
        error_code=row["error_code"],
        available_at=moment(row["available_at"]),
        finished_at=moment(row["finished_at"]),
        coerced=cast("Any", as_json(row["coerced"])),
    )


def event_of(row: Mapping[str, Any]) -> DeliveryEvent:
    """Return a row of EVENTS as its type."""
    return DeliveryEvent(
        at=as_datetime(row["at"]),
        from_state=DeliveryState(row["from_state"]) if row["from_state"] else None,
        to_state=DeliveryState(row["to_state"]),
        actor=row["actor"],
        code=row["code"],
        message=row["message"],
    )
