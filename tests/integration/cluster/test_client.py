"""What is asked of an API server and what its answers become: over HTTP, with a server that says what a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import (
    ClusterConflict,
    ClusterError,
    ClusterExpired,
    ClusterInvalid,
    ClusterNotFound,
    ClusterRefused,
    ClusterUnavailable,
)
from aegate_core.stores.cluster import ClusterClient, ClusterConnection, RequestSeen
from aegate_core.stores.cluster.connection import Token
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, DEPLOYMENT, POD, SERVICE

KEY = ResourceKey("radiology", "ct1")
Answer = tuple[int, Any]


@dataclass
class Server:
    """Notes each request and answers what `answer` says."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    answer: Callable[[dict[str, Any]], Answer] = lambda asked: (200, {})
    is_silent: bool = False
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.Response:
        raw = await request.read()
        asked = {
            "method": request.method,
            "path": request.path,
            "query": dict(request.query),
            "form": request.headers.get("Content-Type"),
            "token": request.headers.get("Authorization"),
            "body": json.loads(raw) if raw else None,
        }
        self.asked.append(asked)
        if self.is_silent:
            await self.is_over.wait()
        status, body = self.answer(asked)
        if isinstance(body, bytes):
            return web.Response(status=status, body=body)
        return web.json_response(body, status=status)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    server.is_over.set()
    await runner.cleanup()


@asynccontextmanager
async def client_of(
    server: Server,
    *,
    token: Token | None = None,
    seen: list[RequestSeen] | None = None,
    timeout_s: float = 30,
) -> AsyncIterator[ClusterClient]:
    connection = ClusterConnection(server.url, token=token)
    notes = seen if seen is not None else []
    async with ClusterClient(
        connection, manager="aegate-operator", seen=notes.append, timeout_s=timeout_s
    ) as client:
        yield client


async def test_server_side_apply_of_the_whole_object(server: Server) -> None:
    seen: list[RequestSeen] = []
    manifest = {"metadata": {"namespace": "radiology", "name": "ct1"}, "spec": {"replicas": 1}}
    async with client_of(server, seen=seen) as client:
        await client.apply(DEPLOYMENT, manifest)
        await client.apply(APPLICATION_ENTITY, manifest, subresource="status")
    first, second = server.asked
    assert (first["method"], first["path"]) == ("PATCH", "/apis/apps/v1/namespaces/radiology/deployments/ct1")
    assert first["query"] == {"fieldManager": "aegate-operator", "force": "true", "fieldValidation": "Strict"}
    assert first["form"] == "application/apply-patch+yaml"
    assert first["body"] == {"apiVersion": "apps/v1", "kind": "Deployment", **manifest}
    assert second["path"] == "/apis/aegate.dev/v1alpha1/namespaces/radiology/applicationentities/ct1/status"
    assert [(s.verb, s.resource, s.namespace, s.code, s.is_write) for s in seen] == [
        ("patch", "deployments", "radiology", 200, True),
        ("patch", "applicationentities/status", "radiology", 200, True),
    ]


async def test_delete_is_of_that_very_object(server: Server) -> None:
    async with client_of(server) as client:
        await client.delete(SERVICE, KEY, uid="u1", resource_version="7")
    assert server.asked[0]["method"] == "DELETE"
    assert server.asked[0]["body"] == {
        "propagationPolicy": "Background",
        "preconditions": {"uid": "u1", "resourceVersion": "7"},
    }


async def test_merge_create_and_get(server: Server) -> None:
    async with client_of(server) as client:
        await client.merge(POD, KEY, {"metadata": {"uid": "u1"}})
        await client.create(SERVICE, {"metadata": {"namespace": "radiology", "name": "x"}})
        await client.get(POD, KEY)
    assert [(a["method"], a["path"], a["form"]) for a in server.asked] == [
        ("PATCH", "/api/v1/namespaces/radiology/pods/ct1", "application/merge-patch+json"),
        ("POST", "/api/v1/namespaces/radiology/services", "application/json"),
        ("GET", "/api/v1/namespaces/radiology/pods/ct1", None),
    ]


def page(*names: str, token: str = "", version: str = "10") -> Answer:
    items = [{"metadata": {"name": name}} for name in names]
    return 200, {"metadata": {"resourceVersion": version, "continue": token}, "items": items}


