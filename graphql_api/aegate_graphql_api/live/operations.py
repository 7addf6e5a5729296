"""operations: changes of many as they go on.

The surprise: the feed says that an operation moved and nothing more, because one may be about several partitions.
Whether a caller may see it is asked of the database each time, once for all who see the same rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated

import strawberry

from aegate_core.stores.changes import feed
from aegate_core.stores.listing import AllOf, Compare, Filter, Op, PageQuery, read_by, read_page
from aegate_core.stores.queue.operations import OPERATION_ORDER, OPERATIONS
from aegate_graphql_api.connections import DEFAULT_FIRST, First
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.live.following import WATCHED, check_first, following, hub_of, refresh
from aegate_graphql_api.live.hub import Delivered
from aegate_graphql_api.live.watching import check_length
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.node import number_of
from aegate_graphql_api.schema.operation import Operation, OperationState, operation_of

OPEN = (OperationState.SCHEDULED, OperationState.RUNNING)


@strawberry.input(description="Which operations are watched. All that is given must hold.")
class OperationWatch:
    """Which operations."""

    ids: list[strawberry.ID] | None = strawberry.field(
        default=None,
        description="These operations, as a mutation returned them; left out: all that are not ended.",
    )
    mine: bool = strawberry.field(
        default=False, description="True: those alone that were asked for with a token of this name."
    )


@strawberry.type(description="A message of the subscription operations.", directives=[QUEUE])
class OperationUpdate:
    """A message."""

    snapshot: bool = strawberry.field(
        description="True: nodes are all that is watched, newest first: forget what you had. False: put each of "
        "nodes in the place of the one with its id."
    )
    nodes: list[Operation] = strawberry.field(
        description="As they are now, with what is done of each; one that ended is told once more, with how it ended."
    )


async def operations(
    info: Info, where: Annotated[OperationWatch | None, WATCHED] = None, first: First = DEFAULT_FIRST
) -> AsyncGenerator[OperationUpdate, None]:
    """Tell which operations go on, then how far they get."""
    check_first(first)
    where = where or OperationWatch()
    keys = _keys(where)
    async with following(info.context, (feed.OPERATION,)) as mailbox:
        yield await _snapshot(info.context, where, keys, first)
        while True:
            moved = await mailbox.take()
            refresh(info.context)
            if moved.is_overrun:
                yield await _snapshot(info.context, where, keys, first)
                continue
            found = await _read(info.context, moved, keys)
            shown = [o for o in found if not where.mine or o.requested_by == info.context.caller.name]
            if shown:
                yield OperationUpdate(snapshot=False, nodes=shown)


def _keys(where: OperationWatch) -> frozenset[int] | None:
    if where.ids is None:
        return None
    check_length("ids", where.ids)
    return frozenset(number_of(id, "Operation") for id in where.ids)


async def _snapshot(
    context: Context, where: OperationWatch, keys: frozenset[int] | None, first: int
) -> OperationUpdate:
    parts: list[Filter] = []
    if keys is None:
        parts.append(Compare("state", Op.IN, [state.value for state in OPEN]))
    else:
        parts.append(Compare("id", Op.IN, sorted(keys)))
    if where.mine:
        parts.append(Compare("actor", Op.EQ, context.caller.name))
    async with hub_of(context).snapshot():
        query = PageQuery(OPERATION_ORDER, first, AllOf(tuple(parts)))
        page = await read_page(context.db, OPERATIONS, query, context.scope)
    return OperationUpdate(snapshot=True, nodes=[operation_of(row) for row in page.rows])


async def _read(context: Context, moved: Delivered, keys: frozenset[int] | None) -> list[Operation]:
    """Return those that the caller may see; who is told the same at the same time is answered by the same read."""
    said = frozenset(int(news.change.key) for news in moved.news)
    wanted = said if keys is None else said & keys
    if not wanted:
        return []
    shared = hub_of(context).shared
    key = Operation, context.scope, wanted, moved.position
    if key not in shared:
        task = asyncio.ensure_future(_read_now(context, wanted))
        shared[key] = task
        task.add_done_callback(lambda _: shared.pop(key, None))
    found: list[Operation] = await asyncio.shield(shared[key])
    return found


async def _read_now(context: Context, keys: frozenset[int]) -> list[Operation]:
    async with hub_of(context).snapshot():
        rows = await read_by(context.db, OPERATIONS, "id", sorted(keys), context.scope)
    return sorted((operation_of(row) for row in rows), key=lambda o: o.key)
