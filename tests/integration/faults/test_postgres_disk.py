"""PostgreSQL's own disk is full or broken: what the indexer says, that no row is half, and that all goes on then."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aegate_core.database import migrate, open_database
from aegate_core.errors import DatabaseUnavailable, StorageError, StorageFull
from tests import dicom
from tests.integration.faults.conftest import Recovery
from tests.integration.faults.disk_errors import GROWS, Call, FaultyDisk
from tests.integration.intake.hospital import Place, spool_folder
from tests.integration.postgres import PostgresServer, postgres_server
from tests.integration.waiting import eventually_async

ARRIVALS = 250
"""So many that tables must grow: a row that finds room in its page needs none of the disk."""

AWAY = "the database at .* (does not answer|is starting or stopping)"
"""It ends all its processes when its log cannot be written, and starts them anew."""

FAULTS = {
    "full disk of the tables": (
        errno.ENOSPC,
        GROWS,
        "data/base/*",
        StorageFull,
        "the database's disk is full: make room",
    ),
    "full disk of the log": (errno.ENOSPC, GROWS, "data/pg_wal/*", DatabaseUnavailable, AWAY),
    "broken disk of the log": (
        errno.EIO,
        Call.FSYNC,
        "data/pg_wal/*",
        DatabaseUnavailable,
        AWAY,
    ),
}


@dataclass
class FaultyServer:
    """A server of one's own on a faulty disk."""

    server: PostgresServer
    disk: FaultyDisk


@pytest.fixture(scope="module")
def faulty() -> Iterator[FaultyServer]:
    """One for all: each fault must leave it well for the next."""
    with postgres_server() as server:
        disk = FaultyDisk.make(server.folder)
        server.stop()
        server.environ, server.settings = disk.environ, {"fsync": "on"}
        server.start()
        yield FaultyServer(server, disk)


@pytest.fixture
async def place(faulty: FaultyServer, tmp_path: Path) -> AsyncIterator[Place]:
    url = faulty.server.create(f"db_{tmp_path.name}")
    await migrate(url)
    async with open_database(url) as db:
        with spool_folder(tmp_path / "spool") as spool:
            here = Place(db, tmp_path, spool)
            await here.apply()
            yield here


@pytest.mark.parametrize("name", FAULTS)
async def test_batch_is_whole_or_not_there_and_goes_in_when_the_disk_is_well(
    faulty: FaultyServer, place: Place, recovery: Recovery, name: str
) -> None:
    error, calls, where, kind, words = FAULTS[name]
    place.receive_all(
        dicom.ct(dicom.Instance(study=f"study {n}", number=n, patient_id=f"id {n}")) for n in range(ARRIVALS)
    )
    with faulty.disk.failing(error, calls, faulty.server.folder / where) as fault:
        with pytest.raises(kind, match=words):
            await place.index()
        assert fault.failed > 0
    assert len(place.spooled()) == ARRIVALS

    async def is_indexed() -> bool:
        faulty.server.revive()  # it may give up at any moment, also after the first look
        try:
            await place.index()
        except StorageError:
            assert len(place.spooled()) == ARRIVALS
            return False
        return True

    with recovery(f"{name} of PostgreSQL"):
        await eventually_async(is_indexed, deadline_s=60)
    assert place.spooled() == []
    assert [await place.count(t) for t in ("arrival", "study", "instance")] == [ARRIVALS] * 3