async def test_a_list_is_read_in_pages_and_each_item_says_what_it_is(server: Server) -> None:
    pages = {"": page("a", "b", token="t1"), "t1": page("c")}
    server.answer = lambda asked: pages[asked["query"].get("continue", "")]
    seen: list[RequestSeen] = []
    async with client_of(server, seen=seen) as client:
        listing = await client.list(SERVICE, labels="a=b", limit=2)
    assert [item["metadata"]["name"] for item in listing.items] == ["a", "b", "c"]  # type: ignore[index]
    assert {(item["apiVersion"], item["kind"]) for item in listing.items} == {("v1", "Service")}
    assert listing.resource_version == "10"
    assert [a["query"] for a in server.asked] == [
        {"limit": "2", "labelSelector": "a=b"},
        {"limit": "2", "labelSelector": "a=b", "continue": "t1"},
    ]
    assert {(s.verb, s.resource, s.namespace) for s in seen} == {("list", "services", "")}


async def test_a_list_whose_pages_expire_is_begun_anew(server: Server) -> None:
    answers = [page("a", token="t1"), (410, {"reason": "Expired"}), page("b", token="t2"), page("c")]
    server.answer = lambda asked: answers.pop(0)
    async with client_of(server) as client:
        listing = await client.list(SERVICE)
    assert [item["metadata"]["name"] for item in listing.items] == ["b", "c"]  # type: ignore[index]


async def test_a_list_that_expires_again_and_again_is_given_up(server: Server) -> None:
    server.answer = lambda asked: (
        (410, {"reason": "Expired"}) if asked["query"].get("continue") else page("a", token="t")
    )
    async with client_of(server) as client:
        with pytest.raises(ClusterExpired):
            await client.list(SERVICE)
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ClusterInvalid),
        (401, ClusterRefused),
        (403, ClusterRefused),
        (404, ClusterNotFound),
        (409, ClusterConflict),
        (410, ClusterExpired),
        (418, ClusterError),
        (422, ClusterInvalid),
        (429, ClusterUnavailable),
        (500, ClusterUnavailable),
        (503, ClusterUnavailable),
        (504, ClusterUnavailable),
    ],
)
async def test_a_refusal_keeps_the_servers_words(
    server: Server, status: int, kind: type[ClusterError]
) -> None:
    server.answer = lambda asked: (
        status,
        {"kind": "Status", "reason": "Word", "message": "exceeded quota: few"},
    )
    async with client_of(server) as client:
        with pytest.raises(ClusterError) as caught:
            await client.get(SERVICE, KEY)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.reason) == (status, "Word")
    assert caught.value.message == "read Service radiology/ct1: exceeded quota: few"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'"text"', b"\xff\xfe"])
async def test_an_answer_that_is_no_object_is_no_answer(server: Server, body: bytes) -> None:
    server.answer = lambda asked: (200, body)
    async with client_of(server) as client:
        with pytest.raises(
            ClusterUnavailable, match="read Service radiology/ct1: the answer must be an object"
        ):
            await client.get(SERVICE, KEY)
    server.answer = lambda asked: (503, body)
    async with client_of(server) as client:
        with pytest.raises(ClusterUnavailable, match="HTTP 503"):
            await client.get(SERVICE, KEY)


async def test_a_server_that_says_nothing_is_not_waited_for(server: Server) -> None:
    server.is_silent = True
    seen: list[RequestSeen] = []
    async with client_of(server, seen=seen, timeout_s=0.1) as client:
        with pytest.raises(ClusterUnavailable, match="does not answer"):
            await client.get(SERVICE, KEY)
    assert [s.code for s in seen] == [0]


async def test_nobody_listens(free_port: int) -> None:
    async with client_of(Server(url=f"http://127.0.0.1:{free_port}")) as client:
        with pytest.raises(ClusterUnavailable, match="does not answer"):
            await client.get(SERVICE, KEY)


async def test_a_renewed_token_is_read_when_the_old_one_is_refused(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    server.answer = lambda asked: (200, {}) if asked["token"] == "Bearer new" else (401, {})
    async with client_of(server, token=Token(file=file)) as client:
        with pytest.raises(ClusterRefused):
            await client.get(SERVICE, KEY)
        file.write_text("new\n")
        await client.get(SERVICE, KEY)
    assert [a["token"] for a in server.asked] == ["Bearer old"] * 3 + ["Bearer new"]
