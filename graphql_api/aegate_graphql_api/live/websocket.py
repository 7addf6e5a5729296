"""graphql-transport-ws: the protocol of graphql-ws, subscriptions alone; the older graphql-ws protocol is refused.

Own code instead of Strawberry's handler: that has one context for a whole connection, sends errors with the request's
values, waits for ever for clients that do not read, and knows neither expiry nor a server that stops.
https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from strawberry.types.graphql import OperationType

from aegate_core.database import Database
from aegate_core.errors import AegateError, StorageError
from aegate_core.events import REQUEST_FAILED, REQUEST_REFUSED, Log
from aegate_graphql_api.authentication import Authenticator
from aegate_graphql_api.errors import problem_body
from aegate_graphql_api.http_requests import Refusal
from aegate_graphql_api.live import streams as bounds
from aegate_graphql_api.live.hub import Hub
from aegate_graphql_api.live.operation import NotStarted, answers
from aegate_graphql_api.live.streams import Ending, Stream, Streams, TooMany
from aegate_graphql_api.rules import Rules

log = Log("api")

SUBPROTOCOL = "graphql-transport-ws"
MAX_FRAME_BYTES = 64 * 1024
CLOSE_S = 5.0
LONGEST_ID = 64

_INVALID = 4400


class _Closed(Exception):
    """The connection ends by our wish."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class LiveSockets:
    """Serves WebSockets at ``/graphql``."""

    def __init__(
        self, db: Database, authenticator: Authenticator, hub: Hub, streams: Streams, rules: Rules
    ) -> None:
        self.db = db
        self.authenticator = authenticator
        self.hub = hub
        self.streams = streams
        self.rules = rules

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection until its end."""
        if not may_come_from(websocket, self.rules.policy.origins):
            log(REQUEST_REFUSED, reason="ORIGIN", caller=None)
            await websocket.close(1008)  # before accept: 403
            return
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        if SUBPROTOCOL not in offered:
            await _close(websocket, 4406, f"the subprotocol must be {SUBPROTOCOL}: ask for it")
            return
        try:
            with self.streams.place() as stream:
                await _Connection(self, websocket, stream).run()
        except TooMany as many:
            log(REQUEST_REFUSED, reason=many.ending.code, caller=None)
            await _end(websocket, many.ending)


class _Connection:
    def __init__(self, live: LiveSockets, websocket: WebSocket, stream: Stream) -> None:
        self._live = live
        self._websocket = websocket
        self._stream = stream
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._credit = float(bounds.BURST)
        self._credited_at = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Read messages until one side ends it."""
        try:
            async with asyncio.timeout(self._stream.limits.init_s) as limit:
                with self._stream.limited(limit):
                    await self._init()
                    expires_in = self._stream.expires_in()
                    now = asyncio.get_running_loop().time()
                    limit.reschedule(None if expires_in is None else now + expires_in)
                    while True:
                        await self._handle(await self._receive())
        except TimeoutError:
            ended = bounds.INIT_TIMEOUT if self._stream.caller is None else bounds.EXPIRED
            await _end(self._websocket, self._stream.ending or ended)
        except _Closed as closed:
            await _close(self._websocket, closed.code, closed.reason)
        except AegateError:
            await _end(self._websocket, self._live.streams.unavailable())
        except WebSocketDisconnect:
            if self._stream.ending is not None:
                await _end(self._websocket, self._stream.ending)
        finally:
            running = list(self._operations.values())
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _init(self) -> None:
        """Let the first message say who it is."""
        message = await self._receive()
        if message["type"] != "connection_init":
            raise _Closed(4401, "UNAUTHENTICATED: connection_init must come first")
        token = _token(message.get("payload"))
        address = self._websocket.client.host if self._websocket.client else ""
        caller = await self._live.authenticator.authenticate(token, address=address) if token else None
        if caller is None:
            log(REQUEST_REFUSED, reason="UNAUTHENTICATED", caller=None)
            raise _Closed(bounds.UNKNOWN.close_code, bounds.UNKNOWN.reason)
        self._stream.welcome(caller, token)
        await self._send({"type": "connection_ack"})

    async def _receive(self) -> dict[str, Any]:
        received = await self._websocket.receive()
        if received["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(received.get("code", 1005))
        self._pay()
        text = received.get("text")
        try:
            message = orjson.loads(text) if text is not None else None
        except orjson.JSONDecodeError:
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise _Closed(_INVALID, "BAD_REQUEST: a message must be text, a JSON object with a type")
        return message

    def _pay(self) -> None:
        """Take a message off what this connection may send. Raises _Closed when it sends too many."""
        now = asyncio.get_running_loop().time()
        earned = (now - self._credited_at) * bounds.MESSAGES_A_SECOND
        self._credit = min(bounds.BURST, self._credit + earned) - 1
        self._credited_at = now
        if self._credit < 0:
            raise _Closed(
                4429, f"TOO_MANY_STREAMS: more than {bounds.MESSAGES_A_SECOND} messages a second came"
            )

    async def _handle(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "ping":
                await self._send({"type": "pong"})
            case "pong":
                pass
            case "subscribe":
                await self._subscribe(_id(message), message.get("payload"))
            case "complete":
                if (task := self._operations.pop(_id(message), None)) is not None:
                    task.cancel()
            case "connection_init":
                raise _Closed(4429, "BAD_REQUEST: connection_init came twice")
            case _:
                raise _Closed(_INVALID, "BAD_REQUEST: there is no message of this type")

    async def _subscribe(self, id: str, payload: object) -> None:
        if id in self._operations:
            raise _Closed(4409, "BAD_REQUEST: a subscriber with this id is there already")
        caller = self._stream.caller
        assert caller is not None, "a connection is welcome before it subscribes"
        try:
            with self._live.rules.door.admitted(caller.name):
                operation = self._live.rules.operation_of(payload)
        except Refusal as refusal:
            errors = problem_body(refusal.code, refusal.message, refusal.details)["errors"]
            await self._send({"id": id, "type": "error", "payload": errors})
            return
        if len(self._operations) >= bounds.OPERATIONS:
            message = f"a connection may have {bounds.OPERATIONS} operations, this one has: end one"
            details = {"limit": bounds.OPERATIONS, "used": bounds.OPERATIONS + 1}
            errors = problem_body("TOO_MANY_STREAMS", message, details)["errors"]
            await self._send({"id": id, "type": "error", "payload": errors})
            return
        task = asyncio.create_task(self._run(id, operation))
        task.add_done_callback(self._note_fault)
        self._operations[id] = task

    def _note_fault(self, task: asyncio.Task[None]) -> None:
        """End the connection when an operation ended by a fault: its client would wait for ever."""
        if not task.cancelled() and (fault := task.exception()) is not None:
            correlation = secrets.token_hex(8)
            log(REQUEST_FAILED, correlation=correlation, error=type(fault).__name__)
            self._stream.end(bounds.fault(correlation))

    async def _run(self, id: str, operation: dict[str, Any]) -> None:
        """Run an operation to its end; its id is free before the last message is sent."""
        caller = self._stream.caller
        assert caller is not None, "a connection is welcome before it subscribes"
        try:
            rules, now = self._live.rules, await self._live.db.time()
            context = rules.context(self._live.db, caller, now, live=self._live.hub)
            results = answers(operation, context, [OperationType.SUBSCRIPTION], rules)
            try:
                async for answer in results:
                    await self._send({"id": id, "type": "next", "payload": answer})
            finally:
                await results.aclose()
            last: dict[str, Any] = {"id": id, "type": "complete"}
        except NotStarted as refused:
            last = {"id": id, "type": "error", "payload": refused.errors}
        except StorageError as error:
            last = {"id": id, "type": "error", "payload": _errors("UNAVAILABLE", error.message)}
        except WebSocketDisconnect:
            return
        if self._operations.get(id) is asyncio.current_task():
            del self._operations[id]
        with suppress(WebSocketDisconnect):
            await self._send(last)

    async def _send(self, message: dict[str, Any]) -> None:
        """Send, and cut a client that does not read. Raises WebSocketDisconnect when it is gone."""
        if self._websocket.application_state is WebSocketState.DISCONNECTED:
            raise WebSocketDisconnect(1006)
        try:
            async with asyncio.timeout(self._stream.limits.send_s):
                await self._websocket.send_text(orjson.dumps(message).decode())
        except TimeoutError:
            caller = self._stream.caller
            log(REQUEST_REFUSED, reason="TOO_SLOW", caller=caller.name if caller else None)
            self._stream.end(bounds.TOO_SLOW)
            raise WebSocketDisconnect(bounds.TOO_SLOW.close_code) from None


def may_come_from(websocket: WebSocket, origins: Collection[str]) -> bool:
    """Whether it comes from a page of ours, of ``origins``, or from no page: browsers always say whose page it is."""
    origin = websocket.headers.get("origin")
    if origin is None or origin in origins:
        return True
    scheme, _, host = origin.partition("://")
    return scheme in ("http", "https") and host.lower() == websocket.headers.get("host", "").lower()


def _token(payload: object) -> str:
    """Return the token of connection_init: ``{"authorization": "Bearer TOKEN"}``, in any case; '' without one."""
    if not isinstance(payload, dict):
        return ""
    for name, value in payload.items():
        if str(name).lower() == "authorization" and isinstance(value, str):
            scheme, _, token = value.partition(" ")
            return token.strip() if scheme.lower() == "bearer" else ""
    return ""


def _id(message: dict[str, Any]) -> str:
    id = message.get("id")
    if not isinstance(id, str) or not 1 <= len(id) <= LONGEST_ID:
        raise _Closed(_INVALID, f"BAD_REQUEST: id must be a text of 1 to {LONGEST_ID} characters")
    return id


def _errors(code: str, message: str) -> list[dict[str, Any]]:
    errors: list[dict[str, Any]] = problem_body(code, message)["errors"]
    return errors


async def _end(websocket: WebSocket, ending: Ending) -> None:
    await _close(websocket, ending.close_code, ending.reason)


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    """Close; one that does not read is left to the kernel, which cuts it."""
    if websocket.application_state is WebSocketState.DISCONNECTED:
        return
    with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
        async with asyncio.timeout(CLOSE_S):
            await websocket.close(code, reason)
