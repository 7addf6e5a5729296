"""An HTTP session with the API server that says who we are, request by request, and tells what was asked.

The surprise: identity is no header of the session but is put on each request, because a service account's token
changes while a session lives; a 401 reads the token again and tries once more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from aegate_core.stores.cluster.connection import ClusterConnection

UNAUTHORIZED = 401
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class RequestSeen:
    """One request as RBAC and the audit log name it."""

    verb: str
    """get, list, watch, create, update, patch or delete."""
    resource: str
    """Its plural, with a subresource as ``pods/status``; empty for what is no resource."""
    namespace: str
    code: int
    """HTTP status; 0 when there was no answer."""
    response: aiohttp.ClientResponse | None = None

    @property
    def is_write(self) -> bool:
        """Whether it may have changed something."""
        return self.verb not in ("get", "list", "watch")


Seen = Callable[[RequestSeen], None]


def open_session(
    connection: ClusterConnection, *, seen: Seen = lambda request: None, agent: str = "aegate"
) -> aiohttp.ClientSession:
    """Return a session with the API server; ``seen`` is told of every request when its head was answered, or failed."""

    async def middleware(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        response = None
        try:
            request.headers.update(connection.headers())
            response = await handler(request)
            if response.status == UNAUTHORIZED and connection.token is not None:
                response.release()
                request.headers.update(connection.headers(anew=True))
                response = await handler(request)
        finally:
            watches = request.url.query.get("watch") == "true"
            seen(_seen(request.method, request.url.path, watches, response))
        return response

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=connection.tls, limit=0),
        headers={"User-Agent": agent, "Accept": "application/json"},
        middlewares=(middleware,),
    )


def _seen(method: str, path: str, watches: bool, response: aiohttp.ClientResponse | None) -> RequestSeen:
    """Name the request: /api/v1/... or /apis/group/version/..., then perhaps namespaces/NAME, then the resource."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    resource = "/".join([*parts[:1], *parts[2:3]])
    reading = "watch" if watches else "list" if len(parts) == 1 else "get"
    verb = _VERBS.get(method.upper(), reading)
    return RequestSeen(verb, resource, namespace, response.status if response else 0, response)
