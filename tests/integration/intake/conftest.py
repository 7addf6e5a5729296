"""A data folder and a migrated database for each test, on both kinds of database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aegate_core.database import open_database
from tests.integration.intake.hospital import Place, spool_folder


@pytest.fixture
async def place(database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with open_database(database_url) as db:
        with spool_folder(tmp_path / "spool") as spool:
            here = Place(db, tmp_path, spool)
            await here.apply()
            yield here
