"""Two indexers, two workers, interleaved step by step on PostgreSQL: SQLite has one writer at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aegate_core.database import open_database
from aegate_core.resources.values import Level
from aegate_core.services.entities import load_configuration
from aegate_core.services.indexing import write_batch
from aegate_core.services.intake import BatchResult, prepare
from aegate_core.services.studies import close_due
from aegate_core.stores.index.closing import lock_open_unit
from aegate_core.stores.index.closing import open_units as read_open_units
from tests import dicom
from tests.integration.intake.hospital import HOSPITAL, Place, at, route, spool_folder
from tests.integration.postgres import PostgresServer
from tests.integration.waiting import eventually_async


@pytest.fixture
async def place(postgres: PostgresServer, postgres_template: str, tmp_path: Path) -> AsyncIterator[Place]:
    url = postgres.create("races", template=postgres_template)
    async with open_database(url) as db:
        with spool_folder(tmp_path / "spool") as spool:
            here = Place(db, tmp_path, spool)
            await here.apply()
            # Who makes a person holds up all others of that person.
            here.receive(dicom.ct(dicom.Instance(study="an earlier one")), when=at(-100))
            await here.index(at(0))
            await close_due(db, now=at(0))
            yield here
    postgres.drop("races")


@asynccontextmanager
async def half_indexed(place: Place, count: int) -> AsyncIterator[None]:
    """The first ``count`` objects of the spool are written by another indexer, and not committed yet."""
    async with open_database(place.db.url) as other:
        prepared, _ = prepare(place.blobs, place.spooled()[:count])
        configuration = await load_configuration(other)
        async with other.transaction() as tx:
            await write_batch(tx, prepared, configuration, now=at(1))
            yield


async def test_one_uid_in_two_studies_at_the_same_moment_is_raised_once(place: Place) -> None:
    objects = [
        dicom.ct(),
        dicom.ct(dicom.Instance(study="other")),
        dicom.ct(dicom.Instance(study="other", number=2)),
    ]
    objects[1].SOPInstanceUID = objects[0].SOPInstanceUID
    arrivals = place.receive_all(objects)
    spooled = place.spooled()

    async with half_indexed(place, 1):
        assert await place.index_some(spooled[1:], at(1)) == BatchResult(new=2)
        assert await place.count("conflict") == 0
    assert await place.index_some(spooled, at(2)) == BatchResult()
    assert await place.index_some(spooled, at(3)) == BatchResult()

    (conflict,) = await place.db.fetch("SELECT kind, arrival_id, other_arrival_id, study_id FROM conflict")
    assert conflict["kind"] == "SAME_UID_OTHER_STUDY"
    assert {conflict["arrival_id"], conflict["other_arrival_id"]} == set(arrivals[:2])
    rows = await place.db.fetch("SELECT id, study_id, outcome FROM arrival")
    by_id = {r["id"]: r for r in rows}
    assert by_id[conflict["arrival_id"]]["outcome"] == "CONFLICT"
    assert by_id[conflict["other_arrival_id"]]["outcome"] == "NEW"
    assert by_id[conflict["arrival_id"]]["study_id"] == conflict["study_id"]


async def test_arrivals_that_another_indexer_commits_while_their_study_is_waited_for_are_its_own(
    place: Place,
) -> None:
    place.receive_all(dicom.ct_study("study 1", 3))
    spooled = place.spooled()

    async with half_indexed(place, 3):
        ours = asyncio.create_task(place.index_some(spooled, at(1)))
        await eventually_async(lambda: place.count("pg_locks", "NOT granted"), what="we wait for the study")
    assert await ours == BatchResult()

    assert [await place.count(table) for table in ("arrival", "instance", "series", "study")] == [4, 4, 2, 2]
    counted = "SELECT series_count, instance_count FROM study WHERE study_instance_uid = $1"
    assert await place.db.fetch(counted, dicom.uid("study 1")) == [{"series_count": 1, "instance_count": 3}]


async def test_conflict_that_was_seen_is_not_raised_again(place: Place) -> None:
    one, two, three = dicom.ct(), dicom.ct(), dicom.ct()
    two.StudyInstanceUID, three.StudyInstanceUID = dicom.uid("second"), dicom.uid("third")
    place.receive_all([one, two, three])
    spooled = place.spooled()

    assert await place.index_some(spooled, at(1)) == BatchResult(new=1, conflicts=2)
    assert await place.index_some(spooled, at(2)) == BatchResult()
    assert await place.count("conflict") == 2


async def test_study_waits_for_the_worker_that_closes_a_series_of_it(place: Place) -> None:
    both = (route("study", ["ws1"]), route("series", ["ws1"], level=Level.SERIES))
    await place.apply(*HOSPITAL[:4], *both)
    place.receive_all(dicom.ct_study("study 1", 3))
    await place.index(at(1))
    async with open_database(place.db.url) as other:
        series, study = await read_open_units(other, limit=9)
        async with other.transaction() as tx:
            assert await lock_open_unit(tx, series) == series
            assert await close_due(place.db, now=at(60)) == []
    closed = await close_due(place.db, now=at(60))

    assert [(c.level, c.deliveries) for c in closed] == [(Level.SERIES, 1), (Level.STUDY, 0)]
    assert study.series_uid == ""
