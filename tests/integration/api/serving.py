"""A hospital's API over a real socket, in this event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from aegate_core.database import DatabaseClock
from aegate_core.services.manifests import Manifests
from aegate_graphql_api.app import create_app
from aegate_graphql_api.authentication import Authenticator, LocalTokens
from aegate_graphql_api.live.service import Live
from aegate_graphql_api.live.streams import StreamLimits
from aegate_graphql_api.patient_data import AccessLog
from aegate_graphql_api.policy import Policy
from aegate_graphql_api.process import server_config
from aegate_graphql_api.rules import Rules
from tests.integration.api.clients import API
from tests.integration.waiting import eventually_async


@dataclass
class Served:
    """A served API: its hospital, its port, its live side."""

    api: API
    port: int
    live: Live

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/graphql"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}/graphql"


def rules_of(api: API, **policy: Any) -> Rules:
    """Return the rules of a policy."""
    return Rules(Policy(**policy), AccessLog(api.db))


@asynccontextmanager
async def served_api(
    api: API,
    limits: StreamLimits | None = None,
    authenticator: Authenticator | None = None,
    rules: Rules | None = None,
    manifests: Manifests | None = None,
    *,
    port: int = 0,
    clock: DatabaseClock | None = None,
) -> AsyncIterator[Served]:
    """Serve the API's application with uvicorn, as the process does; on any free port unless one is given."""
    authenticator = authenticator or LocalTokens(api.tokens)
    live = Live(api.db, authenticator, rules or rules_of(api), limits, clock)
    with socket.create_server(("127.0.0.1", port)) as listening:
        server = uvicorn.Server(
            server_config(create_app(api.db, authenticator, live=live, manifests=manifests), 2, live)
        )
        serving = asyncio.create_task(server._serve([listening]))
        await eventually_async(lambda: server.started, what="uvicorn serves")
        try:
            yield Served(api, int(listening.getsockname()[1]), live)
        finally:
            server.should_exit = True
            await serving
