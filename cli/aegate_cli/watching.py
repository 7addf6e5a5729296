"""Say when the folder of resources has changed: by inotify at once, and by a look once a second where that fails.

Network file systems and bind mounts send no events, and a folder that was replaced loses its watch: the look finds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from watchfiles import awatch

from aegate_cli.folder import Fingerprint, fingerprint

LOOK_EVERY_S = 1.0
DEBOUNCE_MS = 200
"""A change is taken up when nothing more came for so long, at the latest after a second look."""


async def folder_changes(folder: Path, stop: asyncio.Event) -> AsyncIterator[None]:
    """Yield after every change of a file in ``folder``, until ``stop`` is set. A folder that is gone is waited for."""
    known: Fingerprint = await asyncio.to_thread(fingerprint, folder)
    while not stop.is_set():
        try:
            watch = awatch(
                folder,
                watch_filter=None,
                debounce=DEBOUNCE_MS,
                rust_timeout=int(LOOK_EVERY_S * 1000),
                yield_on_timeout=True,
                stop_event=stop,
            )
            async with aclosing(watch):
                async for _ in watch:
                    now = await asyncio.to_thread(fingerprint, folder)
                    if now != known:
                        known = now
                        yield None
                    if not now:
                        # Nothing is there, perhaps not even the folder: one that is made anew needs a new watch.
                        break
        except OSError:
            # The folder is gone, or this system has no watches left: look again by ourselves.
            now = await asyncio.to_thread(fingerprint, folder)
            if now != known:
                known = now
                yield None
        if not stop.is_set():
            await asyncio.sleep(LOOK_EVERY_S / 2)
