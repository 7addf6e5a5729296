"""The process of the operator: its environment, its signals, what it says of itself."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

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
from aegate_core.health import HealthServer
from aegate_core.stores.cluster.connection import ClusterConnection, read_connection
from aegate_core.watchdog import Watchdog
from aegate_operator.assembly import Operator
from aegate_operator.reports import HTTPStateReader
from aegate_operator.settings import OperatorSettings, read_settings

PROCESS = "operator"

log = Log("operator")


async def operate(settings: OperatorSettings, connection: ClusterConnection) -> None:
    """Run the operator until a signal; health and metrics are served meanwhile."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):  # kopf takes them over when it starts, and ends with them
        loop.add_signal_handler(number, _stop, stop, number)
    async with (
        open_database(settings.database_url) as db,
        HTTPStateReader() as reader,
        Watchdog(PROCESS).watching(),
    ):
        operator = Operator(settings, connection, db, reader)
        health = HealthServer(
            settings.health_address,
            registry=operator.metrics.registry,
            alive=operator.liveness.trouble,
            ready=operator.trouble,
            note=operator.note,
        )
        health.start()
        log(PROCESS_READY, process=PROCESS, health_port=health.port)
        try:
            await operator.run(stop)
        finally:
            health.stop()


def _stop(stop: asyncio.Event, number: signal.Signals) -> None:
    log(PROCESS_STOPPING, process=PROCESS, signal=number.name)
    stop.set()


def run() -> int:
    """Read the environment, operate, and return the exit code."""
    forbid_core_dumps()
    try:
        settings = read_settings(os.environ)
        connection = read_connection(os.environ)
    except AegateError as error:
        sys.stderr.write(f"aegate operator: {error.message}\n")
        return 2
    configure_logging(terminal=settings.log_terminal)
    log(PROCESS_STARTED, process=PROCESS, pid=os.getpid())
    try:
        asyncio.run(operate(settings, connection))
    except AegateError as error:
        log(PROCESS_FAILED, process=PROCESS, error=error.message, code=error.code)
        return 1
    except Exception as error:
        # The outermost place of the process: whatever ended it, it is started anew, and the log says by what.
        log(PROCESS_FAILED, process=PROCESS, error=fault_text(error), code="FAULT")
        return 1
    log(PROCESS_STOPPED, process=PROCESS, reason="signal")
    return 0
