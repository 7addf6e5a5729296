"""Several API processes over one database: what one changes the other tells; SIGTERM ends streams with a hint."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path
from typing import Any, cast

from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from aegate_graphql_api.tokens import create_token
from tests.integration.api.clients import API
from tests.integration.api.test_process import api_process

QUEUE = "subscription { queue { snapshot nodes { id state } left } }"
CANCEL = """mutation($ids: [ID!]!) { cancelQueueItems(selection: {ids: $ids}) {
  ... on QueueItemsChanged { changedCount } } }"""


async def watch(port: int, token: str, ready: asyncio.Event) -> list[dict[str, Any]]:
    """Watch the queue until two items left it; return all messages."""
    transport = WebsocketsTransport(
        url=f"ws://127.0.0.1:{port}/graphql",
        init_payload={"Authorization": f"Bearer {token}"},
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
    )
    messages: list[dict[str, Any]] = []
    async with Client(transport=transport) as session:
        async for message in session.subscribe(gql(QUEUE)):
            messages.append(message["queue"])
            ready.set()
            if sum(len(m["left"]) for m in messages) == 2:
                break
    return messages


async def test_what_one_process_changes_all_tell_and_a_stop_says_when_to_come_back(
    api: API, database_url: str, tmp_path: Path
) -> None:
    token = create_token(tmp_path / "tokens.json", "watcher", ["DICOM_QUEUE"])
    with (
        api_process(tmp_path, database_url, "one") as (one, first),
        api_process(tmp_path, database_url, "two") as (two, _),
    ):
        ports = [cast("int", client.base_url.port) for client in (one, two)]
        readies = [asyncio.Event(), asyncio.Event()]
        watching = [
            asyncio.create_task(watch(p, token, ready)) for p, ready in zip(ports, readies, strict=True)
        ]
        for ready in readies:
            await ready.wait()
        items = (await api.ask("{ queueItems { nodes { id } } }"))["queueItems"]["nodes"]
        ids = [item["id"] for item in items]
        body = {"query": CANCEL, "variables": {"ids": ids}}
        headers = {"Authorization": f"Bearer {token}"}
        answer = await asyncio.to_thread(one.post, "/graphql", json=body, headers=headers)
        assert answer.json()["data"] == {"cancelQueueItems": {"changedCount": 2}}
        for messages in await asyncio.gather(*watching):
            assert [m["snapshot"] for m in messages][:2] == [True, False]
            assert sorted(n["id"] for n in messages[0]["nodes"]) == sorted(ids)
            assert sorted(i for m in messages for i in m["left"]) == sorted(ids)

        protocol = [Subprotocol("graphql-transport-ws")]
        async with connect(f"ws://127.0.0.1:{ports[0]}/graphql", subprotocols=protocol) as opened:
            child = cast("subprocess.Popen[bytes]", first)
            child.send_signal(signal.SIGTERM)
            try:
                await opened.recv()
                raise AssertionError("the server says nothing but good-bye")
            except ConnectionClosed as closed:
                assert closed.rcvd is not None
                assert closed.rcvd.code == 1012
                assert "retryAfterMs=" in closed.rcvd.reason
        await asyncio.to_thread(child.wait, 30)
    assert token not in (tmp_path / "one.log").read_text()
