"""graphql-transport-ws at its edges: bounds, expiry, the end of the server. What is said wrongly: live_attacks.py."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket as socket_module
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from aegate_core.errors import StorageError
from aegate_graphql_api.live.streams import TOO_SLOW, StreamLimits
from aegate_graphql_api.patient_data import AccessLog
from aegate_graphql_api.permissions import Caller
from aegate_graphql_api.policy import Policy
from aegate_graphql_api.rules import Rules
from aegate_graphql_api.tokens import create_token, revoke_token
from tests.integration.api.clients import API
from tests.integration.api.serving import Served, rules_of, served_api
from tests.integration.intake.hospital import entity
from tests.integration.waiting import eventually_async

PROTOCOL = "graphql-transport-ws"
WATCH = {"query": "subscription { queue { snapshot } }"}


@asynccontextmanager
async def socket(
    served: Served,
    *,
    protocol: str | None = PROTOCOL,
    sock: socket_module.socket | None = None,
    **headers: str,
) -> AsyncIterator[ClientConnection]:
    protocols = None if protocol is None else [Subprotocol(protocol)]
    async with connect(
        served.ws, subprotocols=protocols, additional_headers=headers, ping_interval=None, sock=sock
    ) as opened:
        yield opened


async def say(opened: ClientConnection, **message: object) -> None:
    await opened.send(json.dumps(message))


async def hear(opened: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await opened.recv())
    return message


async def welcome(opened: ClientConnection, token: str) -> None:
    await say(opened, type="connection_init", payload={"authorization": f"bearer {token}"})
    assert await hear(opened) == {"type": "connection_ack"}


async def closing(opened: ClientConnection) -> tuple[int, str]:
    """Return code and reason with which the server closes, whatever it says before."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            await opened.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


@pytest.mark.parametrize("protocol", [PROTOCOL, "graphql-ws"])
async def test_refused_connection_gives_its_place_back(served: Served, protocol: str) -> None:
    async with socket(served, protocol=protocol) as opened:
        if protocol == PROTOCOL:
            await say(opened, type="next")
        assert (await closing(opened))[0] == (4401 if protocol == PROTOCOL else 4406)
    await eventually_async(lambda: served.live.streams.count == 0)


async def test_id_is_free_again_once_its_operation_ended(served: Served) -> None:
    async with socket(served) as opened:
        await welcome(opened, served.api.queue)
        await say(opened, type="subscribe", id="1", payload=None)
        assert (await hear(opened))["type"] == "error"
        for _ in range(2):
            await say(opened, type="subscribe", id="1", payload=WATCH)
            answer = await hear(opened)
            assert answer == {"type": "next", "id": "1", "payload": {"data": {"queue": {"snapshot": True}}}}
            await say(opened, type="complete", id="1")


async def test_an_operation_too_many_says_how_many_there_may_be(served: Served) -> None:
    async with socket(served) as opened:
        await welcome(opened, served.api.queue)
        for n in range(21):
            await say(opened, type="subscribe", id=str(n), payload=WATCH)
        answers = [await hear(opened) for _ in range(21)]
        [refused] = [a for a in answers if a["type"] == "error"]
        assert refused["payload"][0]["extensions"] == {"code": "TOO_MANY_STREAMS", "limit": 20, "used": 21}


async def test_pages_of_the_server_itself_may_come(served: Served) -> None:
    async with socket(served, Origin=f"http://127.0.0.1:{served.port}") as opened:
        await welcome(opened, served.api.queue)


async def test_pages_of_named_origins_may_come(empty_api: API) -> None:
    async with (
        served_api(empty_api, rules=rules_of(empty_api, origins=("https://pacs.example",))) as served,
        socket(served, Origin="https://pacs.example") as opened,
    ):
        await welcome(opened, served.api.queue)


async def test_silent_connection_is_closed_in_time(empty_api: API) -> None:
    async with served_api(empty_api, StreamLimits(init_s=0.2)) as served, socket(served) as opened:
        assert (await closing(opened))[0] == 4408


