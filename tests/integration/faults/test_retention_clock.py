"""`aegate retention` from a machine whose clock is wrong: what is old is said by the database's clock."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aegate_core.database import open_database
from aegate_core.services.studies import close_due
from tests.dicom import ct_study
from tests.integration.cli.installations import aegate
from tests.integration.faults.stepped_clock import SteppedClock
from tests.integration.intake.hospital import HOSPITAL, Place, spool_folder
from tests.integration.postgres import PostgresServer
from tests.integration.retention.conftest import deliver, partition

DAY_S = 86_400


async def test_machine_that_lives_in_next_year_removes_nothing_too_early(
    tmp_path: Path, postgres: PostgresServer, postgres_template: str
) -> None:
    url = postgres.create("retention_clock", template=postgres_template)
    root = tmp_path / "data"
    clock = SteppedClock.build(tmp_path / "clock")
    async with open_database(url) as db:
        with spool_folder(root / "spool") as spool:
            (root / "VERSION").write_text("1\n")
            place = Place(db, root, spool)
            await place.apply(*HOSPITAL, partition())
            now = await db.time()
            place.receive_all(ct_study("s1", 3), when=now)
            await place.index(now)
            assert len(await close_due(db, now=now.replace(year=now.year + 1))) == 1
            await deliver(place)
        clock.step(365 * DAY_S)
        command = ("retention", "--data", root, "--database", url)
        done = await asyncio.to_thread(aegate, *command, **clock.environ)
        assert (done.returncode, done.stdout) == (0, "nothing is older than it is kept\n"), done.stderr
        assert len(list(root.glob("blobs/*/*/*.dcm"))) == 3
    postgres.drop("retention_clock")
