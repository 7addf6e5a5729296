"""Many come back at once, as after a restart: each gets its snapshot, and others are answered meanwhile."""

from __future__ import annotations

import asyncio
import json
import time

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.integration.api.serving import Served
from tests.integration.waiting import eventually_async

MANY = 150
WATCH = {"query": "subscription { queue { snapshot cursor } }"}


async def comes_back(served: Served) -> dict[str, object]:
    """Connect, subscribe, and return the first message."""
    protocols = [Subprotocol("graphql-transport-ws")]
    async with connect(served.ws, subprotocols=protocols, compression=None, open_timeout=60) as opened:
        token = {"authorization": f"Bearer {served.api.queue}"}
        await opened.send(json.dumps({"type": "connection_init", "payload": token}))
        await opened.send(json.dumps({"type": "subscribe", "id": "1", "payload": WATCH}))
        assert json.loads(await opened.recv()) == {"type": "connection_ack"}
        message: dict[str, object] = json.loads(await opened.recv())["payload"]["data"]["queue"]
        return message


async def test_all_who_come_back_at_once_get_their_snapshot_and_others_are_answered(served: Served) -> None:
    storm = [asyncio.create_task(comes_back(served)) for _ in range(MANY)]
    waited: list[float] = []
    while not all(task.done() for task in storm):
        began = time.monotonic()
        assert await served.api.ask("{ viewer { name } }") == {"viewer": {"name": "both"}}
        waited.append(time.monotonic() - began)
        await asyncio.wait(storm, timeout=0.1)
    assert [task.result()["snapshot"] for task in storm] == [True] * MANY
    assert max(waited) < 10
    await eventually_async(lambda: served.live.streams.count == 0, what="all places are given back")
