"""A data folder as `aegate up` leaves it, on SQLite: a study that the PACS got, and an image in the spool."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aegate_core.database import open_database
from aegate_core.services.studies import close_due
from tests.dicom import Instance, ct, ct_study
from tests.integration.intake.hospital import HOSPITAL, Place, at, data_offset, part10, spool_folder
from tests.integration.retention.conftest import deliver, partition


@pytest.fixture
async def place(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Place]:
    root = tmp_path / "data"
    root.mkdir()
    (root / "VERSION").write_text("1\n")
    shutil.copyfile(sqlite_template, root / "aegate.sqlite3")
    async with open_database(f"sqlite://{root / 'aegate.sqlite3'}") as db:
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
