"""A sound installation for each test, on both kinds of database: to be damaged in one way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aegate_core.database import open_database
from aegate_core.services.studies import close_due
from tests.dicom import Instance, ct, ct_study
from tests.integration.intake.hospital import Place, at, data_offset, part10, spool_folder


@pytest.fixture
async def place(database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    """Three images of a study, sent again, one of them with other content; routed; an image in quarantine."""
    async with open_database(database_url) as db:
        with spool_folder(tmp_path / "spool") as spool:
            here = Place(db, tmp_path, spool)
            await here.apply()
            here.receive_all(ct_study("s1", 3))
            here.receive_all(ct_study("s1", 3))
            here.receive(ct(Instance(study="s1", number=1, rows=32)))
            whole = part10(ct())
            here.receive(whole[: data_offset(whole)] + b"nothing that can be read")
            await here.index()
            assert len(await close_due(db, now=at(600))) == 1
            yield here
