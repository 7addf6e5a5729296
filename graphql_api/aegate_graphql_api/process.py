"""The process of the API: its environment, its signals, what it says of itself."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import uvicorn
from starlette.applications import Starlette

from aegate_core.core_dumps import forbid_core_dumps
from aegate_core.database import Database, open_database
from aegate_core.errors import AegateError, StorageError
from aegate_core.events import (
    DATABASE_AWAY,
    DATABASE_BACK,
    PROCESS_FAILED,
    PROCESS_READY,
    PROCESS_STARTED,
    PROCESS_STOPPED,
    PROCESS_STOPPING,
    Log,
    configure_logging,
)
from aegate_core.health import HealthServer, ProcessState
from aegate_core.services.intents import Place
from aegate_core.watchdog import Watchdog
from aegate_graphql_api.app import READY_TIMEOUT_S, create_app, database_trouble
from aegate_graphql_api.arrivals import MOST_UNHEARD_BYTES, PatientProtocol
from aegate_graphql_api.identity.assembly import open_authenticator
from aegate_graphql_api.kept_up import Tasks
from aegate_graphql_api.live.service import Live
from aegate_graphql_api.live.streams import StreamLimits
from aegate_graphql_api.live.websocket import MAX_FRAME_BYTES
from aegate_graphql_api.operating import operate
from aegate_graphql_api.page_config import page_config
from aegate_graphql_api.patient_data import AccessLog
from aegate_graphql_api.resources_place import open_manifests
from aegate_graphql_api.rules import Rules
from aegate_graphql_api.settings import Settings, settings_from
from aegate_graphql_api.sweeping import keep_swept
from aegate_graphql_api.tracing import tracing

PROCESS = "api"
CHECK_EVERY_S = 5
"""How often the database is looked after, so that log and state file tell when it is away."""

LAST_WORDS_S = 2
"""How long an ending process tries to write how often patient data was read; that it was is written already."""
UNREAD_MS = 30_000
"""How long what was written may stay unacknowledged: a client that is gone, or reads nothing (tcp(7))."""
DRAIN_S = 3.0
"""How long streams may take to hear that the server stops; then they are cut."""

log = Log("api")


class _Server(uvicorn.Server):
    """uvicorn, which says in our words when it listens and when it stops."""

    def __init__(self, config: uvicorn.Config, settings: Settings, port: int, live: Live) -> None:
        super().__init__(config)
        self._settings = settings
        self._live = live
        self._ending: asyncio.Task[None] | None = None
        self._port = port

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            say(self._settings, "ready", port=self._port)
            log(PROCESS_READY, process=PROCESS, port=self._port, health_port=self._port)

    def stop(self, number: signal.Signals) -> None:
        """End streams, then the running requests, then return; a second signal ends at once."""
        log(PROCESS_STOPPING, process=PROCESS, signal=number.name, grace_s=self._settings.grace_s)
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(number))
        else:
            self.should_exit = True
            self.handle_exit(number, None)

    async def _end(self, number: signal.Signals) -> None:
        await self._live.streams.drain(min(DRAIN_S, self._settings.grace_s / 2))
        self.handle_exit(number, None)


def say(settings: Settings, state: str, *, port: int = 0, message: str = "") -> bool:
    """Write the state file, where there is one; False when the disk does not take it."""
    if settings.state_file is None:
        return True
    said = ProcessState(PROCESS, os.getpid(), state, health_port=port, port=port, message=message)
    return said.write(settings.state_file)


def listen(settings: Settings) -> socket.socket:
    """Bind the address. Raises StorageError with what to do when it is taken or not ours."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it: the kernel drops one whose client reads nothing of what was written when we ended it.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise StorageError(
            f"cannot listen on {settings.host}:{settings.port} ({os.strerror(error.errno or 0)}): "
            "stop what holds it, or choose another address with AEGATE_HTTP_LISTEN"
        ) from error
    return listening


def server_config(app: Starlette, grace_s: int, live: Live) -> uvicorn.Config:
    """Return how uvicorn serves the application: what it says, and the limits that only it can keep."""
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        h11_max_incomplete_event_size=MOST_UNHEARD_BYTES,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=grace_s,
        timeout_keep_alive=30,
        limit_concurrency=500 + live.streams.limits.in_all,
        ws="websockets-sansio",
        ws_max_size=MAX_FRAME_BYTES,
        ws_per_message_deflate=False,
    )


