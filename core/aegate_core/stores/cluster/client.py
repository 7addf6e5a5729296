"""Read, list, apply and delete objects of the API server; every call has a timeout and fails with a typed error.

Writing is server-side apply of the whole wished object under one field manager: what others own stays, what we no
longer say goes. Nothing is retried here: whoever calls has a queue for that.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

import aiohttp

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterExpired, ClusterUnavailable
from aegate_core.resources.yaml_tree import members
from aegate_core.stores.cluster.connection import ClusterConnection
from aegate_core.stores.cluster.kinds import Kind
from aegate_core.stores.cluster.refusals import refusal
from aegate_core.stores.cluster.session import RequestSeen, Seen, open_session

__all__ = ["ClusterClient", "Listing", "Manifest", "RequestSeen"]

Manifest = dict[str, object]
T = TypeVar("T")

TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
PAGE = 500
LIST_ATTEMPTS = 3
"""How often a list is begun anew whose pages expire under it (410)."""
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
NEVER = "1"
"""A resource version that no object has: etcd counts from 1, and the first write is 2."""


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """All objects of a kind at one version of the cluster, as manifests or what is kept of each."""

    items: tuple[T, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    what: str
    """For messages: what is asked."""
    query: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    form: str = "application/json"


class ClusterClient:
    """One API server under one identity and one field manager. Use as an async context manager."""

    def __init__(
        self,
        connection: ClusterConnection,
        *,
        manager: str,
        seen: Seen = lambda request: None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.connection = connection
        self.manager = manager
        self._seen = seen
        self._timeout = aiohttp.ClientTimeout(
            total=timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s), sock_connect=CONNECT_TIMEOUT_S
        )
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ClusterClient:
        self._session = open_session(self.connection, seen=self._seen, agent=self.manager)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, kind: Kind, key: ResourceKey) -> Manifest:
        """Return one object. Raises ClusterNotFound."""
        return await self._ask(_Request("GET", kind.path(key.namespace, key.name), f"read {kind} {key}"))

    async def pages(
        self, kind: Kind, *, namespace: str = "", labels: str = "", limit: int = PAGE
    ) -> AsyncIterator[Listing[Manifest]]:
        """Yield all objects in pages, all of one version. Raises ClusterExpired when that version is gone."""
        token = ""
        while True:
            query = {"limit": str(limit), "labelSelector": labels, "continue": token}
            what = f"list {kind.plural} of {namespace or 'all namespaces'}"
            answer = await self._ask(_Request("GET", kind.path(namespace), what, query))
            metadata = cast("Mapping[str, str]", answer.get("metadata") or {})
            items = cast("list[Manifest]", answer.get("items") or [])
            for item in items:  # a list leaves out what all of its items are
                item.setdefault("apiVersion", kind.api_version)
                item.setdefault("kind", kind.name)
            yield Listing(tuple(items), metadata.get("resourceVersion", ""))
            token = metadata.get("continue", "")
            if not token:
                return

    async def list(
        self, kind: Kind, *, namespace: str = "", labels: str = "", limit: int = PAGE
    ) -> Listing[Manifest]:
        """Return all objects, read in pages."""
        return await self.list_kept(
            kind, keep=lambda item: item, namespace=namespace, labels=labels, limit=limit
        )

    async def list_kept(
        self,
        kind: Kind,
        *,
        keep: Callable[[Manifest], T],
        namespace: str = "",
        labels: str = "",
        limit: int = PAGE,
    ) -> Listing[T]:
        """Return what ``keep`` makes of each object, before the next page is read: all of them may be too much."""
        for attempt in range(1, LIST_ATTEMPTS + 1):
            items: list[T] = []
            version = ""
            try:
                async for page in self.pages(kind, namespace=namespace, labels=labels, limit=limit):
                    items.extend(keep(item) for item in page.items)
                    version = version or page.resource_version
            except ClusterExpired:
                if attempt == LIST_ATTEMPTS:
                    raise
                continue
            return Listing(tuple(items), version)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def apply(
        self,
        kind: Kind,
        manifest: Mapping[str, object],
        *,
        subresource: str = "",
        force: bool = True,
        dry_run: bool = False,
    ) -> Manifest:
        """Make the object's fields what ``manifest`` says, by server-side apply; return it as it is now.

        Without ``force`` a field that another manager owns is left to it, by ClusterConflict. Raises ClusterRefused
        (rights, quota, admission), ClusterInvalid, ClusterConflict, ClusterUnavailable.
        """
        key = key_of(manifest)
        body = {"apiVersion": kind.api_version, "kind": kind.name, **manifest}
        query = self._writing(dry_run=dry_run) | {"force": "true" if force else "false"}
        path = kind.path(key.namespace, key.name, subresource)
        return await self._ask(_Request("PATCH", path, f"apply {kind} {key}", query, body, APPLY))

    async def apply_new(self, kind: Kind, manifest: Mapping[str, object]) -> Manifest:
        """As `apply`, of an object that is not there. Raises ClusterConflict where it is, and leaves it as it is."""
        named = {**members(manifest["metadata"]), "resourceVersion": NEVER}
        return await self.apply(kind, {**manifest, "metadata": named})

    async def merge(
        self, kind: Kind, key: ResourceKey, patch: Mapping[str, object], *, dry_run: bool = False
    ) -> Manifest:
        """Change single fields by a merge patch; with metadata.uid in it, of that very object alone.

        Raises ClusterConflict for another uid.
        """
        query = self._writing(dry_run=dry_run)
        path = kind.path(key.namespace, key.name)
        return await self._ask(_Request("PATCH", path, f"change {kind} {key}", query, patch, MERGE))

    async def create(self, kind: Kind, manifest: Mapping[str, object], *, dry_run: bool = False) -> Manifest:
        """Create an object. Raises ClusterConflict when it is there already."""
        key = key_of(manifest)
        body = {"apiVersion": kind.api_version, "kind": kind.name, **manifest}
        query = self._writing(dry_run=dry_run)
        path = kind.path(key.namespace)
        return await self._ask(_Request("POST", path, f"create {kind} {key}", query, body))

    async def delete(self, kind: Kind, key: ResourceKey, *, uid: str, resource_version: str = "") -> None:
        """Delete that very object, and in the background what it owns.

        Raises ClusterConflict for another uid or version.
        """
        preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
        body = {"propagationPolicy": "Background", "preconditions": preconditions}
        path = kind.path(key.namespace, key.name)
        await self._ask(_Request("DELETE", path, f"delete {kind} {key}", body=body))

    def _writing(self, *, dry_run: bool) -> dict[str, str]:
        dry = {"dryRun": "All"} if dry_run else {}
        return {"fieldManager": self.manager, "fieldValidation": "Strict", **dry}

    async def _ask(self, request: _Request) -> Manifest:
        if self._session is None:
            raise AssertionError("the client is used as an async context manager")
        data = None if request.body is None else json.dumps(request.body, separators=(",", ":")).encode()
        try:
            async with self._session.request(
                request.method,
                self.connection.server + request.path,
                params={name: value for name, value in request.query.items() if value},
                data=data,
                headers={"Content-Type": request.form} if data else {},
                timeout=self._timeout,
            ) as response:
                raw = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ClusterUnavailable(
                f"{request.what}: the API server does not answer ({type(error).__name__})"
            ) from error
        answer = _parsed(raw)
        if response.status >= 400:
            raise refusal(request.what, response.status, answer)
        if not isinstance(answer, dict):
            raise ClusterUnavailable(
                f"{request.what}: the answer must be an object in JSON, got {len(raw)} bytes of another form"
            )
        return answer


def key_of(manifest: Mapping[str, object]) -> ResourceKey:
    """Return namespace/name of an object."""
    metadata = cast("Mapping[str, str]", manifest["metadata"])
    return ResourceKey(metadata.get("namespace", ""), metadata["name"])


def _parsed(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except ValueError:
        return None
