"""A migrated database to be copied: the migrations from the first one on take longer than most tests."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aegate_core.database import migrate


def migrate_apart(url: str) -> None:
    """Migrate in a thread: the event loop of the tests is not touched."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, migrate(url)).result()


@functools.cache
def migrated_file() -> bytes:
    """Return the bytes of an SQLite file with the schema and no row of anybody's; made once a process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "migrated.sqlite3"
        migrate_apart(f"sqlite://{path}")
        return path.read_bytes()
