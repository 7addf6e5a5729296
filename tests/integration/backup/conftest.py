"""A data folder as `aegate up` leaves it: a study that the PACS got, an image in the spool; and where to restore it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from aegate_core.database import open_database
from aegate_core.services.studies import close_due
from tests.dicom import Instance, ct, ct_study
from tests.integration.intake.hospital import HOSPITAL, Place, at, data_offset, part10, spool_folder
from tests.integration.postgres import PostgresServer
from tests.integration.retention.conftest import deliver, partition

_numbers = count(1)

EmptyDatabase = Callable[[], str | None]
"""Give the URL of a new empty database to restore into; None: the data folder gets it."""


@pytest.fixture
async def place(database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    root = tmp_path / "data"
    root.mkdir()
    (root / "VERSION").write_text("1\n")
    async with open_database(database_url) as db:
        with spool_folder(root / "spool") as spool:
            here = Place(db, root, spool)
            await here.apply(*HOSPITAL, partition())
            here.receive_all(ct_study("s1", 3))
            whole = part10(ct())
            here.receive(whole[: data_offset(whole)] + b"nothing that can be read")
            await here.index()
            assert len(await close_due(db, now=at(600))) == 1
            await deliver(here)
            here.receive(ct(Instance(study="s2")))
            yield here


@pytest.fixture
def empty_database(request: pytest.FixtureRequest, database_url: str) -> Iterator[EmptyDatabase]:
    """Make databases of the same kind as the test's own."""
    if database_url.startswith("sqlite://"):
        yield lambda: None
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with ExitStack() as stack:

        def make() -> str:
            name = f"restored_{next(_numbers)}"
            stack.callback(server.drop, name)
            return server.create(name)

        yield make
