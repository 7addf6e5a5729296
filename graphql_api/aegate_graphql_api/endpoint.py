"""``POST /graphql``: one operation as JSON. Own code instead of Strawberry's view: that accepts bodies of any size.

JSON and the Authorization header alone: a page of another origin can send neither without being asked first (CSRF).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from typing import Any

import orjson
from graphql import GraphQLError
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.requests import Request
from starlette.responses import Response
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.graphql import OperationType

from aegate_core.database import Database, DatabaseClock, time_limit
from aegate_core.errors import AegateError, IdentityUnavailable, StorageError, TimeLimitReached
from aegate_core.events import REQUEST_REFUSED, Log
from aegate_core.services.manifests import Manifests
from aegate_graphql_api import plain_pages
from aegate_graphql_api.authentication import Authenticator
from aegate_graphql_api.context import Context
from aegate_graphql_api.errors import (
    RequestRefused,
    fault_body,
    present,
    problem_body,
    time_limit_details,
    without_hint,
)
from aegate_graphql_api.http_requests import Refusal, parsed_body, read_body, refuse_foreign_pages
from aegate_graphql_api.limits import MAX_COST, check_variables
from aegate_graphql_api.live.service import Live
from aegate_graphql_api.live.sse import as_event, is_wanted
from aegate_graphql_api.permissions import Caller
from aegate_graphql_api.schema.root import schema
from aegate_graphql_api.tracing import OperationSpan

log = Log("api")

OPERATIONS = [OperationType.QUERY, OperationType.MUTATION]

ASK_FOR_TOKEN = {"WWW-Authenticate": 'Bearer realm="aegate"'}

AFTER_DEADLINE_S = 1.0
"""What answering may take after the last statement."""

LOOK_AT_CLOCK_S = 10.0
"""What people ask for is due by the database's clock; a step of it is seen so much later."""


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
        self.failing_tasks = Gauge(
            "aegate_api_task_failing",
            "1: a task in the background failed, and has not lasted for a minute since.",
            ["task"],
            registry=self.registry,
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
        live: Live,
        manifests: Manifests | None = None,
    ) -> None:
        self._db = db
        self._live = live
        self._authenticator = authenticator
        self._metrics = metrics
        self._manifests = manifests
        self._rules = live.rules
        self._policy = live.rules.policy
        self._door = live.rules.door
        self._clock = DatabaseClock()
        self._accesses = live.rules.accesses

    async def caller_of(self, request: Request) -> Caller:
        """Return who asks; for requests beside GraphQL's. Raises Refusal."""
        refuse_foreign_pages(request, self._policy)
        return await self._authenticated(request)

    def admitted(self, caller: Caller) -> AbstractContextManager[None]:
        """Let one request of ``caller`` run in this block. Raises Refusal."""
        return self._door.admitted(caller.name)

    async def answer(self, request: Request) -> Response:
        """Authenticate, read, execute."""
        caller: Caller | None = None
        try:
            caller = await self.caller_of(request)
            with self._door.admitted(caller.name):
                body = await read_body(request, self._policy.body_s)
                await self._door.wait_for_turn(caller.name)
                self._door.check_again(caller.name)
                self._door.charge_body(caller.name, len(body))
                operation = self._rules.operation_of(parsed_body(body))
                if is_wanted(request, operation):
                    return self._live.events(request, operation, caller, await self._now())
                with self._rules.traces.operation(request.headers.get("traceparent")) as span:
                    return as_event(request, await self._answer_to(operation, caller, span))
        except Refusal as refusal:
            self._metrics.requests.labels(refusal.code).inc()
            log(REQUEST_REFUSED, reason=refusal.code, caller=caller.name if caller else None)
            refused = problem_body(refusal.code, refusal.message, refusal.details)
            return _json(refused, refusal.status, refusal.headers)
        except Exception as fault:  # the outermost place of a request: uvicorn would log it with its values
            self._metrics.requests.labels("INTERNAL").inc()
            return _json(fault_body(fault), 500)

    async def _answer_to(self, operation: dict[str, Any], caller: Caller, span: OperationSpan) -> Response:
        began = time.perf_counter()
        answer, status = await self._execute(operation, caller, span)
        self._metrics.seconds.observe(time.perf_counter() - began)
        errors = answer.get("errors")
        outcome = errors[0]["extensions"]["code"] if errors else "OK"
        span.ended(None if outcome == "OK" else outcome)
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
                headers=ASK_FOR_TOKEN,
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
                headers=ASK_FOR_TOKEN,
            )
        return caller

    async def _execute(
        self, operation: dict[str, Any], caller: Caller, span: OperationSpan
    ) -> tuple[dict[str, Any], int]:
        """Run the operation within its time; what it cost is charged however it ends."""
        context = self._rules.context(self._db, caller, datetime.now(UTC), manifests=self._manifests)
        try:
            with time_limit(self._policy.operation_s) as deadline:
                try:
                    # The statements end at the deadline; whatever else an operation waits for, a little later.
                    async with asyncio.timeout(self._policy.operation_s + AFTER_DEADLINE_S):
                        context.now = await self._now()
                        return await self._run(operation, context)
                except TimeoutError:
                    reached = deadline.reached()
                    return problem_body("TIME_LIMIT", reached.message, time_limit_details(reached)), 200
        finally:
            self._door.charge_operation(caller.name, context.cost, context.guard_s)
            span.asked(context.document, operation.get("operationName"), context.cost)

    async def _run(self, operation: dict[str, Any], context: Context) -> tuple[dict[str, Any], int]:
        try:
            check_variables(operation.get("variables") or {})
            data, errors = await plain_pages.answered(schema, operation, context), None
            if data is None:
                result = await schema.execute(
                    operation["query"],
                    variable_values=operation.get("variables"),
                    operation_name=operation.get("operationName"),
                    context_value=context,
                    allowed_operation_types=OPERATIONS,
                )
                data, errors = result.data, result.errors
        except RequestRefused as refused:
            return {"data": None, "errors": [present(refused)]}, 200
        except (MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError):
            message = (
                "the document must hold the query or mutation that operationName names: correct one of them"
            )
            return problem_body("BAD_REQUEST", message), 400
        if context.reading is not None and data is not None:
            try:
                await self._accesses.note(context.caller, context.reading, now=context.now)
            except TimeLimitReached as error:
                return problem_body("TIME_LIMIT", error.message, time_limit_details(error)), 200
            except AegateError as error:
                return problem_body("UNAVAILABLE", error.message), 200
        answer: dict[str, Any] = {"data": data}
        if errors:
            answer["errors"] = _presented(errors, hints=context.introspection)
        if context.cost is not None:
            answer["extensions"] = {"cost": {"requested": context.cost, "limit": MAX_COST}}
        return answer, 200

    async def _now(self) -> datetime:
        """Return the database's time; this machine's where none was heard yet: the query will say what is wrong."""
        with suppress(StorageError, TimeLimitReached):
            await self._clock.look_again(self._db, LOOK_AT_CLOCK_S)
        return self._clock.now() if self._clock.is_set else datetime.now(UTC)


def _presented(errors: Sequence[GraphQLError], *, hints: bool) -> list[dict[str, Any]]:
    shown = [present(error) for error in errors]
    if not hints:
        for error in shown:
            error["message"] = without_hint(error["message"])
    return shown


def _json(answer: dict[str, Any], status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(answer), status_code=status, media_type="application/json", headers=headers)
