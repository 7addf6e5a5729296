"""An end within a time: whoever stops a process kills it when that takes too long, and waits for it until then."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


async def until_stopped(
    work: Coroutine[object, object, object], stopping: asyncio.Event, *, within_s: float
) -> None:
    """Run ``work``. Once ``stopping`` is set it has so long to return by itself; then it is cancelled.

    A statement whose answer the network swallows takes longer than anybody waits for a stop. Raises what ``work``
    raises.
    """
    working = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({working}, timeout=within_s)
    finally:
        waiting.cancel()
        working.cancel()
        await asyncio.wait({working})
    if not working.cancelled():
        working.result()
