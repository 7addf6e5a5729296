"""The process of a worker: its environment, its signals, what it says of itself."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import warnings

from aegate_core.core_dumps import forbid_core_dumps
from aegate_core.database import open_database
from aegate_core.errors import AegateError
from aegate_core.events import (
    PROCESS_FAILED,
    PROCESS_READY,
    PROCESS_STARTED,
    PROCESS_STOPPED,
    PROCESS_STOPPING,
    Log,
    configure_logging,
    fault_text,
)
from aegate_core.health import HealthServer, ProcessState
from aegate_core.stopping import ImpatientExecutor
from aegate_core.watchdog import Watchdog
from aegate_scu.metrics import WorkerMetrics
from aegate_scu.settings import WorkerSettings, read_settings
from aegate_scu.worker import Worker

PROCESS = "worker"
SAY_EVERY_S = 1.0

log = Log("scu")


def _say(settings: WorkerSettings, state: str, *, health_port: int = 0, message: str = "") -> bool:
    if settings.state_file is None:
        return True
    said = ProcessState(PROCESS, os.getpid(), state, health_port=health_port, message=message)
    return said.write(settings.state_file)


async def _say_how_it_is(settings: WorkerSettings, worker: Worker, health_port: int) -> None:
    """Keep the state file true; on a full disk, as soon as there is room."""
    said: str | None = None
    while True:
        trouble = worker.trouble() or ""
        state = "degraded" if trouble else "ready"
        if trouble != said and _say(settings, state, health_port=health_port, message=trouble):
            said = trouble
        await asyncio.sleep(SAY_EVERY_S)


async def work(settings: WorkerSettings) -> None:
    """Run a worker until a signal; health and metrics are served meanwhile."""
    asyncio.get_running_loop().set_default_executor(ImpatientExecutor())
    metrics = WorkerMetrics()
    async with open_database(settings.database_url) as db:
        worker = Worker(db, settings, metrics)
        health = HealthServer(
            settings.health_address, registry=metrics.registry, alive=lambda: None, ready=worker.trouble
        )
        health.start()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop, worker, number)
        saying = asyncio.create_task(_say_how_it_is(settings, worker, health.port))
        log(PROCESS_READY, process=PROCESS, health_port=health.port)
        try:
            async with Watchdog(PROCESS).watching():
                await worker.run()
        finally:
            saying.cancel()
            health.stop()


def _stop(worker: Worker, number: signal.Signals) -> None:
    log(PROCESS_STOPPING, process=PROCESS, signal=number.name)
    worker.stop()


def run() -> int:
    """Read the environment, work, and return the exit code."""
    forbid_core_dumps()
    try:
        settings = read_settings(os.environ)
    except AegateError as error:
        sys.stderr.write(f"aegate worker: {error.message}\n")
        return 2
    configure_logging(terminal=settings.log_terminal)
    # What pynetdicom says of peers, our events say in our words.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")  # pydicom's warnings quote values of data sets
    log(PROCESS_STARTED, process=PROCESS, pid=os.getpid())
    _say(settings, "starting")
    try:
        asyncio.run(work(settings))
    except AegateError as error:
        log(PROCESS_FAILED, process=PROCESS, error=error.message, code=error.code)
        _say(settings, "failed", message=error.message)
        return 1
    except Exception as error:
        # The outermost place of the process: a traceback could quote values of rows, so kind and place are said.
        log(PROCESS_FAILED, process=PROCESS, error=fault_text(error), code="FAULT")
        _say(settings, "failed", message=fault_text(error))
        return 1
    _say(settings, "stopped")
    log(PROCESS_STOPPED, process=PROCESS, reason="signal")
    return 0
