"""The day that a live dashboard counts: of a time zone, and the next one when that zone's midnight has come."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
from gql.transport.exceptions import TransportQueryError

from aegate_core.database import DatabaseClock
from aegate_graphql_api.live.hub import SNAPSHOTS_AT_ONCE
from aegate_graphql_api.schema.categories import midnight
from tests.integration.api.clients import API
from tests.integration.api.serving import Served, served_api
from tests.integration.api.test_live import watching
from tests.integration.waiting import eventually_async

BOARD = """subscription($zone: String!) { dashboard(timeZone: $zone) {
  finishedSince counts { state count } byDestination { sentLastHour } } }"""
ZONE = "Asia/Kathmandu"
"""Its midnight is never one of UTC, and it has no summer time."""


class SetClock(DatabaseClock):
    """The database's clock, ahead by what a test says."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


async def test_today_moves_on_at_midnight_of_the_zone(api: API) -> None:
    began = midnight(ZONE, datetime.now(UTC))
    evening = began - timedelta(minutes=1)
    ids = [int(r["id"]) for r in await api.db.fetch("SELECT id FROM delivery ORDER BY id")]
    await api.db.execute(
        "UPDATE delivery SET state = 'COMPLETED', finished_at = $2 WHERE id = $1",
        ids[0],
        began - timedelta(minutes=20),
    )
    clock = SetClock()
    clock.ahead = evening - datetime.now(UTC)
    waiting = {"state": "SCHEDULED", "count": 1}
    async with (
        served_api(api, clock=clock) as served,
        watching(served, BOARD, zone=ZONE) as there,
    ):
        first = (await anext(there))["dashboard"]
        assert datetime.fromisoformat(first["finishedSince"]) == began - timedelta(days=1)
        assert first["counts"] == [waiting, {"state": "COMPLETED", "count": 1}]
        clock.ahead += timedelta(minutes=2)
        then = (await anext(there))["dashboard"]
        assert datetime.fromisoformat(then["finishedSince"]) == began
        assert then["counts"] == [waiting]


async def test_each_zone_has_its_own_counts(served: Served) -> None:
    """Both are asked for before either is counted: who sees the same rows is answered by the same count otherwise."""
    hub = served.live.hub
    async with AsyncExitStack() as watched:
        async with AsyncExitStack() as busy:
            for _ in range(SNAPSHOTS_AT_ONCE):
                await busy.enter_async_context(hub.snapshot())
            zones = {"zone": ZONE}, {"zone": "UTC"}, {"zone": ZONE}
            streams = [await watched.enter_async_context(watching(served, BOARD, **zone)) for zone in zones]
            firsts = [asyncio.ensure_future(anext(stream)) for stream in streams]
            await eventually_async(lambda: len(hub.shared) == 2, what="both zones are asked for")
        since = [(await first)["dashboard"]["finishedSince"] for first in firsts]
    now = datetime.now(UTC)
    assert [datetime.fromisoformat(at) for at in since] == [midnight(z["zone"], now) for z in zones]


@pytest.mark.parametrize("zone", ["Mars/Olympus", "+02:00", "", "../etc/passwd"])
async def test_what_is_no_zone_is_refused_as_by_the_query(served: Served, zone: str) -> None:
    query = "query($zone: String!) { dashboard(timeZone: $zone) { unindexed } }"
    asked = await served.api.refused(query, zone=zone)
    async with watching(served, BOARD, zone=zone) as messages:
        with pytest.raises(TransportQueryError) as refused:
            await anext(messages)
    [error] = refused.value.errors or []
    assert error["extensions"] == asked["extensions"]
    assert (error["message"], error["extensions"]["code"]) == (asked["message"], "INVALID_VALUE")
