"""The live side of the API as one thing: what the application mounts, and what the process ends before it stops."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from aegate_core.database import Database, DatabaseClock
from aegate_core.events import REQUEST_REFUSED, Log
from aegate_graphql_api.authentication import Authenticator
from aegate_graphql_api.live.hub import Hub
from aegate_graphql_api.live.sse import EventStream
from aegate_graphql_api.live.streams import StreamLimits, Streams, TooMany
from aegate_graphql_api.live.websocket import LiveSockets
from aegate_graphql_api.permissions import Caller
from aegate_graphql_api.rules import Rules

log = Log("api")


class Live:
    """Subscriptions over both transports."""

    def __init__(
        self,
        db: Database,
        authenticator: Authenticator,
        rules: Rules,
        limits: StreamLimits | None = None,
        clock: DatabaseClock | None = None,
    ) -> None:
        self._db = db
        self.hub = Hub(db, rules.policy.operation_s, clock)
        self.streams = Streams(authenticator, limits)
        self.rules = rules
        self.sockets = LiveSockets(db, authenticator, self.hub, self.streams, rules)

    def events(self, request: Request, operation: dict[str, Any], caller: Caller, now: datetime) -> Response:
        """Return the answers of an authenticated operation as a stream of events; 429 when there is no place."""
        token = request.headers["authorization"].partition(" ")[2].strip()
        try:
            context = self.rules.context(self._db, caller, now, live=self.hub)
            return EventStream(self.streams, token, operation, context, self.rules)
        except TooMany as many:
            ending = many.ending
            log(REQUEST_REFUSED, reason=ending.code, caller=caller.name)
            retry_ms = ending.retry_ms or 0
            body = {"data": None, "errors": [{"message": ending.message, "extensions": ending.extensions}]}
            status = 503 if ending.code == "SERVER_STOPPING" else 429
            headers = {"Retry-After": str(-(-retry_ms // 1000))}
            return Response(orjson.dumps(body), status, headers, "application/json")
