"""dashboard: the counts, whenever they changed; computed once for all who see the same rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime

from aegate_core.stores.changes import feed
from aegate_graphql_api.context import Info
from aegate_graphql_api.live.following import following, hub_of, refresh
from aegate_graphql_api.schema.dashboard import Dashboard, FinishedSince, TimeZone, dashboard

LOOK_S = 5.0
"""What has no row in the feed is seen so much later: what is in the spool and not indexed, and that a day began."""
EVERY_S = 1.0
"""No sooner after the last message: counting a full queue costs tens of milliseconds."""


async def dashboard_counts(
    info: Info, finished_since: FinishedSince = None, time_zone: TimeZone = "UTC"
) -> AsyncGenerator[Dashboard, None]:
    """Tell the counts, and again when they changed, at most once a second; after midnight those of the new day."""
    told: Dashboard | None = None
    async with following(info.context, (*feed.OF_PARTITIONS, feed.ENTITY)) as mailbox:
        while True:
            counted = await _counted(info, finished_since, time_zone)
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


async def _counted(info: Info, finished_since: datetime | None, time_zone: str) -> Dashboard:
    """Return the counts; who asks while they are being counted for another who sees the same gets those."""
    shared = hub_of(info.context).shared
    key = Dashboard, info.context.scope, finished_since, time_zone
    if key not in shared:
        task = asyncio.ensure_future(_count(info, finished_since, time_zone))
        shared[key] = task
        task.add_done_callback(lambda _: shared.pop(key, None))
    counted: Dashboard = await asyncio.shield(shared[key])
    return counted


async def _count(info: Info, finished_since: datetime | None, time_zone: str) -> Dashboard:
    async with hub_of(info.context).snapshot():
        return await dashboard(info, finished_since, time_zone)
