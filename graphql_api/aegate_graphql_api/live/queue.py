"""queue: the queue items of a page, and what happens to them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

import strawberry

from aegate_core.stores.listing import PageQuery, read_page
from aegate_core.stores.queue.list_items import ITEM_ORDERS, ITEMS
from aegate_graphql_api.connections import DEFAULT_FIRST, First
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.live.following import WATCHED, Resume, check_first, deliveries, following, hub_of
from aegate_graphql_api.live.hub import Delivered, Mailbox
from aegate_graphql_api.live.watching import Watch, one_of
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.change import encode_cursor
from aegate_graphql_api.schema.delivery_states import DeliveryState
from aegate_graphql_api.schema.node import global_id, number_of
from aegate_graphql_api.schema.queue_item import QueueItem, item_of

KINDS = ("QUEUE_ITEM",)


@strawberry.input(description="Which queue items are watched. All that is given must hold.")
class QueueWatch:
    """Which items."""

    states: list[DeliveryState] | None = strawberry.field(
        default=None,
        description="In one of these states, such as [FAILED]; left out: all that are not finished.",
    )
    destinations: list[str] | None = strawberry.field(
        default=None, description='To one of these AEs, such as ["hospital/pacs"].'
    )
    source_aes: list[str] | None = strawberry.field(
        default=None, description='From one of these AEs, such as ["hospital/ct1"].'
    )
    partitions: list[str] | None = strawberry.field(
        default=None, description='Of one of these patient partitions, such as ["hospital/default"].'
    )
    location_codes: list[str] | None = strawberry.field(
        default=None, description='From devices at one of these locations, such as ["RAD-2"].'
    )
    study_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Of one of these studies, by their ids."
    )


@strawberry.type(description="A message of the subscription queue.", directives=[QUEUE])
class QueueUpdate:
    """A message."""

    snapshot: bool = strawberry.field(
        description="True: nodes are all that is watched, newest first: forget what you had. False: nodes are new or "
        "changed: put each in the place of the one with its id."
    )
    nodes: list[QueueItem] = strawberry.field(description="As they are now.")
    left: list[strawberry.ID] = strawberry.field(
        description="Ids of items that are not watched any more, such as finished ones: take them away."
    )
    has_more: bool = strawberry.field(
        description="True: more is watched than the snapshot shows; page through it with queueItems."
    )
    cursor: str = strawberry.field(description="Give it as after when you connect again.")


UNFINISHED = (DeliveryState.SCHEDULED, DeliveryState.IN_PROGRESS, DeliveryState.RETRY, DeliveryState.HELD)


async def queue(
    info: Info,
    where: Annotated[QueueWatch | None, WATCHED] = None,
    first: First = DEFAULT_FIRST,
    after: Resume = None,
) -> AsyncGenerator[QueueUpdate, None]:
    """Tell what is in the queue, then what changes."""
    check_first(first)
    watch, states = _watch(where or QueueWatch())
    async with following(info.context, KINDS, watch) as mailbox:
        is_first = True
        async for delivered in deliveries(info.context, mailbox, after):
            if delivered is None:
                yield await _snapshot(info.context, _both(watch, states), first, mailbox)
            elif (update := _update(delivered, watch, states)).nodes or update.left or is_first:
                yield update
            is_first = False


def _watch(where: QueueWatch) -> tuple[Watch, Watch]:
    """Return what of an item stays as it is, and what changes."""
    studies = None if where.study_ids is None else [number_of(id, "Study") for id in where.study_ids]
    states = [s.value for s in (UNFINISHED if where.states is None else where.states)]
    stays = (
        *one_of("destinations", where.destinations, "destination"),
        *one_of("sourceAes", where.source_aes, "source_ae"),
        *one_of("partitions", where.partitions, "partition"),
        *one_of("locationCodes", where.location_codes, "location_code"),
        *one_of("studyIds", studies, "study", "study_key"),
    )
    return Watch(stays), Watch(one_of("states", states, "state"))


def _both(watch: Watch, states: Watch) -> Watch:
    return Watch(watch.parts + states.parts)


async def _snapshot(context: Context, watch: Watch, first: int, mailbox: Mailbox) -> QueueUpdate:
    position = mailbox.position
    async with hub_of(context).snapshot():
        query = PageQuery(ITEM_ORDERS["NEWEST"], first, watch.filter())
        page = await read_page(context.db, ITEMS, query, context.scope)
    items = [item_of(row) for row in page.rows]
    cursor = encode_cursor(position)
    return QueueUpdate(snapshot=True, nodes=items, left=[], has_more=page.has_next, cursor=cursor)


def _update(delivered: Delivered, watch: Watch, states: Watch) -> QueueUpdate:
    items: list[QueueItem] = []
    left: list[strawberry.ID] = []
    for news in delivered.news:
        if news.row is None:
            left.append(global_id("QueueItem", news.change.key))
        elif watch.holds(news.row) and states.holds(news.row):
            items.append(news.node)
        elif watch.holds(news.row):
            left.append(global_id("QueueItem", news.change.key))
    return QueueUpdate(
        snapshot=False, nodes=items, left=left, has_more=False, cursor=encode_cursor(delivered.position)
    )
