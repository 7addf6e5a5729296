"""A hospital whose images were received, indexed and routed, and the API over it, on both kinds of database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aegate_core.database import open_database
from tests.integration.api.clients import API, connect, fill
from tests.integration.api.serving import Served, served_api
from tests.integration.api.shell import Shell, opened_shell
from tests.integration.api.two_partitions import TwoPartitions, two_partitions
from tests.integration.intake.hospital import Place, spool_folder


@pytest.fixture
async def empty_api(database_url: str, tmp_path: Path) -> AsyncIterator[API]:
    async with open_database(database_url) as db:
        with spool_folder(tmp_path / "spool") as spool:
            place = Place(db, tmp_path, spool)
            await place.apply()
            api = connect(place, tmp_path)
            async with api.client:
                yield api


@pytest.fixture
async def two(database_url: str, tmp_path: Path) -> AsyncIterator[TwoPartitions]:
    """The same for two patient partitions, and a caller of each."""
    async with open_database(database_url) as db:
        with spool_folder(tmp_path / "spool") as spool:
            found = await two_partitions(Place(db, tmp_path, spool), tmp_path)
            async with found.api.client:
                yield found


@pytest.fixture
async def api(empty_api: API) -> API:
    await fill(empty_api.place)
    return empty_api


@pytest.fixture
async def served(empty_api: API) -> AsyncIterator[Served]:
    async with served_api(empty_api) as here:
        yield here


@pytest.fixture
async def shell(api: API, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shell]:
    async with opened_shell(api, tmp_path, monkeypatch) as opened:
        yield opened
