"""What the feed tells of a small hospital's day: ids, states and partitions, one row a change, and no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from aegate_core.database import open_database
from aegate_core.services import deliveries, worklist
from aegate_core.services.retention import CHANGES_KEPT, retain
from aegate_core.services.studies import close_due
from aegate_core.services.worklist import Seen, Wished
from aegate_core.stores.changes import feed
from aegate_core.stores.changes.feed import START, Changed
from aegate_core.stores.listing import EVERYTHING
from aegate_core.stores.scope import ALL_ROWS
from tests import sentinel
from tests.dicom import ct_study
from tests.integration.intake.hospital import HOSPITAL, T0, Place, at, entity, spool_folder

P = "default/default"
STEP: dict[str, object] = {
    "patient_name": sentinel.PATIENT_NAME,
    "patient_id": sentinel.PATIENT_ID,
    "scheduled_station_ae_title": ["CT1"],
    "scheduled_procedure_step_start_date": "20260131",
    "scheduled_procedure_step_start_time": "0930",
    "modality": "CT",
    "scheduled_procedure_step_description": "CT Thorax",
}


@pytest.fixture
async def place(database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with open_database(database_url) as db:
        with spool_folder(tmp_path / "spool") as spool:
            yield Place(db, tmp_path, spool)


class Reader:
    """Follows the feed; ``news`` is what was told since it was last asked."""

    def __init__(self, place: Place) -> None:
        self._db = place.db
        self._after = START

    async def news(self) -> list[tuple[str, str, str, str | None, str | None]]:
        await feed.settle(self._db)
        page = await feed.read(self._db, self._after, 1000, EVERYTHING)
        self._after = page.end
        return [_told(change) for change in page.changes]


def _told(c: Changed) -> tuple[str, str, str, str | None, str | None]:
    sentinel.assert_absent(str(c), "the feed of changes")
    return c.kind, c.action, c.key, c.state, c.partition


async def test_what_happens_to_resources_studies_and_items_is_told_once(place: Place) -> None:
    reader = Reader(place)
    await place.apply()
    aes = [f"default/{name}" for name in ("ct1", "pacs", "us1", "ws1")]
    told = await reader.news()
    assert sorted(t for t in told if t[0] == "APPLICATION_ENTITY") == [
        ("APPLICATION_ENTITY", "CREATED", ae, None, None) for ae in aes
    ]
    assert sorted(t for t in told if t[0] == "DESTINATION") == [
        ("DESTINATION", "CREATED", ae, None, P) for ae in aes
    ]
    assert {t[0] for t in told} == {"APPLICATION_ENTITY", "DESTINATION"}

    await place.apply()
    assert await reader.news() == []

    objects = ct_study("one", 3)
    place.receive_all(objects[:2])
    await place.index(at(1))
    [study] = await place.db.fetch("SELECT id FROM study")
    assert await reader.news() == [("STUDY", "CREATED", str(study["id"]), None, P)]
    place.receive(objects[2])
    await place.index(at(2))
    assert await reader.news() == [("STUDY", "CHANGED", str(study["id"]), None, P)]

    await place.db.execute("UPDATE indexer_state SET scanned_at = $1", at(500))
    await close_due(place.db, now=at(300))
    [item] = await place.deliveries()
    made = ("QUEUE_ITEM", "CREATED", str(item["id"]), "SCHEDULED", P)
    assert await reader.news() == [made]
    [key] = [int(str(item["id"]))]
    async with place.db.transaction() as tx:
        await deliveries.hold(tx, [key], actor="person:x", now=at(301))
    assert await reader.news() == [("QUEUE_ITEM", "CHANGED", str(key), "HELD", P)]
    async with place.db.transaction() as tx:
        await deliveries.set_priority(tx, [key], 99)
    assert await reader.news() == [("QUEUE_ITEM", "CHANGED", str(key), "HELD", P)]
    await place.db.execute("UPDATE delivery SET instances_done = 1, version = version + 1")
    assert await reader.news() == []


async def test_what_is_taken_away_and_comes_back_is_told(place: Place) -> None:
    reader = Reader(place)
    await place.apply()
    await reader.news()
    await place.apply(*[r for r in HOSPITAL if r.key.name != "ws1"])
    told = await reader.news()
    assert ("APPLICATION_ENTITY", "REMOVED", "default/ws1", None, None) in told
    assert ("DESTINATION", "CHANGED", "default/ws1", None, P) in told
    await place.apply()
    assert ("APPLICATION_ENTITY", "CREATED", "default/ws1", None, None) in await reader.news()
    changed = [entity("ws1", comment="moved") if r.key.name == "ws1" else r for r in HOSPITAL]
    await place.apply(*changed)
    assert ("APPLICATION_ENTITY", "CHANGED", "default/ws1", None, None) in await reader.news()


async def test_quarantine_and_conflicts_are_told_with_their_partition(place: Place) -> None:
    reader = Reader(place)
    await place.apply()
    await reader.news()
    arrival = place.receive(b"no DICOM at all")
    await place.index(at(1))
    assert await reader.news() == [("QUARANTINED_OBJECT", "CREATED", str(arrival), None, P)]
    await place.db.execute("UPDATE quarantined_object SET resolved_at = $1, resolved_by = 'person:x'", T0)
    assert await reader.news() == [("QUARANTINED_OBJECT", "CHANGED", str(arrival), None, P)]

    first = ct_study("one", 1)
    place.receive_all(first)
    await place.index(at(2))
    first[0].PixelData = bytes(len(first[0].PixelData))
    first[0].ImageComments = "other content under the same UID"
    place.receive_all(first)
    await place.index(at(3))
    conflicts = await place.db.fetch("SELECT id FROM conflict")
    told = [t for t in await reader.news() if t[0] == "CONFLICT"]
    assert told == [("CONFLICT", "CREATED", str(row["id"]), None, P) for row in conflicts]
    assert len(told) == 1


async def test_what_happens_to_a_worklist_item_is_told_once(place: Place) -> None:
    await place.apply()
    reader = Reader(place)
    await reader.news()
    async with place.db.transaction() as tx:
        made = await worklist.create(tx, Wished(P, STEP, "anna"), ALL_ROWS, now=T0)
    key = str(made.id)
    assert await reader.news() == [("WORKLIST_ITEM", "CREATED", key, None, P)]
    changes: list[dict[str, object]] = [{"scheduled_station_ae_title": ["CT2", "CT3"]}, {"patient_id": "1"}]
    for given in changes:
        async with place.db.transaction() as tx:
            await worklist.update(tx, Seen(made.id, ALL_ROWS), given, now=T0)
        assert await reader.news() == [("WORKLIST_ITEM", "CHANGED", key, None, P)]
    for told in ([("WORKLIST_ITEM", "CHANGED", key, None, P)], []):
        async with place.db.transaction() as tx:
            await worklist.cancel(tx, Seen(made.id, ALL_ROWS), now=T0)
        assert await reader.news() == told


async def test_what_is_taken_back_is_not_told(place: Place) -> None:
    await place.apply()
    reader = Reader(place)
    await reader.news()
    with pytest.raises(ZeroDivisionError):
        async with place.db.transaction() as tx:
            await tx.execute("UPDATE destination SET held_at = $1", T0)
            raise ZeroDivisionError
    assert await reader.news() == []


async def test_retention_removes_what_is_older_than_it_is_kept(place: Place) -> None:
    await place.apply()
    before = await place.count("change")
    assert before > 2
    now = await place.db.time()
    await retain(place.db, place.data, now=now + CHANGES_KEPT - timedelta(minutes=1))
    assert await place.count("change") == before
    await retain(place.db, place.data, now=now + CHANGES_KEPT + timedelta(minutes=1))
    assert await place.count("change") == 1
