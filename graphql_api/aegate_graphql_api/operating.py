"""The loop that carries on with changes of many, in every API process.

All that it remembers is how often one looks, and of which operations it was said that their batch has to wait.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from aegate_core.database import Database
from aegate_core.errors import StorageError
from aegate_core.events import OPERATION_ENDED, OPERATION_FAILED, OPERATION_WAITS, Log, fault_text
from aegate_core.services import operations

LOOK_EVERY_S = 0.5
"""How long a new operation waits at most for its first batch; by feel: one indexed read, twice a second."""

log = Log("api")


async def operate(db: Database, batch: int) -> None:
    """Do batches until cancelled; a database that is away is waited for. After each, others have as long a turn."""
    told: set[int] = set()
    while True:
        began = time.monotonic()
        done = await carry_on(db, batch, told)
        await asyncio.sleep(time.monotonic() - began if done else LOOK_EVERY_S)


async def carry_on(db: Database, batch: int = operations.BATCH, told: set[int] | None = None) -> bool:
    """Do one batch; return whether one was done. ``told``: the operations of which it was said that they wait."""
    taken: list[int] = []
    told = set() if told is None else told
    try:
        stepped = await operations.step(db, batch=batch, taken=taken)
    except StorageError as error:
        if taken:
            await _let_others_go_first(db, taken[-1], error, told)
        return False
    except Exception as fault:
        # The outermost place of an operation: by trying it for ever, all others would wait behind it.
        if not taken:
            raise
        log(OPERATION_FAILED, operation=taken[-1], error=fault_text(fault))
        await operations.fail(db, taken[-1], "INTERNAL", "a fault of aegate: the log of the API tells more")
        return True
    if stepped is None:
        return False
    told.discard(stepped.operation_id)
    if stepped.state != "RUNNING":
        log(
            OPERATION_ENDED,
            operation=stepped.operation_id,
            mutation=stepped.action,
            state=stepped.state,
            processed=stepped.processed,
            total=stepped.total,
        )
    return True


async def _let_others_go_first(db: Database, operation_id: int, error: StorageError, told: set[int]) -> None:
    """Put an operation behind all others, and say so once; it ends as FAILED where that was too often.

    A database that is away says nothing of an operation.
    """
    with suppress(StorageError):
        deferred = await operations.defer(db, operation_id, error)
        if deferred is not None and deferred.has_ended:
            told.discard(operation_id)
            log(OPERATION_FAILED, operation=operation_id, error=error.message)
        elif operation_id not in told:
            told.add(operation_id)
            log(OPERATION_WAITS, operation=operation_id, error=error.message)
