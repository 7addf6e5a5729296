"""The Starlette application: GraphQL, its page, health and metrics, on one port.

The page is served to everybody, data to the holders of a token alone. Answers are patient data: nothing caches them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aegate_core.database import Database
from aegate_core.errors import AegateError
from aegate_core.services.manifests import Manifests
from aegate_graphql_api.arrivals import FewHeaders
from aegate_graphql_api.authentication import Authenticator
from aegate_graphql_api.door import LateRefusals
from aegate_graphql_api.endpoint import APIMetrics, GraphQLEndpoint
from aegate_graphql_api.errors import problem_body
from aegate_graphql_api.identity.settings import IdentitySettings
from aegate_graphql_api.kept_up import Tasks
from aegate_graphql_api.live.service import Live
from aegate_graphql_api.locations_table import LocationsTable
from aegate_graphql_api.page_config import page_config
from aegate_graphql_api.patient_data import AccessLog
from aegate_graphql_api.policy import Policy
from aegate_graphql_api.rules import Rules

GRAPHIQL = Path(__file__).parent / "static" / "graphiql"
READY_TIMEOUT_S = 3

_HEADERS = {
    b"content-security-policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        b"font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}
"""``style-src`` allows inline styles because GraphiQL's editor sets them; scripts are files of ours alone."""


class SecurityHeaders:
    """Adds the headers that keep a browser from doing more than it should."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with the headers; no answer but the page's files may be stored."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cached = b"public, max-age=3600" if scope["path"].startswith("/graphiql/") else b"no-store"

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS.items(), (b"cache-control", cached)]
            await send(message)

        await self._app(scope, receive, with_headers)


class Straight:
    """Hands what is posted to ``/graphql`` to the endpoint at once: finding a route takes as long as many rows."""

    def __init__(self, app: ASGIApp, answer: Callable[[Request], Awaitable[Response]]) -> None:
        self._app = app
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] == "http" and scope["path"] == "/graphql" and scope["method"] == "POST":
            response = await self._answer(Request(scope, receive, send))
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def create_app(
    db: Database,
    authenticator: Authenticator,
    policy: Policy | None = None,
    *,
    live: Live | None = None,
    manifests: Manifests | None = None,
) -> Starlette:
    """Return the application over an open database; ``live``, with rules of its own, for who ends its streams.

    Resources are changed in ``manifests``; ``state.tasks`` keeps what the process does in the background,
    ``state.registry`` has the metrics. Raises InvalidInput for trusted documents that cannot be used.
    """
    live = live or Live(db, authenticator, Rules(policy or Policy(), AccessLog(db)))
    policy = live.rules.policy
    metrics = APIMetrics()
    tasks = Tasks(metrics.failing_tasks)
    endpoint = GraphQLEndpoint(db, authenticator, metrics, live, manifests)
    table = LocationsTable(db, endpoint)
    metrics.streams.set_function(lambda: live.streams.count)

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        trouble = await database_trouble(db)
        # What fails in the background keeps nobody from asking: it is said, and we stay ready.
        said = trouble or (f"ok: {failing}" if (failing := tasks.trouble()) else "ok")
        return PlainTextResponse(said + "\n", status_code=503 if trouble else 200)

    async def measured(request: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def config(request: Request) -> Response:
        return JSONResponse(request.app.state.page_config)

    async def page(request: Request) -> Response:
        return FileResponse(GRAPHIQL / "index.html", media_type="text/html; charset=utf-8")

    async def to_page(request: Request) -> Response:
        return RedirectResponse("/graphiql")

    app = Starlette(
        routes=[
            Route("/graphql", endpoint.answer, methods=["POST"]),
            WebSocketRoute("/graphql", live.sockets.serve),
            Route("/import/locations", table.import_, methods=["POST"]),
            Route("/export/locations", table.export, methods=["GET"]),
            Route("/config.json", config),
            Route("/graphiql", page),
            Mount("/graphiql", StaticFiles(directory=GRAPHIQL)),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", measured),
            Route("/", to_page),
        ],
        middleware=[
            Middleware(LateRefusals),
            Middleware(SecurityHeaders),
            Middleware(FewHeaders),
            *_pages_of_others(policy),
            Middleware(Straight, endpoint.answer),
        ],
        exception_handlers={HTTPException: _nothing_here},
    )
    app.state.page_config = page_config(IdentitySettings())
    app.state.tasks = tasks
    app.state.registry = metrics.registry
    return app


def _pages_of_others(policy: Policy) -> list[Middleware]:
    """Let browsers pass on what pages of the allowed origins ask; without any, nothing is allowed."""
    if not policy.origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=policy.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "traceparent"],
            expose_headers=["Retry-After"],
        )
    ]


async def _nothing_here(request: Request, error: Exception) -> Response:
    """Answer a wrong method or path as `/graphql` answers what it refuses."""
    assert isinstance(error, HTTPException), "the only kind it is registered for"
    expected = (
        "POST is expected, got another method: send an operation as JSON, or open /graphiql in a browser"
        if error.status_code == 405 and request.url.path == "/graphql"
        else "nothing is at this path by this method: POST to /graphql, or open /graphiql in a browser"
    )
    return JSONResponse(problem_body("BAD_REQUEST", expected), error.status_code, error.headers)


async def database_trouble(db: Database) -> str | None:
    """Return what keeps the database from answering, or None."""
    asking = asyncio.create_task(db.fetch_value("SELECT count(*) FROM fencing"))
    # Not cancelled and awaited: that takes as long again where the network swallows the cancel, too.
    await asyncio.wait({asking}, timeout=READY_TIMEOUT_S)
    if not asking.done():
        asking.cancel()
        return f"the database did not answer within {READY_TIMEOUT_S} s"
    error = asking.exception()
    if isinstance(error, AegateError):
        return error.message
    if error is not None:
        raise error
    return None
