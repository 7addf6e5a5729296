"""Removing what may go by age: once an hour in a worker, or once by ``python -m aegate_scu.retaining``.

The second is a cluster's: there workers have a role of the database that may remove nothing, and a CronJob has the
owner's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from aegate_core.core_dumps import forbid_core_dumps
from aegate_core.database import Database, ensure_schema, open_database
from aegate_core.errors import AegateError, DatabaseUnavailable, InvalidInput, StorageError
from aegate_core.events import (
    PROCESS_FAILED,
    RETENTION_DONE,
    RETENTION_FAILED,
    Log,
    configure_logging,
    fault_text,
)
from aegate_core.services.retention import retain
from aegate_core.settings import DataFolder, data_folder, database_url, log_terminal, required

log = Log("scu")


async def retain_and_report(
    db: Database, data: DataFolder, *, now: datetime, is_stopped: Callable[[], bool]
) -> bool:
    """Remove what may go and log what went; False when something was in the way. Raises DatabaseUnavailable."""
    try:
        report = await retain(db, data, now=now, is_stopped=is_stopped)
    except DatabaseUnavailable:
        raise
    except (StorageError, InvalidInput) as error:
        log(RETENTION_FAILED, error=error.message)
        return False
    for partition, removed in report.partitions.items():
        if removed.studies or removed.deliveries:
            log(
                RETENTION_DONE,
                partition=partition,
                studies=removed.studies,
                images=removed.images,
                size_bytes=removed.size_bytes,
                deliveries=removed.deliveries,
                kept=sum(removed.kept.values()),
            )
    return True


async def retain_once(url: str, data: DataFolder, is_stopped: Callable[[], bool]) -> bool:
    """Remove what may go by now, on a schema of this version or one expanded since; False when not all of it went."""
    await ensure_schema(url, newer=True)
    async with open_database(url) as db:
        return await retain_and_report(db, data, now=await db.time(), is_stopped=is_stopped)


def main(environ: Mapping[str, str]) -> int:
    """Run once and return the exit code: 0 when all went that may go, or the rest is left to the next run."""
    forbid_core_dumps()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.set())
    configure_logging()
    try:
        configure_logging(terminal=log_terminal(environ))
        data = data_folder(environ, Path(required(environ, "AEGATE_DATA")))
        is_done = asyncio.run(retain_once(database_url(environ, data), data, stopping.is_set))
    except AegateError as error:
        log(PROCESS_FAILED, process="retention", error=error.message, code=error.code)
        return 1
    except Exception as fault:
        # The outermost place of the process: a traceback could quote values of rows.
        log(PROCESS_FAILED, process="retention", error=fault_text(fault), code="FAULT")
        return 1
    return 0 if is_done else 1


if __name__ == "__main__":
    sys.exit(main(os.environ))