async def serve(settings: Settings) -> None:
    """Serve until a signal comes; running requests may end within the grace period."""
    tls = settings.identity.tls
    with listen(settings) as listening:
        port = int(listening.getsockname()[1])
        async with (
            open_database(settings.database_url, everywhere=True) as db,
            open_manifests(settings.resources, db) as manifests,
            open_authenticator(settings, db) as authenticator,
            tracing(settings.traces, db) as traces,
        ):
            accesses = AccessLog(db)
            limits = StreamLimits(in_all=settings.streams, by_caller=settings.streams_by_caller)
            live = Live(db, authenticator, Rules(settings.policy, accesses, traces), limits)
            app = create_app(db, authenticator, live=live, manifests=manifests)
            app.state.page_config = page_config(settings.identity)
            config = server_config(app, settings.grace_s, live)
            config.ssl_context_factory = None if tls is None else tls.factory()
            server = _Server(config, settings, port, live)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, server.stop, number)
            kept: Tasks = app.state.tasks
            watch = partial(_watch, settings, db, port, accesses, kept)
            tasks = [
                asyncio.create_task(kept.keep("watch", watch)),
                asyncio.create_task(kept.keep("operate", partial(operate, db, settings.operation_batch))),
            ]
            if manifests is not None:
                sweep = partial(keep_swept, db, manifests, open_after=settings.open_after, place=Place())
                tasks.append(asyncio.create_task(kept.keep("sweep", sweep)))
            try:
                with _measured(settings, app, db, loop):
                    async with Watchdog(PROCESS).watching():
                        await server._serve([listening])
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                with suppress(AegateError, TimeoutError):
                    async with asyncio.timeout(LAST_WORDS_S):
                        await accesses.flush(now=await db.time())


@contextmanager
def _measured(
    settings: Settings, app: Starlette, db: Database, loop: asyncio.AbstractEventLoop
) -> Iterator[None]:
    """Serve health and metrics at an address of their own, where one is given. Raises StorageError when it is taken."""
    if settings.health_address is None:
        yield
        return
    host, port = settings.health_address

    def trouble() -> str | None:
        asking = asyncio.run_coroutine_threadsafe(database_trouble(db), loop)
        try:
            return asking.result(READY_TIMEOUT_S + 1)
        except TimeoutError:  # it waits no longer by itself: the loop stands still
            asking.cancel()
            return f"the process did not answer within {READY_TIMEOUT_S + 1} s"

    tasks: Tasks = app.state.tasks
    try:
        health = HealthServer(
            (host, port), registry=app.state.registry, alive=lambda: None, ready=trouble, note=tasks.trouble
        )
    except OSError as error:
        raise StorageError(
            f"cannot listen on {host}:{port} ({os.strerror(error.errno or 0)}): "
            "stop what holds it, or choose another address with AEGATE_HEALTH_LISTEN"
        ) from error
    health.start()
    try:
        yield
    finally:
        health.stop()


async def _watch(settings: Settings, db: Database, port: int, accesses: AccessLog, kept: Tasks) -> None:
    """Say when the database goes and when it comes back. What a full disk did not take is said again."""
    away_since: float | None = None
    said: str | None = None
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(CHECK_EVERY_S)
        trouble = await database_trouble(db)
        if not trouble:
            with suppress(AegateError):
                await accesses.turn(now=await db.time())
        if trouble and away_since is None:
            away_since = loop.time()
            log(DATABASE_AWAY, error=trouble, retry_s=CHECK_EVERY_S)
        elif not trouble and away_since is not None:
            log(DATABASE_BACK, away_s=round(loop.time() - away_since, 1))
            away_since = None
        trouble = trouble or kept.trouble()
        state, message = ("degraded", trouble) if trouble else ("ready", "")
        if message != said and say(settings, state, port=port, message=message):
            said = message


def run() -> int:
    """Read the environment, serve, and return the exit code."""
    forbid_core_dumps()
    try:
        settings = settings_from(os.environ)
    except AegateError as error:
        sys.stderr.write(f"aegate api: {error.message}\n")
        return 2
    configure_logging(terminal=settings.log_terminal)
    log(PROCESS_STARTED, process=PROCESS, pid=os.getpid())
    say(settings, "starting")
    try:
        asyncio.run(serve(settings))
    except AegateError as error:
        log(PROCESS_FAILED, process=PROCESS, error=error.message, code=error.code)
        say(settings, "failed", message=error.message)
        return 1
    say(settings, "stopped")
    log(PROCESS_STOPPED, process=PROCESS, reason="signal")
    return 0
