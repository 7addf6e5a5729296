"""An indexer process from its first line of log to its last: state file, health, signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping
from importlib.metadata import version

from aegate_core.database import check_database_url, open_database
from aegate_core.errors import AegateError, InvalidInput
from aegate_core.events import (
    DATABASE_AWAY,
    PROCESS_FAILED,
    PROCESS_READY,
    PROCESS_STARTED,
    PROCESS_STOPPED,
    PROCESS_STOPPING,
    Log,
    configure_logging,
)
from aegate_core.health import HealthServer, ProcessState
from aegate_core.stopping import ImpatientExecutor
from aegate_core.watchdog import Watchdog
from aegate_scp.indexer.database import LOOK_EVERY_S, current_url, until_other_url
from aegate_scp.indexer.exit_codes import NOT_EMPTY
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
        self._is_empty = False
        self._stopping = asyncio.Event()
        self._health = HealthServer(
            settings.health_address, registry=self._metrics.registry, alive=self._alive, ready=self._ready
        )

    async def run(self) -> int:
        """Return the exit code: 0 after a stop, NOT_EMPTY where the spool was to be emptied, 2 when it cannot work."""
        asyncio.get_running_loop().set_default_executor(ImpatientExecutor())
        log(PROCESS_STARTED, process="indexer", pid=os.getpid(), version=version("aegate-scp"))
        self._health.start()
        self._say("starting")
        self._stop_on_signals()
        try:
            async with Watchdog("indexer").watching():
                while not self._stopping.is_set():
                    if url := await self._wait_for_url():
                        await self._index(url)
        except AegateError as error:
            log(PROCESS_FAILED, process="indexer", error=error.message, code=error.code)
            self._say("failed", error.message)
            return 2
        finally:
            self._health.stop()
        self._say("stopping", "stopped")
        log(PROCESS_STOPPED, process="indexer", reason=self._signal or "nothing is left")
        return NOT_EMPTY if self._settings.duty.is_until_empty and not self._is_empty else 0

    async def _wait_for_url(self) -> str:
        """Return where the database is, as soon as that is known; '' when told to stop before."""
        while not self._stopping.is_set():
            try:
                url = await asyncio.to_thread(current_url, self._settings)
                check_database_url(url)
                return url
            except InvalidInput as error:
                if self._settings.database_url_file is None:
                    raise
                if error.message != self._trouble:
                    log(DATABASE_AWAY, error=error.message, retry_s=LOOK_EVERY_S)
                self._metrics.is_database_away.set(1)
                self._hear(error.message)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._stopping.wait()
        return ""

    async def _index(self, url: str) -> None:
        """Index until told to stop, until nothing is left, or until the database is another."""
        is_of_one = self._settings.duty.ae is not None
        async with open_database(url, sparing=is_of_one) as db:
            indexer = Indexer(
                db, self._settings.data, self._settings.duty, metrics=self._metrics, say=self._hear
            )
            self._indexer = indexer
            if self._stopping.is_set():
                return
            log(PROCESS_READY, process="indexer", health_port=self._health.port)
            self._hear("")
            looking = asyncio.create_task(self._stop_at_other_url(indexer, url))
            try:
                await indexer.run()
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
            if indexer.is_done:
                self._is_empty = True
                self._stopping.set()

    async def _stop_at_other_url(self, indexer: Indexer, url: str) -> None:
        if self._settings.database_url_file is not None:
            await until_other_url(self._settings, url)
            indexer.stop()

    def _stop_on_signals(self) -> None:
        def stop(number: int) -> None:
            self._signal = signal.Signals(number).name
            log(PROCESS_STOPPING, process="indexer", signal=self._signal)
            self._say("stopping")
            self._stopping.set()
            if self._indexer is not None:
                self._indexer.stop()

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


def run(environ: Mapping[str, str], *, is_until_empty: bool = False) -> int:
    """Run an indexer as ``environ`` says, perhaps only until nothing is left; return the exit code."""
    try:
        settings = read_settings(environ, is_until_empty=is_until_empty)
    except InvalidInput as error:
        configure_logging()
        log(PROCESS_FAILED, process="indexer", error=error.message, code=error.code)
        return 2
    configure_logging(terminal=settings.log_terminal)
    return asyncio.run(IndexerProcess(settings).run())
