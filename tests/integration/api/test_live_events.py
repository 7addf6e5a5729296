"""Server-sent events (GraphQL over SSE, distinct connections), and that streams show only what the caller may see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from aegate_core.services.studies import close_due
from aegate_graphql_api.limits import MAX_COST
from aegate_graphql_api.live.hub import POLL_S
from aegate_graphql_api.live.streams import StreamLimits
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import Caller
from aegate_graphql_api.plain_lists import reader
from aegate_graphql_api.tokens import create_token, revoke_token
from tests.dicom import ct_study
from tests.integration.api.clients import API, BEFORE
from tests.integration.api.serving import Served, rules_of, served_api
from tests.integration.api.test_live import watching
from tests.integration.intake.hospital import HOSPITAL, entity
from tests.integration.waiting import eventually_async, pass_turns, take_s

WATCH = "subscription { queue { snapshot } }"
ARRIVALS = "subscription { studyArrived { snapshot nodes { study { partition } } } }"
COST = {"cost": {"requested": 2, "limit": MAX_COST}}
Event = tuple[str, Any]


@asynccontextmanager
async def stream(
    served: Served, query: str, *, token: str | None = None
) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[Event]]]:
    headers = {"Authorization": f"Bearer {token or served.api.both}", "Accept": "text/event-stream"}
    async with (
        httpx.AsyncClient(timeout=20) as client,
        client.stream("POST", served.http, json={"query": query}, headers=headers) as response,
    ):
        yield response, events(response)


async def events(response: httpx.Response) -> AsyncIterator[Event]:
    """Yield (event, data); a comment as ("", None), a hint as ("retry", its milliseconds)."""
    name = ""
    async for line in response.aiter_lines():
        field, _, value = line.partition(":")
        if line == ":":
            yield "", None
        elif field == "retry":
            yield "retry", int(value)
        elif field == "event":
            name = value.strip()
        elif field == "data":
            yield name, json.loads(value) if value.strip() else None


async def test_events_carry_a_snapshot_then_changes(served: Served) -> None:
    async with stream(served, ARRIVALS) as (response, told):
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        assert await anext(told) == ("next", {"data": {"studyArrived": {"snapshot": True, "nodes": []}}})
        served.api.place.receive_all(ct_study("one", 1), "ct1", BEFORE)
        await served.api.place.index(BEFORE)
        nodes = [{"study": {"partition": "default/default"}}]
        expected = {"data": {"studyArrived": {"snapshot": False, "nodes": nodes}}}
        assert await anext(told) == ("next", expected)
    await eventually_async(lambda: served.live.streams.count == 0, what="the stream is given back")


async def test_what_is_no_stream_is_answered_as_one_and_refusals_are_told(served: Served) -> None:
    async with stream(served, "{ viewer { name } }") as (_, told):
        assert [e async for e in told] == [
            ("next", {"data": {"viewer": {"name": "both"}}, "extensions": COST}),
            ("complete", None),
        ]
    forbidden = "subscription { applicationEntityStatus { cursor } }"
    for query, code in (
        (forbidden, "FORBIDDEN"),
        ("{ b }", "INVALID_QUERY"),
    ):
        async with stream(served, query, token=served.api.queue) as (_, told):
            [(name, answer), last] = [e async for e in told]
            assert (name, last) == ("next", ("complete", None))
            assert [e["extensions"]["code"] for e in answer["errors"]] == [code]
    async with stream(served, WATCH, token="wrong") as (response, _):
        assert response.status_code == 401


async def test_one_answer_goes_as_json_to_clients_that_take_that_too(served: Served) -> None:
    accepted = "application/graphql-response+json, application/json, text/event-stream, multipart/mixed"
    headers = {"Authorization": f"Bearer {served.api.both}", "Accept": accepted}
    async with httpx.AsyncClient(timeout=20, headers=headers) as client:
        asked = await client.post(served.http, json={"query": "{ viewer { name } }"})
        assert asked.headers["content-type"] == "application/json"
        assert asked.json()["data"] == {"viewer": {"name": "both"}}
        changed = await client.post(
            served.http, json={"query": 'mutation { holdDestination(id: "x") { __typename } }'}
        )
        assert changed.json()["data"] == {"holdDestination": {"__typename": "NotFoundProblem"}}
        async with client.stream("POST", served.http, json={"query": WATCH}) as told:
            assert told.headers["content-type"].startswith("text/event-stream")
            assert (await anext(events(told)))[1] == {"data": {"queue": {"snapshot": True}}}
    assert served.live.rules.door._inside == {}


async def test_snapshot_that_takes_too_long_ends_with_the_limit(empty_api: API) -> None:
    rules = rules_of(empty_api, operation_s=1e-6)
    async with served_api(empty_api, rules=rules) as served, stream(served, WATCH) as (_, told):
        [(_, answer), last] = [e async for e in told]
        assert last == ("complete", None)
        assert answer["errors"][0]["extensions"]["code"] == "TIME_LIMIT"


async def test_subscription_without_a_stream_is_refused(served: Served) -> None:
    assert (await served.api.refused(WATCH))["extensions"]["code"] == "BAD_REQUEST"


async def test_silence_is_filled_expiry_and_revocation_end_it(empty_api: API) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=4)
    short = create_token(empty_api.tokens, "short-lived", ["DICOM_QUEUE"], expires_at=soon)
    limits = StreamLimits(keepalive_s=0.1, recheck_s=0.1)
    async with (
        served_api(empty_api, limits) as served,
        stream(served, WATCH, token=short) as (_, expiring),
        stream(served, WATCH, token=served.api.queue) as (_, revoked),
    ):
        for told in (expiring, revoked):
            heard: set[str] = set()
            while heard != {"next", ""}:
                heard.add((await anext(told))[0])
        revoke_token(empty_api.tokens, "queue-only")
        for told in (revoked, expiring):
            (_, answer), last = [e async for e in told if e != ("", None)]
            assert last == ("complete", None)
            assert answer["errors"][0]["extensions"] == {"code": "UNAUTHENTICATED"}


async def test_server_that_stops_ends_the_stream_with_a_hint(served: Served) -> None:
    async with stream(served, WATCH) as (_, told):
        await anext(told)
        draining = asyncio.create_task(served.live.streams.drain(5))
        (hint, milliseconds), (_, answer), last = [e async for e in told]
        assert (hint, last) == ("retry", ("complete", None))
        extensions = answer["errors"][0]["extensions"]
        assert extensions == {"code": "SERVER_STOPPING", "retryAfterMs": milliseconds}
        assert 500 <= milliseconds < 2000
        await draining
    async with stream(served, WATCH) as (response, _):
        assert response.status_code == 503
        assert 1 <= int(response.headers["retry-after"]) <= 2


async def test_streams_of_a_caller_are_bounded(empty_api: API) -> None:
    async with (
        served_api(empty_api, StreamLimits(by_caller=1)) as served,
        stream(served, WATCH) as (_, told),
    ):
        await anext(told)
        async with stream(served, WATCH) as (response, _):
            assert response.status_code == 429
            body = json.loads(await response.aread())
            extensions = body["errors"][0]["extensions"]
            del extensions["retryAfterMs"]
            assert extensions == {"code": "TOO_MANY_STREAMS", "limit": 1, "used": 2}
        async with stream(served, WATCH, token=served.api.queue) as (response, _):
            assert response.status_code == 200


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("queue(first: 101) { snapshot }", "INVALID_VALUE"),
        ("queue(where: {destinations: LIST}) { snapshot }", "BAD_FILTER"),
        ("operations(where: {ids: LIST}) { snapshot }", "BAD_FILTER"),
    ],
)
async def test_what_is_asked_of_a_stream_has_limits_that_are_named(
    served: Served, asked: str, code: str
) -> None:
    asked = asked.replace("LIST", "[" + ", ".join(['"default/pacs"'] * 101) + "]")
    async with stream(served, f"subscription {{ {asked} }}") as (_, told):
        (_, answer), _ = [event async for event in told]
        assert answer["errors"][0]["extensions"] == {"code": code, "limit": 100, "used": 101}


class OnePartition:
    """Lets everybody in as a caller of one partition and one namespace; the token names both."""

    local_only = True

    async def authenticate(self, token: str, *, address: str) -> Caller | None:
        partition, _, namespace = token.partition("+")
        return Caller(
            token,
            frozenset(Permission),
            partitions=frozenset({partition}),
            namespaces=frozenset({namespace}),
        )


SEEN = (
    "subscription { studyArrived { nodes { study { partition } } } }",
    "subscription { queue { nodes { partition } left } }",
    "subscription { applicationEntityStatus { nodes { name } removed } }",
    "subscription { dashboard { counts { state count } } }",
)


@pytest.mark.parametrize("query", SEEN)
async def test_streams_hold_only_what_the_caller_may_see(empty_api: API, query: str) -> None:
    place = empty_api.place
    async with (
        served_api(empty_api, authenticator=OnePartition()) as served,
        stream(served, query, token="default/default+default") as (_, mine),
        stream(served, query, token="default/other+elsewhere") as (_, theirs),
    ):
        await anext(mine)
        await anext(theirs)
        await place.apply(*HOSPITAL, entity("ct2"))
        place.receive_all(ct_study("one", 1), "ct1", BEFORE)
        await place.index(BEFORE)
        await place.db.execute("UPDATE indexer_state SET scanned_at = $1", datetime.now(UTC))
        await close_due(place.db, now=BEFORE + timedelta(minutes=30))
        told = await anext(mine)
        assert told[0] == "next" and "errors" not in told[1]
        await take_s(POLL_S * 2)  # what mine was told, theirs would have been told by now
        nothing = asyncio.ensure_future(anext(theirs))
        await pass_turns(10)
        assert not nothing.done()
        nothing.cancel()
        await asyncio.gather(nothing, return_exceptions=True)


@pytest.mark.parametrize("is_fast", [True, False])
async def test_fast_lists_are_switched_off_for_streams_too(api: API, is_fast: bool) -> None:
    document = "subscription { queue { nodes { id state } } }"
    async with served_api(api, rules=rules_of(api, fast_lists=is_fast)) as served:
        reader.cache_clear()  # it is asked for by the short way alone
        async with stream(served, document) as (_, told):
            name, answer = await anext(told)
            assert (name, len(answer["data"]["queue"]["nodes"])) == ("next", 2)
        assert (reader.cache_info().currsize > 0) is is_fast, "server-sent events"
        reader.cache_clear()
        async with watching(served, document) as messages:
            assert len((await anext(messages))["queue"]["nodes"]) == 2
        assert (reader.cache_info().currsize > 0) is is_fast, "WebSockets"
