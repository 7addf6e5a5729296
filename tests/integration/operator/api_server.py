"""An API server over HTTP, small enough to be told to misbehave: list, watch with bookmarks, apply, delete.

Beneath it is the fake of the unit tests. What only a real one shows (fields and their owners, defaults, garbage) is
tested in ``tests/cluster``; here a watch falls silent, a history is compacted, a server goes away and comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterError
from aegate_core.stores.cluster.client import NEVER, Manifest, key_of
from aegate_core.stores.cluster.kinds import EVENT, Kind
from aegate_operator.cache import WATCHED
from tests.integration.processes import free_port
from tests.unit.operator.fake_cluster import FakeCluster

BOOKMARK_EVERY_S = 0.2
_OF_KOPF = (
    Kind("v1", "Namespace", "namespaces"),
    Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions"),
)
"""kopf does not begin before it knows that these exist; it reads none of them."""
KINDS = {(kind.group, kind.plural): kind for kind in (*WATCHED, EVENT, *_OF_KOPF)}


@dataclass
class Change:
    version: int
    kind: Kind
    event: str
    manifest: Manifest


@dataclass
class ApiServer:
    """Answers on one port of the loopback while it is up."""

    cluster: FakeCluster = field(default_factory=FakeCluster)
    port: int = field(default_factory=free_port)
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By verb and resource."""
    is_mute: bool = False
    """Watches are open and say nothing more, not even bookmarks; nothing is lost of the history."""
    compacted: int = 0
    """Whoever asks for what happened before that version gets 410."""
    history: list[Change] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _runner: web.AppRunner | None = None
    _watches: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def writes(self) -> int:
        """How many requests were no reads."""
        return sum(
            n for (verb, _), n in self.requests.items() if verb not in ("list", "watch", "get", "discover")
        )

    async def start(self) -> None:
        self.cluster.saw = self._note
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def stop(self) -> None:
        """Go away: connections break, nobody listens any more."""
        self.cut()
        if self._runner is not None:
            await self._runner.cleanup()

    def cut(self) -> None:
        """End every open watch."""
        for watch in self._watches:
            watch.cancel()

    def compact(self) -> None:
        """Forget everything that happened so far, and end every watch: they have to list again."""
        self.compacted = int(self.history[-1].version) if self.history else 0
        self.cut()

    def _note(self, kind: Kind, event: str, manifest: Manifest) -> None:
        version = int(manifest["metadata"]["resourceVersion"])  # type: ignore[index]
        if event == "DELETED":
            version = self._next_version()
            manifest["metadata"]["resourceVersion"] = str(version)  # type: ignore[index]
        self.history.append(Change(version, kind, event, manifest))

    def _next_version(self) -> int:
        return next(self.cluster._versions)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.strip("/").split("/")
        group, rest = ("", parts[2:]) if parts[0] == "api" else ("/".join(parts[1:2]), parts[3:])
        if not rest:
            self.requests["discover", ""] += 1
            return web.json_response(_discovery(parts))
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        kind = KINDS[group, rest[0]]
        try:
            if len(rest) == 1 and request.method == "GET":
                return await self._list_or_watch(request, kind, namespace)
            return await self._object(
                request, kind, ResourceKey(namespace, rest[1] if rest[1:] else ""), *rest[2:]
            )
        except ClusterError as error:
            status = error.status or 500
            return web.json_response(
                {"kind": "Status", "message": error.message, "code": status}, status=status
            )

    async def _object(
        self, request: web.Request, kind: Kind, key: ResourceKey, subresource: str = ""
    ) -> web.Response:
        verb = {"GET": "get", "PATCH": "patch", "POST": "create", "DELETE": "delete"}[request.method]
        self.requests[verb, f"{kind.plural}/{subresource}".rstrip("/")] += 1
        body = json.loads(await request.read() or b"{}")
        if verb == "get":
            return web.json_response(await self.cluster.get(kind, key))
        if verb == "create":
            return web.json_response(await self.cluster.create(kind, body))
        if verb == "delete":
            await self.cluster.delete(kind, key, uid=body["preconditions"]["uid"])
            return web.json_response({"kind": "Status", "status": "Success"})
        if "apply" in request.headers["Content-Type"]:
            if body["metadata"].pop("resourceVersion", "") == NEVER:
                return web.json_response(await self.cluster.apply_new(kind, body))
            return web.json_response(await self.cluster.apply(kind, body, subresource=subresource))
        return web.json_response(await self.cluster.merge(kind, key, body))

    async def _list_or_watch(self, request: web.Request, kind: Kind, namespace: str) -> web.StreamResponse:
        watches = request.query.get("watch") == "true"
        self.requests["watch" if watches else "list", kind.plural] += 1
        labels = request.query.get("labelSelector", "")
        if watches:
            return await self._watch(request, kind, namespace, labels)
        found = [
            manifest
            for (of, key), manifest in self.cluster.objects.items()
            if of == kind and (not namespace or key.namespace == namespace) and _carries(manifest, labels)
        ]
        version = self.history[-1].version if self.history else 0
        metadata = {"resourceVersion": str(version)}
        return web.json_response({"kind": f"{kind.name}List", "metadata": metadata, "items": found})

    async def _watch(
        self, request: web.Request, kind: Kind, namespace: str, labels: str
    ) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        since = int(request.query.get("resourceVersion", "0"))
        if since < self.compacted:
            await response.write(_line("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"}))
            return response
        task = asyncio.current_task()
        assert task is not None
        self._watches.add(task)
        try:
            await self._stream(response, kind, namespace, labels, since)
        except (asyncio.CancelledError, ConnectionError):
            if request.transport is not None:
                request.transport.close()
        finally:
            self._watches.discard(task)
        return response

    async def _stream(
        self, response: web.StreamResponse, kind: Kind, namespace: str, labels: str, since: int
    ) -> None:
        loop = asyncio.get_running_loop()
        bookmark_at = loop.time()
        while True:
            for change in [] if self.is_mute else [c for c in self.history if c.version > since]:
                since = change.version
                key = key_of(change.manifest)
                if (
                    change.kind == kind
                    and (not namespace or key.namespace == namespace)
                    and _carries(change.manifest, labels)
                ):
                    await response.write(_line(change.event, change.manifest))
            if not self.is_mute and loop.time() >= bookmark_at:
                bookmark_at = loop.time() + BOOKMARK_EVERY_S
                metadata = {"resourceVersion": str(max(since, self.compacted))}
                await response.write(_line("BOOKMARK", {"kind": kind.name, "metadata": metadata}))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01), self._changed:
                    await self._changed.wait()


