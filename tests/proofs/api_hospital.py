"""A database with images, queue items and routes in it, for proofs of the API."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aegate_core.database import migrate, open_database
from tests.integration.api.clients import connect, fill
from tests.integration.intake.hospital import Place, spool_folder
from tests.integration.postgres import postgres_server

REAL_IDS = """{ queueItems(first: 20) { nodes { id instances { nodes { arrivalId } } } }
    studies(first: 20) { nodes { id patient { id } series { id } } } destinations { nodes { id } }
    imageRoutes { nodes { id } } applicationEntities { nodes { id } } closeUnits { nodes { id } } }"""


@contextmanager
def hospital(folder: Path, database: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the URL of a database with images, queue items and routes in it, and the ids of all of them."""
    if database == "sqlite":
        url = f"sqlite://{folder}/aegate.sqlite3"
        yield url, asyncio.run(_filled(folder, url))
        return
    with postgres_server() as server:
        url = server.create("aegate")
        yield url, asyncio.run(_filled(folder, url))


async def _filled(folder: Path, url: str) -> list[str]:
    await migrate(url)
    async with open_database(url) as db:
        with spool_folder(folder / "spool") as spool:
            place = Place(db, folder, spool)
            await place.apply()
            await fill(place)
            api = connect(place, folder)
            async with api.client:
                found = await api.ask(REAL_IDS)
    return re.findall(r"'id': '([^']+)'", str(found))