async def test_expiry_and_revocation_of_the_token_end_the_connection(empty_api: API) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=4)
    token = create_token(empty_api.tokens, "short-lived", ["DICOM_QUEUE"], expires_at=soon)
    async with (
        served_api(empty_api, StreamLimits(recheck_s=0.1)) as served,
        socket(served) as short,
        socket(served) as revoked,
        socket(served) as good,
    ):
        await welcome(short, token)
        await say(short, type="subscribe", id="1", payload=WATCH)
        await welcome(revoked, served.api.queue)
        await say(revoked, type="subscribe", id="1", payload=WATCH)
        await welcome(good, served.api.both)
        revoke_token(empty_api.tokens, "queue-only")
        code, reason = await closing(revoked)
        assert (code, reason[:15]) == (4403, "UNAUTHENTICATED")
        assert (await closing(short))[0] == 4403
        await say(good, type="ping")
        assert await hear(good) == {"type": "pong"}


async def test_connections_are_bounded_in_all_by_caller_and_before_they_say_who_they_are(
    empty_api: API,
) -> None:
    async with served_api(empty_api, StreamLimits(in_all=4, by_caller=2, unknown=1)) as served:
        async with socket(served), socket(served) as second:
            code, reason = await closing(second)
            assert (code, "TOO_MANY_STREAMS: retryAfterMs=" in reason) == (1013, True)
            assert "the server may have 1" in reason
        await eventually_async(lambda: served.live.streams.count == 0)
        async with socket(served) as first, socket_after(served, first) as second:
            await welcome(second, served.api.queue)
            async with socket(served) as third:
                await say(
                    third, type="connection_init", payload={"authorization": f"Bearer {served.api.queue}"}
                )
                assert (await closing(third))[0] == 1013
            async with socket(served) as another:
                await welcome(another, served.api.both)
        await eventually_async(lambda: served.live.streams.count == 0)
        assert served.live.streams.by_caller == {}


@asynccontextmanager
async def socket_after(served: Served, first: ClientConnection) -> AsyncIterator[ClientConnection]:
    """Connect once the first one has said who it is."""
    await welcome(first, served.api.queue)
    async with socket(served) as opened:
        yield opened


async def test_who_does_not_read_is_cut_with_a_reason(empty_api: API) -> None:
    await empty_api.place.apply(*(entity(f"ct{n}", comment="x" * 1000) for n in range(300)))
    payload = {"query": "subscription { applicationEntityStatus { nodes { spec comment } } }"}
    async with served_api(empty_api, StreamLimits(send_s=0.5)) as served:
        narrow = socket_module.create_connection(("127.0.0.1", served.port))
        narrow.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_RCVBUF, 65_536)
        narrow.setblocking(False)
        async with socket(served, sock=narrow) as opened, socket(served) as good:
            await welcome(opened, served.api.both)
            await welcome(good, served.api.both)
            opened.transport.pause_reading()
            for n in range(20):  # some 15 MB, more than the buffers of two sockets hold
                await say(opened, type="subscribe", id=str(n), payload=payload)
            await eventually_async(lambda: stopped_sending(served), deadline_s=20, what="it is cut")
            await say(good, type="ping")
            assert await hear(good) == {"type": "pong"}
            opened.transport.resume_reading()
            code, reason = await closing(opened)
            assert (code, "were not read in time" in reason) == (4410, True)


def stopped_sending(served: Served) -> bool:
    return any(stream.ending is TOO_SLOW for stream in served.live.streams._open)


class Away:
    """An authenticator whose identity provider does not answer."""

    local_only = True

    async def authenticate(self, token: str, *, address: str) -> Caller | None:
        raise StorageError("the identity provider does not answer: try again")


