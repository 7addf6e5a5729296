"""The loop that carries on with changes of many, in every API process; how often one looks is all that it remembers."""

from __future__ import annotations

import asyncio
import time

from aegate_core.database import Database
from aegate_core.errors import StorageError
from aegate_core.events import OPERATION_ENDED, OPERATION_FAILED, Log, fault_text
from aegate_core.services import operations

LOOK_EVERY_S = 0.5
"""How long a new operation waits at most for its first batch; by feel: one indexed read, twice a second."""

log = Log("api")


async def operate(db: Database, batch: int) -> None:
    """Do batches until cancelled; a database that is away is waited for. After each, others have as long a turn."""
    while True:
        began = time.monotonic()
        done = await carry_on(db, batch)
        await asyncio.sleep(time.monotonic() - began if done else LOOK_EVERY_S)


async def carry_on(db: Database, batch: int = operations.BATCH) -> bool:
    """Do one batch; return whether there was one to do."""
    taken: list[int] = []
    try:
        stepped = await operations.step(db, batch=batch, taken=taken)
    except StorageError:
        return False
    except Exception as fault:
        # The outermost place of an operation: by trying it for ever, all others would wait behind it.
        if not taken:
            raise
        log(OPERATION_FAILED, operation=taken[-1], error=fault_text(fault))
        await operations.fail(db, taken[-1], "INTERNAL")
        return True
    if stepped is None:
        return False
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
