"""The subscription operations: what goes on, then how far it gets, on every replica and over both transports."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from aegate_graphql_api.operating import carry_on
from aegate_graphql_api.reach import Reach
from aegate_graphql_api.schema.node import global_id
from aegate_graphql_api.tokens import create_token
from tests.integration.api.clients import API, fill
from tests.integration.api.many_items import copy_item
from tests.integration.api.serving import Served, rules_of, served_api
from tests.integration.api.test_live import watching
from tests.integration.api.test_operations import MANY, SCHEDULED, change

DOCUMENT = """subscription($where: OperationWatch) { operations(where: $where) {
  snapshot nodes { id action state processed total requestedBy } } }"""


@asynccontextmanager
async def events(served: Served, token: str, where: dict[str, Any]) -> AsyncIterator[AsyncIterator[Any]]:
    """Subscribe by server-sent events."""
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    body = {"query": DOCUMENT, "variables": {"where": where}}
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream("POST", served.http, json=body, headers=headers) as answer,
    ):
        assert answer.status_code == 200

        async def messages() -> AsyncIterator[Any]:
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))["data"]["operations"]

        yield messages()


async def until(messages: Any, state: str) -> dict[str, Any]:
    """Return the message that tells of the state; all before it are no snapshots."""
    while True:
        message = await anext(messages)
        told: dict[str, Any] = message.get("operations", message)
        assert told["snapshot"] is False
        if told["nodes"][0]["state"] == state:
            return told


async def test_progress_is_told_by_every_replica_to_its_end(served: Served) -> None:
    api = served.api
    await _fill(served)
    async with served_api(api) as other, watching(served, DOCUMENT) as messages:
        assert (await anext(messages))["operations"] == {"snapshot": True, "nodes": []}
        async with events(other, api.queue, {"mine": False}) as beside:
            assert await anext(beside) == {"snapshot": True, "nodes": []}
            begun = await change(api, "holdQueueItems", SCHEDULED, expectedCount=MANY, idempotencyKey="one")
            id = begun["operation"]["id"]
            for told in (await until(messages, "SCHEDULED"), await until(beside, "SCHEDULED")):
                [node] = told["nodes"]
                assert (node["id"], node["processed"], node["total"]) == (id, 0, MANY)
                assert (node["action"], node["requestedBy"]) == ("holdQueueItems", "both")
            assert await carry_on(api.db, 200)
            for told in (await until(messages, "RUNNING"), await until(beside, "RUNNING")):
                assert told["nodes"][0]["processed"] == 200
            while await carry_on(api.db, 200):
                pass
            for told in (await until(messages, "COMPLETED"), await until(beside, "COMPLETED")):
                assert told["nodes"][0]["processed"] == MANY
        async with watching(served, DOCUMENT, where={"ids": [id]}) as again:
            snapshot = (await anext(again))["operations"]
            assert [(n["id"], n["state"]) for n in snapshot["nodes"]] == [(id, "COMPLETED")]


async def test_who_sees_other_rows_or_asks_for_their_own_is_told_of_no_other(served: Served) -> None:
    api = served.api
    await _fill(served)
    tokens = api.tokens
    elsewhere = create_token(
        tokens, "elsewhere", ["DICOM_QUEUE"], reach=Reach(partitions=frozenset({"south/main"}))
    )
    async with (
        watching(served, DOCUMENT, token=elsewhere) as theirs,
        watching(served, DOCUMENT, token=api.queue, where={"mine": True}) as mine,
        watching(served, DOCUMENT) as everybodys,
    ):
        for messages in (theirs, mine, everybodys):
            assert (await anext(messages))["operations"] == {"snapshot": True, "nodes": []}
        begun = await change(api, "holdQueueItems", SCHEDULED, expectedCount=MANY, idempotencyKey="one")
        while await carry_on(api.db):
            pass
        await until(everybodys, "COMPLETED")
        # What is theirs comes after what is not: so that was not told.
        await api.db.execute("UPDATE operation SET actor = 'queue-only', processed = processed - 1")
        [node] = (await anext(mine))["operations"]["nodes"]
        assert (node["id"], node["requestedBy"], node["processed"]) == (
            begun["operation"]["id"],
            "queue-only",
            MANY - 1,
        )
        await api.db.execute("UPDATE operation_partition SET partition = 'south/main'")
        await api.db.execute("UPDATE operation SET processed = processed + 1")
        [node] = (await anext(theirs))["operations"]["nodes"]
        assert node["processed"] == MANY


async def test_ids_of_others_are_as_if_they_were_not_there(served: Served) -> None:
    where = {"ids": [str(global_id("Operation", 999))]}
    async with watching(served, DOCUMENT, where=where) as messages:
        assert (await anext(messages))["operations"] == {"snapshot": True, "nodes": []}


async def _fill(served: Served) -> None:
    await fill(served.api.place)
    await copy_item(served.api.db, MANY - 2)


async def test_a_costly_stream_is_told_later_and_all_that_happened_until_then(empty_api: API) -> None:
    await fill(empty_api.place)
    document = """subscription($where: QueueWatch) {
      queue(where: $where, first: 1) { snapshot left nodes { id state priority sourceAe destinationAe partition } } }"""
    where = {"destinations": ["default/pacs"]}
    # To begin costs 10, and there is 4: the rate takes three seconds to bring the rest.
    async with (
        served_api(empty_api, rules=rules_of(empty_api, rate=2)) as served,
        watching(served, document, where=where) as messages,
    ):
        assert (await anext(messages))["queue"]["snapshot"] is True
        await empty_api.db.execute("UPDATE delivery SET priority = 1")
        told = asyncio.ensure_future(anext(messages))
        await asyncio.wait({told}, timeout=0.5)
        assert not told.done()
        await empty_api.db.execute("UPDATE delivery SET priority = 2")
        update = (await told)["queue"]
        assert (update["snapshot"], [n["priority"] for n in update["nodes"]]) == (False, [2])