async def test_who_cannot_be_asked_for_now_is_told_to_come_back(empty_api: API) -> None:
    async with served_api(empty_api, authenticator=Away()) as served, socket(served) as opened:
        await say(opened, type="connection_init", payload={"authorization": "Bearer x"})
        code, reason = await closing(opened)
        assert (code, reason.startswith("UNAVAILABLE: retryAfterMs=")) == (1013, True)


async def test_operation_that_cannot_begin_is_answered(served: Served) -> None:
    async with socket(served) as opened:
        await welcome(opened, served.api.queue)
        await served.api.db.execute("ALTER TABLE change RENAME TO change_away")
        try:
            await say(opened, type="subscribe", id="1", payload=WATCH)
            answer = await hear(opened)
        finally:
            await served.api.db.execute("ALTER TABLE change_away RENAME TO change")
        assert answer["id"] == "1"
        payload = answer["payload"]
        [error] = payload if answer["type"] == "error" else payload["errors"]
        assert error["extensions"]["code"] == "UNAVAILABLE"


async def test_only_trusted_documents_run_where_no_others_may(empty_api: API, tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "watch.graphql").write_text(WATCH["query"])
    rules = rules_of(empty_api, documents=tmp_path / "documents", only_trusted=True, introspection=False)
    trusted = {"documentId": f"sha256:{hashlib.sha256(WATCH['query'].encode()).hexdigest()}"}
    async with served_api(empty_api, rules=rules) as served, socket(served) as opened:
        await welcome(opened, served.api.queue)
        for id, payload in (
            ("1", WATCH | {"query": WATCH["query"] + " "}),
            ("2", {"documentId": "sha256:0"}),
        ):
            await say(opened, type="subscribe", id=id, payload=payload)
            answer = await hear(opened)
            assert (answer["id"], answer["type"]) == (id, "error")
            expected = "DOCUMENT_NOT_TRUSTED" if id == "1" else "DOCUMENT_NOT_FOUND"
            assert answer["payload"][0]["extensions"]["code"] == expected
        variables = {k: v for k, v in WATCH.items() if k != "query"}
        await say(opened, type="subscribe", id="3", payload=trusted | variables)
        assert (await hear(opened))["type"] == "next"


async def test_subscriptions_cost_a_caller_what_other_operations_cost(empty_api: API) -> None:
    rules = rules_of(empty_api, rate=1)
    async with served_api(empty_api, rules=rules) as served, socket(served) as opened:
        await welcome(opened, served.api.queue)
        for id in range(8):  # each costs more than flows in while it is answered
            await say(opened, type="subscribe", id=str(id), payload=WATCH)
            while (answer := await hear(opened))["id"] != str(id):
                pass
            if answer["type"] == "error":
                break
        assert id > 0
        assert answer["payload"][0]["extensions"]["code"] == "RATE_LIMITED"
        assert answer["payload"][0]["extensions"]["retryAfterSeconds"] >= 1


async def test_fault_of_ours_closes_the_connection_instead_of_leaving_it_silent(served: Served) -> None:
    class Broken(Rules):
        def operation_of(self, asked: object) -> dict[str, Any]:
            return {"query": object()}

    rules = Broken(Policy(), AccessLog(served.api.db))
    async with served_api(served.api, rules=rules) as other, socket(other) as opened:
        await welcome(opened, served.api.queue)
        await say(opened, type="subscribe", id="1", payload=WATCH)
        code, reason = await closing(opened)
        assert (code, reason.startswith("INTERNAL: ")) == (4500, True)


async def test_server_that_stops_says_so_and_when_to_come_back(served: Served) -> None:
    async with socket(served) as opened, socket(served) as silent:
        await welcome(opened, served.api.queue)
        await say(opened, type="subscribe", id="1", payload=WATCH)
        await hear(opened)
        draining = asyncio.create_task(served.live.streams.drain(5))
        for one in (opened, silent):
            code, reason = await closing(one)
            assert (code, reason.startswith("SERVER_STOPPING: retryAfterMs=")) == (1012, True)
        await draining
        async with socket(served) as late:
            assert (await closing(late))[0] == 1012
