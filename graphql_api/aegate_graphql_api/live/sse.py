"""Server-sent events: the distinct connections mode of GraphQL over SSE, one operation a response.

https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import orjson
from graphql import GraphQLError, OperationDefinitionNode
from graphql import OperationType as GraphQLOperation
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from strawberry.types.graphql import OperationType

from aegate_core.events import REQUEST_REFUSED, Log
from aegate_graphql_api.context import Context
from aegate_graphql_api.guard import parsed
from aegate_graphql_api.live import streams as bounds
from aegate_graphql_api.live.operation import NotStarted, answers
from aegate_graphql_api.live.streams import Ending, Streams, TooMany
from aegate_graphql_api.rules import Rules

log = Log("api")

MEDIA_TYPE = "text/event-stream"
_COMPLETE = b"event: complete\ndata:\n\n"


def is_wanted(request: Request, operation: dict[str, Any]) -> bool:
    """Whether the client takes a stream, and the operation is one that has one: a subscription.

    Clients such as urql say that they take streams with whatever they ask.
    """
    return MEDIA_TYPE in _accepted(request) and _is_subscription(operation)


def as_event(request: Request, answer: Response) -> Response:
    """Return the one answer of a query or mutation as a client takes it that takes nothing but streams."""
    accepted = _accepted(request)
    if answer.status_code != 200 or MEDIA_TYPE not in accepted or "json" in accepted or "*/*" in accepted:
        return answer
    return Response(b"event: next\ndata: " + bytes(answer.body) + b"\n\n" + _COMPLETE, media_type=MEDIA_TYPE)


def _accepted(request: Request) -> str:
    return request.headers.get("accept", "").lower()


def _is_subscription(operation: dict[str, Any]) -> bool:
    """Say whether it names a subscription; of a document that cannot be read, no: executing it says what is wrong."""
    if "subscription" not in operation["query"]:
        return False  # most of what is asked, and parsed once already
    try:
        document = parsed(operation["query"])
    except GraphQLError:
        return False
    named = operation.get("operationName")
    found = [
        definition.operation
        for definition in document.definitions
        if isinstance(definition, OperationDefinitionNode)
        and (named is None or (definition.name is not None and definition.name.value == named))
    ]
    return len(found) == 1 and found[0] is GraphQLOperation.SUBSCRIPTION


class EventStream(Response):
    """The answers of an operation as events. Raises TooMany, before anything is sent, when there is no place."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        streams: Streams,
        token: str,
        operation: dict[str, Any],
        context: Context,
        rules: Rules,
    ) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"}, media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._place = streams.place()
        self._stream = self._place.__enter__()
        try:
            self._stream.welcome(context.caller, token)
        except TooMany:
            self._place.__exit__(None, None, None)
            raise
        self._operation = operation
        self._context = context
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until one side ends them."""
        try:
            await self._run(receive, send)
        finally:
            self._place.__exit__(None, None, None)

    async def _run(self, receive: Receive, send: Send) -> None:
        stream = self._stream
        sending = _Sending(send, stream.limits.send_s)
        await sending.begin(self.status_code, self.raw_headers)
        try:
            async with asyncio.timeout(stream.expires_in()) as limit:
                with stream.limited(limit):
                    await _until_first(_gone(receive), self._events(sending))
        except TimeoutError:
            with suppress(_TooSlow):
                await sending.end(stream.ending or bounds.EXPIRED)
        except _TooSlow:
            log(REQUEST_REFUSED, reason="TOO_SLOW", caller=self._context.caller.name)

    async def _events(self, sending: _Sending) -> None:
        results = answers(self._operation, self._context, [OperationType.SUBSCRIPTION], self._rules)
        try:
            async for answer in _with_keepalive(results, self._stream.limits.keepalive_s):
                await sending.event(b":\n\n" if answer is None else _next(answer))
        except NotStarted as refused:
            await sending.event(_next({"data": None, "errors": refused.errors}))
        finally:
            await results.aclose()
        await sending.event(_COMPLETE, more=False)


class _TooSlow(Exception):
    """The client did not read in time."""


class _Sending:
    """The sending half of the response, with a limit for clients that do not read."""

    def __init__(self, send: Send, within_s: float) -> None:
        self._send = send
        self._within_s = within_s
        self._is_over = False

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def event(self, body: bytes, *, more: bool = True) -> None:
        try:
            async with asyncio.timeout(self._within_s):
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            raise _TooSlow from None
        self._is_over = not more

    async def end(self, ending: Ending) -> None:
        """Say why it ends, and when to come back."""
        if self._is_over:
            return
        retry = b"" if ending.retry_ms is None else b"retry: %d\n" % ending.retry_ms
        error = {"message": ending.message, "extensions": ending.extensions}
        await self.event(retry + _next({"data": None, "errors": [error]}) + _COMPLETE, more=False)


def _next(answer: dict[str, Any]) -> bytes:
    return b"event: next\ndata: " + orjson.dumps(answer) + b"\n\n"


async def _with_keepalive(
    results: AsyncGenerator[dict[str, Any], None], every_s: float
) -> AsyncGenerator[dict[str, Any] | None, None]:
    """Yield the results, and None where none came for a while."""
    coming = asyncio.ensure_future(anext(results, None))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=every_s)
            if not done:
                yield None
            elif (result := coming.result()) is None:
                return
            else:
                yield result
                coming = asyncio.ensure_future(anext(results, None))
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    """Return when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _until_first(*parts: Any) -> None:
    """Run all until one ends; cancel the others. Raises what that one raises."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
