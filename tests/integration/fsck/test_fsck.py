"""Each invariant broken by itself is found, alone; what can be mended is, and nothing is lost by it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from aegate_core.database import Database
from aegate_core.dicom.arrival_ids import new_arrival_id
from aegate_core.services.fsck import Finding, Kind, Look, Progress, Summary, check, repair
from aegate_core.settings import DataFolder
from aegate_core.stores.blobs import blob_key
from tests.dicom import Instance, ct
from tests.integration.intake.hospital import Place, at


async def found(place: Place, *, digests: bool = True) -> list[Finding]:
    return [f async for f in check(place.db, DataFolder(place.root), Summary(), look=Look(digests))]


async def kinds(place: Place) -> list[Kind]:
    return [f.kind for f in await found(place)]


async def mend(place: Place) -> None:
    for finding in await found(place):
        await repair(place.db, DataFolder(place.root), finding, now=at(700))


async def current_blob(place: Place) -> Path:
    key = await place.db.fetch_value("SELECT blob_key FROM arrival WHERE outcome = 'NEW' ORDER BY id LIMIT 1")
    return place.root / "blobs" / str(key)


async def test_sound_installation_has_nothing_to_find(place: Place) -> None:
    waiting = place.receive(ct(Instance(study="s2")))
    summary, seen = Summary(), list[Progress]()
    data = DataFolder(place.root)

    assert [f async for f in check(place.db, data, summary, report=seen.append)] == []

    assert (summary.arrivals, summary.blobs, summary.spooled, summary.left_over) == (8, 8, 1, 0)
    assert seen[-1] == Progress(summary.size_bytes, summary.size_bytes)
    assert (place.root / "spool").rglob(f"{waiting}.dcm")


async def test_blob_linked_and_not_committed_yet_is_no_damage(place: Place) -> None:
    arrival = place.receive(ct(Instance(study="s2")))
    place.blobs.put(arrival, place.spooled()[0].path)
    assert await found(place) == []


async def test_missing_blob_is_found_and_nothing_pretends_to_mend_it(place: Place) -> None:
    (await current_blob(place)).unlink()
    [finding] = await found(place)
    assert (finding.kind, finding.is_repairable) == (Kind.BLOB_MISSING, False)


async def test_changed_byte_is_found_by_the_digest_alone(place: Place) -> None:
    path = await current_blob(place)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert await kinds(place) == [Kind.BLOB_CHANGED]
    assert await found(place, digests=False) == []


async def test_shortened_blob_is_found_without_reading_it(place: Place) -> None:
    path = await current_blob(place)
    path.write_bytes(path.read_bytes()[:-2])
    assert [f.kind for f in await found(place, digests=False)] == [Kind.BLOB_CHANGED]


async def test_unknown_blob_becomes_a_quarantined_object(place: Place) -> None:
    arrival = new_arrival_id()
    path = place.root / "blobs" / blob_key(arrival)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((await current_blob(place)).read_bytes())
    assert await kinds(place) == [Kind.BLOB_UNKNOWN]

    await mend(place)

    assert await found(place) == []
    assert (
        await place.count("quarantined_object", f"arrival_id = '{arrival}' AND ae = 'unknown/unknown'") == 1
    )
    assert await place.count("audit_event", "action = 'repair'") == 1


async def test_unknown_blob_is_found_behind_a_folder_that_retention_has_emptied(place: Place) -> None:
    (place.root / "blobs" / "00" / "00").mkdir(parents=True)
    arrival = new_arrival_id()
    path = place.root / "blobs" / blob_key(arrival)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((await current_blob(place)).read_bytes())
    assert await kinds(place) == [Kind.BLOB_UNKNOWN]


async def test_unreadable_side_record_becomes_a_quarantined_object_of_its_device(place: Place) -> None:
    arrival = place.receive(ct(Instance(study="s2")))
    spooled = place.spooled()[0]
    content = spooled.path.read_bytes()
    spooled.side_path.write_bytes(b"{}")
    [finding] = await found(place)
    assert (finding.kind, finding.subject) == (
        Kind.SPOOL_UNREADABLE,
        str(spooled.path.relative_to(place.root)),
    )

    await mend(place)

    assert await found(place) == []
    assert not spooled.path.exists()
    assert not spooled.side_path.exists()
    assert (place.root / "blobs" / blob_key(arrival)).read_bytes() == content
    assert await place.count("quarantined_object", f"arrival_id = '{arrival}' AND ae = 'default/ct1'") == 1


async def test_foreign_file_is_named_and_left_alone(place: Place) -> None:
    path = (await current_blob(place)).parent / "notes.txt"
    path.write_text("mine")
    [finding] = await found(place)
    assert (finding.kind, finding.subject) == (Kind.FOREIGN_FILE, str(path.relative_to(place.root)))
    assert not finding.is_repairable


Damage = Callable[[Database], Awaitable[object]]


def sql(*statements: str) -> Damage:
    async def damage(db: Database) -> None:
        for statement in statements:
            assert await db.execute(statement) > 0

    return damage


async def lease_for_ever(db: Database) -> None:
    changed = await db.execute(
        "UPDATE slot SET token = 7, worker = 'w1', expires_at = $1 WHERE n = 1", at(0) + timedelta(days=4000)
    )
    assert changed == 4


MENDED: dict[str, tuple[Damage, list[Kind], str]] = {
    "series": (sql("UPDATE series SET instance_count = 9"), [Kind.SERIES_COUNTS, Kind.STUDY_COUNTS], ""),
    "series_bytes": (
        sql("UPDATE series SET size_bytes = 1", "UPDATE study SET size_bytes = 1"),
        [Kind.SERIES_COUNTS],
        "",
    ),
    "study": (
        sql("UPDATE study SET series_count = 2"),
        [Kind.STUDY_COUNTS],
        "SELECT id FROM study WHERE series_count = 1 AND instance_count = 3",
    ),
    "quarantine": (
        sql("DELETE FROM quarantined_object"),
        [Kind.QUARANTINE_UNLISTED],
        "SELECT arrival_id FROM quarantined_object WHERE ae = 'default/ct1'",
    ),
    "unit": (
        sql("UPDATE close_unit SET closed_at = NULL, due_at = NULL"),
        [Kind.UNIT_NEVER_DUE],
        "SELECT id FROM close_unit WHERE due_at = last_arrival_at",
    ),
    "delivery_counts": (
        sql("UPDATE delivery SET instances_done = 2"),
        [Kind.DELIVERY_COUNTS],
        "SELECT id FROM delivery WHERE instances_total = 3 AND instances_done = 0",
    ),
    "reported_done_and_not_sent": (
        sql("UPDATE delivery SET state = 'COMPLETED'"),
        [Kind.DELIVERY_STATE],
        "SELECT q.id FROM delivery q JOIN delivery_event e ON e.delivery_id = q.id "
        "WHERE q.state = 'SCHEDULED' AND e.code = 'REPAIRED'",
    ),
    "reported_done_and_refused": (
        sql(
            "UPDATE delivery_instance SET state = 'DEAD'",
            "UPDATE delivery SET state = 'COMPLETED', instances_failed = 3",
        ),
        [Kind.DELIVERY_STATE],
        "SELECT id FROM delivery WHERE state = 'FAILED' AND finished_at IS NOT NULL",
    ),
    "cancelled_and_still_pending": (
        sql("UPDATE delivery SET state = 'CANCELED'"),
        [Kind.DELIVERY_STATE],
        "SELECT id FROM delivery_instance WHERE state = 'CANCELED'",
    ),
    "lease": (lease_for_ever, [Kind.LEASE_ENDLESS] * 4, "SELECT id FROM slot WHERE token = 7"),
}


MENDINGS = {"series": 1, "series_bytes": 2}
"""How often something was mended, where that is not once for each finding: a study is counted from its series."""


@pytest.mark.parametrize("name", MENDED)
async def test_wrong_rows_are_found_alone_and_mended(place: Place, name: str) -> None:
    damage, expected, after = MENDED[name]
    await damage(place.db)
    assert await kinds(place) == expected

    await mend(place)
    await mend(place)  # counters of a study come from those of its series, mended the time before

    assert await found(place) == []
    assert not after or await place.db.fetch(after)
    repairs = await place.count("audit_event", "action = 'repair'")
    assert repairs == MENDINGS.get(name, len(expected))


BEYOND_REPAIR = {
    "current arrival": (
        sql("UPDATE instance SET current_arrival_id = '00000000000000000000000000000000'"),
        [Kind.LOOSE_ROW] * 3,
    ),
    "conflict": (
        sql("UPDATE conflict SET arrival_id = '00000000000000000000000000000000'"),
        [Kind.LOOSE_ROW],
    ),
    "arrival to be sent": (
        sql(
            "UPDATE delivery_instance SET arrival_id = '00000000000000000000000000000000' "
            "WHERE id = (SELECT min(id) FROM delivery_instance)"
        ),
        [Kind.DELIVERY_WITHOUT_ARRIVAL],
    ),
}


@pytest.mark.parametrize("name", BEYOND_REPAIR)
async def test_what_needs_a_person_is_found_and_left_alone(place: Place, name: str) -> None:
    damage, expected = BEYOND_REPAIR[name]
    await damage(place.db)
    findings = await found(place)
    assert [f.kind for f in findings] == expected
    assert not any(f.is_repairable for f in findings)
