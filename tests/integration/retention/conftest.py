"""A study that was delivered and is old enough to go, on both kinds of database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aegate_core.database import open_database
from aegate_core.resources.values import Metadata, PatientPartition, Retention
from aegate_core.services.studies import close_due
from tests.dicom import ct_study
from tests.integration.intake.hospital import HOSPITAL, Place, at, key, spool_folder


def partition(**rules: object) -> PatientPartition:
    retention = Retention(**{"images_days": 30} | rules)  # type: ignore[arg-type] # fields of Retention, by name
    return PatientPartition(Metadata(key("default")), retention=retention)


async def deliver(place: Place) -> None:
    """Let all receivers have acknowledged everything, 20 minutes after the images came."""
    await place.db.execute("UPDATE delivery_instance SET state = 'STORED' WHERE state = 'PENDING'")
    await place.db.execute(
        "UPDATE delivery SET state = 'COMPLETED', instances_done = instances_total, started_at = $1, "
        "finished_at = $1 WHERE state = 'SCHEDULED'",
        at(1200),
    )


@pytest.fixture
async def place(database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    """Three images of a study: closed, routed to the PACS, acknowledged by it."""
    async with open_database(database_url) as db:
        with spool_folder(tmp_path / "spool") as spool:
            here = Place(db, tmp_path, spool)
            await here.apply(*HOSPITAL, partition())
            here.receive_all(ct_study("s1", 3))
            await here.index()
            assert len(await close_due(db, now=at(600))) == 1
            await deliver(here)
            yield here
