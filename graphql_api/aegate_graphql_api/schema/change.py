"""changes: what happened, in order, for programs that follow it; and the cursor that streams resume from."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Annotated

import strawberry

from aegate_core.stores.changes import feed
from aegate_core.stores.changes.feed import START, Changed, Position
from aegate_graphql_api.connections import DEFAULT_FIRST, First, PageInfo, no_page
from aegate_graphql_api.context import Info, utc
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.limits import LONGEST_PAGE
from aegate_graphql_api.permissions import EITHER
from aegate_graphql_api.schema.delivery_states import DeliveryState
from aegate_graphql_api.schema.node import global_id

VERSION = 1


@strawberry.enum(description="What kind of object a change is about.")
class ChangeKind(Enum):
    """Kinds of objects."""

    QUEUE_ITEM = strawberry.enum_value(
        "QUEUE_ITEM",
        description="A QueueItem was made, changed its state, priority or destination, was asked to stop, or was "
        "removed by age. How many images of it are through is not told: read the item.",
    )
    STUDY = strawberry.enum_value(
        "STUDY", description="A Study arrived, got more images, or what is known of it changed."
    )
    APPLICATION_ENTITY = strawberry.enum_value(
        "APPLICATION_ENTITY",
        description="An ApplicationEntity was added, edited or deleted, or its status changed, such as Ready.",
    )
    CONFLICT = strawberry.enum_value("CONFLICT", description="A Conflict was raised or resolved.")
    QUARANTINED_OBJECT = strawberry.enum_value(
        "QUARANTINED_OBJECT", description="A received object could not be parsed, or somebody dealt with it."
    )
    DESTINATION = strawberry.enum_value(
        "DESTINATION",
        description="A Destination was held, resumed, went down, came back or was configured anew.",
    )
    WORKLIST_ITEM = strawberry.enum_value(
        "WORKLIST_ITEM", description="A WorklistItem was made, changed, cancelled or taken up again."
    )


@strawberry.enum(description="What happened to the object.")
class ChangeAction(Enum):
    """What happened."""

    CREATED = strawberry.enum_value("CREATED", description="It is there now, or there again.")
    CHANGED = strawberry.enum_value("CHANGED", description="It is not as it was: read it by its id.")
    REMOVED = strawberry.enum_value("REMOVED", description="It is gone; its id finds nothing any more.")


@strawberry.type(
    description="One thing that happened. It names the object by its id alone and holds no patient data: "
    "read the object with node(id:) or nodes(ids:).",
    directives=[EITHER],
)
class Change:
    """A change."""

    at: datetime = strawberry.field(description="When, by the database's clock.")
    kind: ChangeKind = strawberry.field(description="What kind of object it is about.")
    action: ChangeAction = strawberry.field(description="What happened to it.")
    object_id: strawberry.ID = strawberry.field(description="The id of the object, for node(id:).")
    state: DeliveryState | None = strawberry.field(
        description="The state of a queue item after the change, such as FAILED; null for other kinds."
    )
    partition: str | None = strawberry.field(
        description="namespace/name of the patient partition; null of an ApplicationEntity."
    )
    cursor: str = strawberry.field(description="Go on after this change: give it as after.")


@strawberry.type(description="A page of what happened, oldest first.", directives=[EITHER])
class ChangePage:
    """A page of changes."""

    nodes: list[Change] = strawberry.field(description="In the order in which they happened.")
    page_info: PageInfo = strawberry.field(
        description="Keep endCursor: it is set even when nodes is empty, and goes on behind what others may see."
    )
    latest_cursor: str = strawberry.field(
        description="Where the feed ends now. To begin with today: keep it, read what you need, then go on after it."
    )


async def changes(
    info: Info,
    first: First = DEFAULT_FIRST,
    after: Annotated[
        str | None,
        strawberry.argument(
            description="A cursor of this feed. Left out: from the oldest change that is kept."
        ),
    ] = None,
) -> ChangePage:
    """Page through what happened. Raises RequestRefused CURSOR_EXPIRED for a cursor older than what is kept."""
    db = info.context.db
    if not 1 <= first <= LONGEST_PAGE:
        raise no_page("first", first)
    await feed.settle(db)
    begin = await feed.oldest(db) if after is None else decode_cursor(after)
    if after is not None and not await feed.holds(db, begin):
        raise expired()
    page = await feed.read(db, begin, first, feed.own(info.context.scope))
    nodes = [change_of(change) for change in page.changes]
    return ChangePage(
        nodes=nodes,
        page_info=PageInfo(
            has_next_page=page.has_next,
            has_previous_page=after is not None,
            start_cursor=nodes[0].cursor if nodes else None,
            end_cursor=encode_cursor(page.end),
        ),
        latest_cursor=encode_cursor(await feed.latest(db)),
    )


_NODE_TYPES = {
    "QUEUE_ITEM": "QueueItem",
    "STUDY": "Study",
    "APPLICATION_ENTITY": "ApplicationEntity",
    "CONFLICT": "Conflict",
    "QUARANTINED_OBJECT": "QuarantinedObject",
    "DESTINATION": "Destination",
    "WORKLIST_ITEM": "WorklistItem",
}


def change_of(change: Changed) -> Change:
    """Return a row of the feed as its type."""
    assert change.position.at is not None, "only the start of the feed has no time"
    return Change(
        at=change.position.at,
        kind=ChangeKind(change.kind),
        action=ChangeAction(change.action),
        object_id=global_id(_NODE_TYPES[change.kind], change.key),
        state=None if change.state is None else DeliveryState(change.state),
        partition=change.partition,
        cursor=encode_cursor(change.position),
    )


@lru_cache(maxsize=64)
def encode_cursor(position: Position) -> str:
    """Return a position as callers keep it: opaque to them."""
    at = None if position.at is None else position.at.isoformat()
    text = json.dumps([VERSION, position.number, at], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode()


def decode_cursor(cursor: str) -> Position:
    """Return the position. Raises RequestRefused BAD_CURSOR for what is not a cursor of the feed."""
    try:
        version, number, at = json.loads(
            base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        )
        moment = None if at is None else utc(datetime.fromisoformat(str(at)))
        if version != VERSION or type(number) is not int or not 0 <= number < 2**63:
            raise ValueError("another form")
        if (moment is None) != (number == START.number):
            raise ValueError("a place without its time")
    except (ValueError, TypeError, UnicodeError, binascii.Error, RecursionError) as error:
        raise RequestRefused(
            "BAD_CURSOR", "after must be a cursor of changes or of a stream: take one that this API gave"
        ) from error
    return Position(number, moment)


def expired() -> RequestRefused:
    """Return the error for a cursor after which something is missing."""
    return RequestRefused(
        "CURSOR_EXPIRED",
        "what followed this cursor is not kept any more (it is older than 7 days, or the database was restored from "
        "a backup): keep latestCursor, read anew what you follow, then go on after it",
    )
