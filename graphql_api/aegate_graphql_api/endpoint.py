"""``POST /graphql``: one operation as JSON. Own code instead of Strawberry's view: that accepts bodies of any size.

JSON and the Authorization header alone: a page of another origin can send neither without being asked first (CSRF).
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.graphql import OperationType

from aegate_core.database import Database, DatabaseClock
from aegate_core.errors import AegateError, IdentityUnavailable, StorageError
from aegate_core.events import REQUEST_REFUSED, Log
from aegate_graphql_api.authentication import Authenticator
from aegate_graphql_api.context import Context
from aegate_graphql_api.errors import present, problem_body
from aegate_graphql_api.limits import MAX_BODY_BYTES
from aegate_graphql_api.live.service import Live
from aegate_graphql_api.live.sse import is_wanted
from aegate_graphql_api.patient_data import AccessLog
from aegate_graphql_api.permissions import Caller
from aegate_graphql_api.schema.root import schema

log = Log("api")

OPERATIONS = [OperationType.QUERY, OperationType.MUTATION]

LOOK_AT_CLOCK_S = 10.0
"""What people ask for is due by the database's clock; a step of it is seen so much later."""


class Refusal(Exception):
    """The HTTP request is not one that becomes an operation."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message


class APIMetrics:
    """What the API counts; labels hold no patient data."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "aegate_api_requests", "GraphQL requests by outcome.", ["outcome"], registry=self.registry
        )
        self.streams = Gauge(
            "aegate_api_streams", "Open WebSockets and event streams.", registry=self.registry
        )
        self.seconds = Histogram(
            "aegate_api_request_seconds", "Time from the parsed body to the answer.", registry=self.registry
        )


class GraphQLEndpoint:
    """Answers POST requests; every answer is JSON with data and errors as GraphQL has them."""

    def __init__(
        self,
        db: Database,
        authenticator: Authenticator,
        metrics: APIMetrics,
        accesses: AccessLog,
        live: Live,
    ) -> None:
        self._db = db
        self._live = live
        self._authenticator = authenticator
        self._metrics = metrics
        self._clock = DatabaseClock()
        self._accesses = accesses

    async def answer(self, request: Request) -> Response:
        """Authenticate, read, execute."""
        try:
            caller = await self._authenticated(request)
            operation = _operation(request, await _body(request))
        except Refusal as refusal:
            self._metrics.requests.labels(refusal.code).inc()
            log(REQUEST_REFUSED, reason=refusal.code, caller=None)
            headers = {"WWW-Authenticate": 'Bearer realm="aegate"'} if refusal.status == 401 else {}
            return _json(problem_body(refusal.code, refusal.message), refusal.status, headers)
        if is_wanted(request):
            return self._live.events(request, operation, caller, await self._now())
        began = time.perf_counter()
        answer, status = await self._execute(operation, caller)
        self._metrics.seconds.observe(time.perf_counter() - began)
        errors = answer.get("errors")
        outcome = errors[0]["extensions"]["code"] if errors else "OK"
        self._metrics.requests.labels(outcome).inc()
        if outcome == "FORBIDDEN":
            log(REQUEST_REFUSED, reason=outcome, caller=caller.name)
        return _json(answer, status)

    async def _authenticated(self, request: Request) -> Caller:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refusal(
                401,
                "UNAUTHENTICATED",
                "a token is needed, none came: send the header Authorization: Bearer TOKEN",
            )
        address = request.client.host if request.client else ""
        try:
            caller = await self._authenticator.authenticate(token.strip(), address=address)
        except IdentityUnavailable as error:
            raise Refusal(503, "UNAVAILABLE", error.message) from error
        if caller is None:
            raise Refusal(
                401,
                "UNAUTHENTICATED",
                "the token is not valid (unknown, expired or revoked): ask for another",
            )
        return caller

    async def _execute(self, operation: dict[str, Any], caller: Caller) -> tuple[dict[str, Any], int]:
        context = Context(self._db, caller, await self._now())
        try:
            result = await schema.execute(
                operation["query"],
                variable_values=operation.get("variables"),
                operation_name=operation.get("operationName"),
                context_value=context,
                allowed_operation_types=OPERATIONS,
            )
        except (MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError):
            message = (
                "the document must hold the query or mutation that operationName names: correct one of them"
            )
            return problem_body("BAD_REQUEST", message), 400
        if context.reading is not None and result.data is not None:
            try:
                await self._accesses.note(caller, context.reading, now=context.now)
            except AegateError as error:
                return problem_body("UNAVAILABLE", error.message), 200
        answer: dict[str, Any] = {"data": result.data}
        if result.errors:
            answer["errors"] = [present(error) for error in result.errors]
        return answer, 200

    async def _now(self) -> datetime:
        """Return the database's time; this machine's where none was heard yet: the query will say what is wrong."""
        with suppress(StorageError):
            await self._clock.look_again(self._db, LOOK_AT_CLOCK_S)
        return self._clock.now() if self._clock.is_set else datetime.now(UTC)


async def _body(request: Request) -> bytes:
    """Return the body, at most MAX_BODY_BYTES of it whatever its header says. Raises Refusal."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(
            415,
            "BAD_REQUEST",
            "the body must be application/json, got another type: send the header Content-Type",
        )
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise Refusal(
                    413, "TOO_LARGE", f"the body may have {MAX_BODY_BYTES} bytes, got more: send less"
                )
    except ClientDisconnect:
        raise Refusal(400, "BAD_REQUEST", "the body ended early") from None
    return bytes(body)


def _operation(request: Request, body: bytes) -> dict[str, Any]:
    """Return the operation's parts. Raises Refusal for what is no GraphQL request over HTTP."""
    try:
        operation = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal(
            400, "BAD_REQUEST", "the body is not JSON: send an object with query and variables"
        ) from None
    if (
        not isinstance(operation, dict)
        or not isinstance(operation.get("query"), str)
        or not operation["query"]
    ):
        raise Refusal(
            400,
            "BAD_REQUEST",
            "the body must be one object with query, a text, got another: send batches singly",
        )
    if not isinstance(operation.get("variables"), dict | None):
        raise Refusal(400, "BAD_REQUEST", "variables must be an object: leave them out or correct them")
    if not isinstance(operation.get("operationName"), str | None):
        raise Refusal(400, "BAD_REQUEST", "operationName must be a text: leave it out or correct it")
    return operation


def _json(answer: dict[str, Any], status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(answer), status_code=status, media_type="application/json", headers=headers)
