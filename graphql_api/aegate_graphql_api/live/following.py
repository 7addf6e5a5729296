"""What all subscriptions do: a snapshot, or what was missed since a cursor; then what changes, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Annotated

import strawberry

from aegate_core.stores.changes import feed
from aegate_core.stores.changes.feed import Position
from aegate_core.stores.listing import AllOf, Compare, Op
from aegate_graphql_api.connections import no_page
from aegate_graphql_api.context import Context
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.limits import LONGEST_PAGE
from aegate_graphql_api.live.hub import Delivered, Hub, Interest, Mailbox
from aegate_graphql_api.live.watching import ALL, Watch
from aegate_graphql_api.schema.change import decode_cursor

MOST_MISSED = 1_000
"""Changes that are told after a cursor; who missed more gets a snapshot."""

Resume = Annotated[
    str | None,
    strawberry.argument(
        description="The cursor of the last message: what was missed since is told instead of a snapshot, unless that "
        "is too much or too long ago."
    ),
]

WATCHED = strawberry.argument(description="What is watched; left out: all that you may see.")


def hub_of(context: Context) -> Hub:
    """Return the hub. Raises RequestRefused where the operation did not come over a transport of streams."""
    if context.live is None:
        raise RequestRefused(
            "BAD_REQUEST",
            "a subscription needs a stream: use graphql-transport-ws, or Accept: text/event-stream",
        )
    return context.live


def check_first(first: int) -> None:
    """Raise RequestRefused for a size of a snapshot that cannot be."""
    if not 1 <= first <= LONGEST_PAGE:
        raise no_page("first", first)


async def deliveries(
    context: Context, mailbox: Mailbox, after: str | None
) -> AsyncIterator[Delivered | None]:
    """Yield what to tell, for ever: None asks for a snapshot; the first one is that, or what was missed."""
    yield await _missed(context, mailbox, after)
    while True:
        delivered = await mailbox.take()
        refresh(context)
        yield None if delivered.is_overrun else delivered


def refresh(context: Context) -> None:
    """Make the operation's context new for the next message: what was loaded for the last one is old."""
    context.forget()
    context.now = hub_of(context).now()


async def _missed(context: Context, mailbox: Mailbox, after: str | None) -> Delivered | None:
    """Return what happened after a cursor: read once for all who come back to the same place at the same time."""
    if after is None:
        return None
    position = decode_cursor(after)
    interest, shared = mailbox.interest, hub_of(context).shared
    key = "missed", interest.kinds, interest.scope, position
    if key not in shared:
        task = asyncio.ensure_future(_read_missed(context, interest, position))
        shared[key] = task
        task.add_done_callback(lambda _: shared.pop(key, None))
    missed: Delivered | None = await asyncio.shield(shared[key])
    if missed is not None and missed.position.number < mailbox.start.number:
        # It had begun to read before this one listened: what happened between would be in neither.
        missed = await _read_missed(context, interest, position)
    if missed is not None:
        mailbox.leave_out(missed.position)
    return missed


async def _read_missed(context: Context, interest: Interest, after: Position) -> Delivered | None:
    """Return what happened of these kinds in this scope; None: too much, or too long ago."""
    async with hub_of(context).snapshot():
        if not await feed.holds(context.db, after):
            return None
        await feed.settle(context.db)  # what is committed now was missed, too
        where = AllOf((Compare("kind", Op.IN, sorted(interest.kinds)), feed.own(context.scope)))
        page = await feed.read(context.db, after, MOST_MISSED, where)
        if page.has_next:
            return None
        news = {(n.change.kind, n.change.key): n for n in await hub_of(context).read_objects(page.changes)}
    return Delivered(tuple(news.values()), page.end)


@asynccontextmanager
async def following(context: Context, kinds: Collection[str], watch: Watch = ALL) -> AsyncIterator[Mailbox]:
    """Follow what is watched of these kinds, as far as the caller may see it."""
    interest = Interest(frozenset(kinds), context.scope, watch)
    async with hub_of(context).follow(interest) as mailbox:
        refresh(context)
        yield mailbox
