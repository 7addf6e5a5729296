"""dashboard: the counts, whenever they changed; computed once for all who see the same rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Annotated

import strawberry

from aegate_core.stores.changes import feed
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.live.following import following, hub_of, refresh
from aegate_graphql_api.schema.dashboard import Dashboard, dashboard

LOOK_S = 5.0
"""What has no row in the feed is seen so much later: what is in the spool and not indexed."""
EVERY_S = 1.0
"""No sooner after the last message: counting a full queue costs tens of milliseconds."""


async def dashboard_counts(
    info: Info,
    finished_since: Annotated[
        datetime | None,
        strawberry.argument(
            description="Count what was finished since then, at most 7 days back; left out: since midnight, UTC."
        ),
    ] = None,
) -> AsyncGenerator[Dashboard, None]:
    """Tell the counts, and again when they changed, at most once a second."""
    told: Dashboard | None = None
    async with following(info.context, (*feed.OF_PARTITIONS, feed.ENTITY)) as mailbox:
        while True:
            counted = await _counted(info, finished_since)
            if counted != told:
                told = counted
                yield counted
            await asyncio.sleep(EVERY_S)
            try:
                async with asyncio.timeout(LOOK_S - EVERY_S):
                    await mailbox.take()
            except TimeoutError:
                pass
            refresh(info.context)


async def _counted(info: Info, finished_since: datetime | None) -> Dashboard:
    """Return the counts; who asks while they are being counted for another who sees the same gets those."""
    shared = hub_of(info.context).shared
    key = _key(info.context, finished_since)
    if key not in shared:
        task = asyncio.ensure_future(_count(info, finished_since))
        shared[key] = task
        task.add_done_callback(lambda _: shared.pop(key, None))
    counted: Dashboard = await asyncio.shield(shared[key])
    return counted


def _key(context: Context, finished_since: datetime | None) -> object:
    return Dashboard, context.scope, finished_since


async def _count(info: Info, finished_since: datetime | None) -> Dashboard:
    async with hub_of(info.context).snapshot():
        return await dashboard(info, finished_since)
