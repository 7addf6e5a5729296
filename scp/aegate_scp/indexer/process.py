"""An indexer process from its first line of log to its last: state file, health, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from importlib.metadata import version

from aegate_core.database import open_database
from aegate_core.errors import AegateError, InvalidInput
from aegate_core.events import (
    PROCESS_FAILED,
    PROCESS_READY,
    PROCESS_STARTED,
    PROCESS_STOPPED,
    PROCESS_STOPPING,
    Log,
    configure_logging,
)
from aegate_core.health import HealthServer, ProcessState
from aegate_core.watchdog import Watchdog
from aegate_scp.indexer.loop import Indexer
from aegate_scp.indexer.metrics import IndexerMetrics
from aegate_scp.indexer.settings import IndexerSettings, read_settings

STUCK_AFTER_S = 120.0
"""Without a look into the spool for so long the process counts as dead; by feel: a batch takes under a second."""

log = Log("indexer")


class IndexerProcess:
    """Run one indexer until it is told to stop."""

    def __init__(self, settings: IndexerSettings) -> None:
        self._settings = settings
        self._metrics = IndexerMetrics()
        self._indexer: Indexer | None = None
        self._trouble = ""
        self._state: ProcessState | None = None
        self._signal = ""
        self._health = HealthServer(
            settings.health_address, registry=self._metrics.registry, alive=self._alive, ready=self._ready
        )

    async def run(self) -> int:
        """Return the exit code: 0 after a stop, 2 when it cannot work at all."""
        log(PROCESS_STARTED, process="indexer", pid=os.getpid(), version=version("aegate-scp"))
        self._health.start()
        self._say("starting")
        try:
            async with open_database(self._settings.database_url) as db:
                self._indexer = Indexer(
                    db, self._settings.data, self._settings.process, metrics=self._metrics, say=self._hear
                )
                self._stop_on_signals(self._indexer)
                log(PROCESS_READY, process="indexer", health_port=self._health.port)
                self._say("ready")
                async with Watchdog("indexer").watching():
                    await self._indexer.run()
        except AegateError as error:
            log(PROCESS_FAILED, process="indexer", error=error.message, code=error.code)
            self._say("failed", error.message)
            return 2
        finally:
            self._health.stop()
        self._say("stopping", "stopped")
        log(PROCESS_STOPPED, process="indexer", reason=self._signal)
        return 0

    def _stop_on_signals(self, indexer: Indexer) -> None:
        def stop(number: int) -> None:
            self._signal = signal.Signals(number).name
            log(PROCESS_STOPPING, process="indexer", signal=self._signal)
            self._say("stopping")
            indexer.stop()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)

    def _hear(self, trouble: str) -> None:
        """Take up what the indexer says of itself; '' is: all is well."""
        self._trouble = trouble
        if not self._signal:
            self._say("degraded" if trouble else "ready", trouble)

    def _say(self, state: str, message: str = "") -> None:
        """Write the state file when something has changed."""
        said = ProcessState("indexer", os.getpid(), state, health_port=self._health.port, message=message)
        if said != self._state and self._settings.state_file and not said.write(self._settings.state_file):
            return  # It is written when there is room again.
        self._state = said

    def _alive(self) -> str | None:
        indexer = self._indexer
        if indexer is None or time.monotonic() - indexer.looked_at < STUCK_AFTER_S:
            return None
        return "the spool was not looked into for two minutes"

    def _ready(self) -> str | None:
        return "starting" if self._indexer is None else self._trouble or None


def run(environ: Mapping[str, str]) -> int:
    """Run an indexer as ``environ`` says; return the exit code."""
    try:
        settings = read_settings(environ)
    except InvalidInput as error:
        configure_logging()
        log(PROCESS_FAILED, process="indexer", error=error.message, code=error.code)
        return 2
    configure_logging(terminal=settings.log_terminal)
    return asyncio.run(IndexerProcess(settings).run())