def _line(event: str, manifest: Any) -> bytes:
    return json.dumps({"type": event, "object": manifest}).encode() + b"\n"


def _carries(manifest: Manifest, selector: str) -> bool:
    labels = manifest["metadata"].get("labels") or {}  # type: ignore[union-attr, attr-defined]
    return all(
        labels.get(name) == value for name, _, value in (s.partition("=") for s in selector.split(",") if s)
    )


def _discovery(parts: list[str]) -> Any:
    """Return what kinds there are, as kopf asks for them: /api, /api/v1, /apis, /apis/group/version."""
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"]}
    if parts == ["apis"]:
        groups = sorted({(k.group, k.version) for k in KINDS.values() if k.group})
        listed = [{"groupVersion": f"{group}/{version}", "version": version} for group, version in groups]
        return {
            "kind": "APIGroupList",
            "groups": [
                {"name": group, "versions": [entry], "preferredVersion": entry}
                for (group, _), entry in zip(groups, listed, strict=True)
            ],
        }
    api_version = "/".join(parts[1:])
    verbs = ["get", "list", "watch", "patch", "create", "delete"]
    return {
        "kind": "APIResourceList",
        "groupVersion": api_version,
        "resources": [
            {
                "name": k.plural,
                "singularName": k.name.lower(),
                "kind": k.name,
                "namespaced": True,
                "verbs": verbs,
            }
            for k in KINDS.values()
            if k.api_version == api_version
        ],
    }


@asynccontextmanager
async def api_server(cluster: FakeCluster | None = None) -> AsyncIterator[ApiServer]:
    """A server that is up."""
    server = ApiServer(cluster or FakeCluster())
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
