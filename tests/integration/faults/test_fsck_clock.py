"""`aegate fsck --repair` from a machine whose clock is wrong: what it writes goes by the database's clock."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from aegate_core.database import as_datetime, open_database
from tests.integration.cli.installations import aegate
from tests.integration.faults.stepped_clock import HOUR_S, SteppedClock
from tests.integration.intake.hospital import HOSPITAL, Place, spool_folder
from tests.integration.postgres import PostgresServer


async def test_lease_without_end_ends_within_a_minute_though_the_machine_is_hours_ahead(
    tmp_path: Path, postgres: PostgresServer, postgres_template: str
) -> None:
    url = postgres.create("fsck_clock", template=postgres_template)
    root = tmp_path / "data"
    clock = SteppedClock.build(tmp_path / "clock")
    clock.step(3 * HOUR_S)
    async with open_database(url) as db:
        with spool_folder(root / "spool") as spool:
            (root / "VERSION").write_text("1\n")
            await Place(db, root, spool).apply(*HOSPITAL)
        await db.execute("UPDATE slot SET token = 7, worker = 'gone', expires_at = NULL WHERE n = 1")
        slots = int(await db.fetch_value("SELECT count(*) FROM slot WHERE token = 7"))
        command = ("fsck", "--repair", "--data", root, "--database", url)

        done = await asyncio.to_thread(aegate, *command, **clock.environ)

        assert done.returncode == 0, done.stdout
        assert f"{slots} mended, 0 wrong" in done.stdout
        ends = [
            as_datetime(r["expires_at"])
            for r in await db.fetch("SELECT expires_at FROM slot WHERE token = 7")
        ]
        assert len(ends) == slots > 0
        assert max(ends) <= await db.time() + timedelta(minutes=1)
    postgres.drop("fsck_clock")
