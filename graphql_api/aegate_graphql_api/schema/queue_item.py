"""QueueItem: a unit of work for one destination, why it is not moving, what became of each instance, its history."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum, StrEnum
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
    Connection,
    First,
    Last,
    Listing,
    connection,
)
from aegate_graphql_api.context import Context, Info, moment
from aegate_graphql_api.patient_data import PATIENT_DATA
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.node import Node, global_id, number_of
from aegate_graphql_api.schema.of_study import anything_of_a_study
from aegate_graphql_api.schema.scalars import JSON, BigInt
from aegate_graphql_api.schema.study import Study, load_studies
from aegate_graphql_api.search import (
    NumberFilter,
    OneOfFilter,
    Term,
    TextFilter,
    TimeFilter,
    filter_of,
    terms,
)

if TYPE_CHECKING:
    from aegate_graphql_api.schema.destination import Destination

strawberry.enum(NotMovingCode, name="NotMovingCode", description="Why an item is where it is.")


@strawberry.enum(
    description="COMPLETED, WARNING, FAILED and CANCELED are the end; FAILED and CANCELED can be retried."
)
class DeliveryState(StrEnum):
    """States of a queue item."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN_PROGRESS"
    RETRY = "RETRY"
    HELD = "HELD"
    COMPLETED = "COMPLETED"
    WARNING = "WARNING"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


@strawberry.enum(description="What became of an instance in a delivery.")
class InstanceState(StrEnum):
    """States of an instance in a delivery."""

    PENDING = "PENDING"
    STORED = "STORED"
    WARNING = "WARNING"
    DEAD = "DEAD"
    CANCELED = "CANCELED"


@strawberry.type(
    description="Why an item is not moving, in one sentence, and what happens next.", directives=[QUEUE]
)
class WhyNotMoving:
    """An answer."""

    code: NotMovingCode
    text: str
    next_step: str
    until: datetime | None


@strawberry.type(
    description="An instance in a delivery, with the peer's own answer.", directives=[QUEUE, PATIENT_DATA]
)
class DeliveryInstance:
    """An instance's outcome."""

    arrival_id: str
    sop_instance_uid: str | None
    sop_class_uid: str | None
    state: InstanceState
    status: int | None = strawberry.field(
        description="The peer's C-STORE status (PS3.7 C) of the last attempt."
    )
    status_hex: str | None = strawberry.field(description="The same, as 0xA900.")
    explanation: str | None = strawberry.field(
        description="What became of it and what comes of that, in one sentence, by the Standard's meaning of the "
        "status; null: nothing yet."
    )
    attempts: int
    error_code: str | None
    available_at: datetime | None = strawberry.field(description="When it is tried again.")
    finished_at: datetime | None
    coerced: JSON = strawberry.field(
        description="What we overwrote on the way out: keyword to old and new value."
    )


@strawberry.type(description="A transition of an item.", directives=[QUEUE])
class DeliveryEvent:
    """A transition."""

    at: datetime
    from_state: DeliveryState | None
    to_state: DeliveryState
    actor: str
    code: str | None
    message: str | None


@strawberry.type(description="A unit of work for one destination.", directives=[QUEUE])
class QueueItem(Node):
    """A queue item."""

    key: strawberry.Private[int]
    study_key: strawberry.Private[int]
    destination_key: strawberry.Private[int]
    destination_ae: str = strawberry.field(description="namespace/name of the AE that it goes to.")
    level: str = strawberry.field(description="Study, Series or Image.")
    unit_uid: str
    source_ae: str
    partition: str
    location_code: str | None
    state: DeliveryState
    priority: int
    bumped_at: datetime | None
    supplementary: bool = strawberry.field(description="Images that came after the study was closed once.")
    requested_by: str
    available_at: datetime
    attempts: int
    hold_code: str | None
    held_by: str | None
    hold_reason: str | None
    cancel_requested_by: str | None
    hold_requested_by: str | None
    instances_total: int
    instances_done: int
    instances_failed: int
    size_bytes: BigInt
    error_code: str | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
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
        state: InstanceState | None = None,
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


@strawberry.enum(description="Orders that an index serves.")
class QueueOrder(Enum):
    """Orders of queue items."""

    NEWEST = strawberry.enum_value(
        "NEWEST", description="Made last comes first. An item's place never changes."
    )
    OLDEST = strawberry.enum_value(
        "OLDEST", description="Made first comes first. An item's place never changes."
    )
    LAST_FINISHED = strawberry.enum_value(
        "LAST_FINISHED",
        description="Finished items alone, those finished last come first. An item that is retried leaves the list: "
        "while you page it may be missed, or come again once it is finished anew.",
    )
    NEXT = strawberry.enum_value(
        "NEXT",
        description="Unfinished items alone, in the order in which workers take them: bumped ones, then by priority "
        "and age. A change of priority moves an item: while you page it may be missed or come twice.",
    )


@strawberry.input(description="All that is given must hold.")
class QueueItemWhere:
    """Filter of queue items."""

    state: OneOfFilter[DeliveryState] | None = None
    destination: TextFilter | None = None
    source_ae: TextFilter | None = None
    partition: TextFilter | None = None
    location_code: TextFilter | None = None
    requested_by: TextFilter | None = None
    priority: NumberFilter | None = None
    attempts: NumberFilter | None = None
    created_at: TimeFilter | None = None
    finished_at: TimeFilter | None = None
    unit_uid: TextFilter | None = None
    error_code: TextFilter | None = None
    hold_code: TextFilter | None = None
    patient_name: TextFilter | None = None
    patient_id: TextFilter | None = None
    accession_number: TextFilter | None = None
    study_instance_uid: TextFilter | None = None
    study_date: TextFilter | None = None
    document_type: TextFilter | None = None
    all_of: Optional[list[QueueItemWhere]] = strawberry.field(default=None, name="AND")  # noqa: UP045 - strawberry resolves the name later
    any_of: Optional[list[QueueItemWhere]] = strawberry.field(default=None, name="OR")  # noqa: UP045 - as above


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
    search: str | None = None,
    where: QueueItemWhere | None = None,
    order_by: QueueOrder = QueueOrder.NEWEST,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[QueueItem]:
    """List queue items."""
    found = await items_filter(info.context, search, where)
    listing = Listing("queueItems", ITEMS, ITEM_ORDERS[order_by.name], found, (search, where))
    return await connection(info.context, listing, item_of, page=Asked(first, after, last, before))


async def queue_item(info: Info, id: strawberry.ID) -> QueueItem | None:
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


_ITEM_FIELDS = (
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


def item_of(row: Mapping[str, Any]) -> QueueItem:
    """Return a row of ITEMS as its type."""
    return QueueItem(
        id=global_id("QueueItem", row["id"]),
        key=int(row["id"]),
        study_key=int(row["study_key"]),
        destination_key=int(row["destination_key"]),
        destination_ae=row["destination"],
        state=DeliveryState(row["state"]),
        bumped_at=moment(row["bumped_at"]),
        supplementary=bool(row["supplementary"]),
        available_at=as_datetime(row["available_at"]),
        created_at=as_datetime(row["created_at"]),
        started_at=moment(row["started_at"]),
        finished_at=moment(row["finished_at"]),
        **{name: row[name] for name in _ITEM_FIELDS},
    )


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
