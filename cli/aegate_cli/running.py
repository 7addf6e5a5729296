"""One run of `aegate up`, from the data folder's lock to the last process's end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import replace
from importlib.metadata import version

from prometheus_client import CollectorRegistry
from rich.console import Console

from aegate_cli.api.place import Address
from aegate_cli.data_folder import data_option, hold_data_folder
from aegate_cli.first_token import ensure_token
from aegate_cli.installation import Installation, standing_processes
from aegate_cli.interrupts import Interrupts
from aegate_cli.listeners import Listeners
from aegate_cli.ports import Endpoint, ensure_bindable
from aegate_cli.reconcile import DATABASE_RETRY_S, Reconciler, log_problem
from aegate_cli.status import ProcessCollector, process_table
from aegate_cli.supervisor import Supervisor
from aegate_core.database import Database, migrate, open_database
from aegate_core.errors import DatabaseUnavailable, InvalidInput, SerializationConflict
from aegate_core.events import (
    DATABASE_AWAY,
    PROCESS_READY,
    PROCESS_STARTED,
    PROCESS_STOPPED,
    PROCESS_STOPPING,
    Log,
    configure_logging,
)
from aegate_core.health import HealthServer, ProcessState
from aegate_core.resources.validation import ValidationResult
from aegate_core.stopping import until_stopped

LAST_STEP_S = 5.0
"""How long the database may take over the last step after a stop."""

log = Log("up")


def run_installation(installation: Installation) -> int:
    """Run until a signal; return the exit code. Raises AegateError when it cannot start."""
    terminal = {"terminal": True, "json": False}.get(os.environ.get("AEGATE_LOG_FORMAT", ""))
    configure_logging(terminal=terminal)
    with hold_data_folder(installation.data.root) as held:
        for stale in held.data.run.glob("*.state"):
            stale.unlink(missing_ok=True)
        return asyncio.run(_run(replace(installation, lock_fd=held.lock_fd)))


async def _run(installation: Installation) -> int:
    stop, hurry = asyncio.Event(), asyncio.Event()
    _listen_to_signals(stop, hurry)
    log(PROCESS_STARTED, process="up", pid=os.getpid(), version=version("aegate-cli"))
    _ensure_ports(installation)
    if not await _bring_up_schema(installation.database_url, stop):
        log(PROCESS_STOPPED, process="up", reason="signal")
        return 0
    async with open_database(installation.database_url) as db:
        return await _Run(installation, db, stop, hurry).until_stopped()


async def _bring_up_schema(url: str, stop: asyncio.Event) -> bool:
    """Bring the schema up; False when ``stop`` was set first.

    A database that is on its way is waited for, however long it takes: after a power cut both start at once, and a
    recovery takes minutes. One that is not there is an error at once: it may be a mistake in the URL.
    """
    is_said = False
    while not stop.is_set():
        try:
            await migrate(url)
        except (DatabaseUnavailable, SerializationConflict) as error:
            if isinstance(error, DatabaseUnavailable) and not error.is_starting:
                raise
            if not is_said:
                log(DATABASE_AWAY, error=error.message, retry_s=DATABASE_RETRY_S)
                is_said = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DATABASE_RETRY_S):
                    await stop.wait()
        else:
            return True
    return False


class _Run:
    """Everything of one run, put together."""

    def __init__(
        self, installation: Installation, db: Database, stop: asyncio.Event, hurry: asyncio.Event
    ) -> None:
        self._installation = installation
        self._stop = stop
        self._hurry = hurry
        self._supervisor = Supervisor(
            grace_s=installation.grace_s,
            restart_max_s=installation.restart_max_s,
            changed=self._process_changed,
        )
        self._reconciler = Reconciler(installation, db, Listeners(installation, self._supervisor))
        self._console = Console()
        self._is_announced = False
        registry = CollectorRegistry()
        registry.register(ProcessCollector(self._supervisor))
        self._health = HealthServer(
            ("127.0.0.1", 0), registry=registry, alive=lambda: None, ready=self._readiness
        )

    async def until_stopped(self) -> int:
        """Start everything, keep it running, stop everything."""
        ensure_usable(await self._reconciler.start(), self._installation)
        ensure_token(self._installation, self._console)
        address_of(self._installation).write(self._installation.data)
        for spec in standing_processes(self._installation):
            self._supervisor.start(spec)
        self._health.start()
        watching = asyncio.create_task(self._supervisor.watch())
        reconciling = asyncio.create_task(
            until_stopped(self._reconciler.run(self._stop), self._stop, within_s=LAST_STEP_S)
        )
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({watching, reconciling, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._end(watching, stopping)
        await reconciling
        log(PROCESS_STOPPED, process="up", reason="signal")
        return 0

    async def _end(self, *tasks: asyncio.Task[object]) -> None:
        self._stop.set()
        log(PROCESS_STOPPING, process="up", grace_s=self._installation.grace_s)
        self._say("stopping")
        await self._supervisor.stop_all(self._hurry)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._health.stop()

    def _process_changed(self) -> bool:
        """Tell the reconciler, people and our state file; False when a full disk did not take that."""
        self._reconciler.wake()
        is_ready = self._supervisor.all_ready
        if is_ready and not self._is_announced:
            with contextlib.suppress(OSError):  # standard output may be a file on a full disk
                self._announce()
            log(PROCESS_READY, process="up", health_port=self._health.port)
        self._is_announced = is_ready
        return self._say("ready" if is_ready else "degraded")

    def _announce(self) -> None:
        self._console.print(process_table(self._supervisor.views()))
        self._console.print(
            announcement(self._installation, self._health.port), highlight=False, soft_wrap=True
        )

    def _say(self, state: str) -> bool:
        """Write our own state file, as every process does."""
        said = ProcessState(
            "up", os.getpid(), state, health_port=self._health.port, port=self._installation.http.port
        )
        return said.write(self._installation.data.run / "up.state")

    def _readiness(self) -> str | None:
        waiting = [v.name for v in self._supervisor.views() if v.state not in ("ready", "degraded")]
        return f"not ready: {', '.join(waiting)}" if waiting else None


def address_of(installation: Installation) -> Address:
    """Return where commands of this machine reach the API."""
    certificate = installation.way_in.get("AEGATE_HTTP_TLS_CERT")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(installation.http.host, installation.http.host)
    scheme = "http" if certificate is None else "https"
    return Address(f"{scheme}://{Endpoint(host, installation.http.port)}/graphql", certificate)


def announcement(installation: Installation, health_port: int) -> str:
    """Return what somebody who just started it wants to know."""
    scheme = "https" if installation.way_in else "http"
    token = f"aegate token create NAME{data_option(installation.data)}"
    lines = [
        f"DICOM   {installation.dicom} as {installation.title}; AEs with a listener.port have their own",
        f"GraphQL {scheme}://{installation.http}/graphql (in a browser /graphiql; `{token}` makes tokens)",
        f"Health  http://127.0.0.1:{health_port}/readyz, metrics at /metrics; the same on each process's health port",
        f"Data    {installation.data.root}",
    ]
    if installation.database_url.startswith("sqlite"):
        lines.append(
            "SQLite: one indexer and one worker, because it has one writer; --database postgres://… for more"
        )
    return "\n".join(lines)


def ensure_usable(read: ValidationResult, installation: Installation) -> None:
    """Refuse to start when the folder holds nothing that can be used. Raises InvalidInput with what is wrong."""
    if read.resources:
        return
    for problem in (*read.unreadable, *read.problems):
        log_problem(problem)
    first = next(iter((*read.unreadable, *read.problems)), None)
    raise InvalidInput(
        f"no resource in {installation.folder} can be used: {first or 'it is empty'}; "
        f"try `aegate validate {installation.folder}`"
    )


def _ensure_ports(installation: Installation) -> None:
    ensure_bindable(
        installation.dicom, purpose="the shared DICOM listener", remedy="Choose another with --dicom-port"
    )
    ensure_bindable(
        installation.http, purpose="the API", remedy="Choose another with --http-listen 127.0.0.1:PORT"
    )


def _listen_to_signals(stop: asyncio.Event, hurry: asyncio.Event) -> None:
    def on_stop() -> None:
        if sys.stderr.isatty():
            print(
                "aegate: stopping; open associations may finish, Ctrl-C again ends at once", file=sys.stderr
            )
        stop.set()

    def on_hurry() -> None:
        print("aegate: ending at once", file=sys.stderr)
        hurry.set()

    Interrupts(on_stop, on_hurry).listen()
