"""`aegate fsck --repair` beside indexers whose spools it does not see, as on a cluster: each image gets into its study.

An indexer puts a blob first and commits its row afterwards, hours later where the database is away in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from aegate_core.database import open_database
from aegate_core.services.fsck import Finding, Kind, Look, Summary, check, repair
from aegate_core.services.intake import prepare
from aegate_core.settings import DataFolder
from tests.dicom import ct_study
from tests.integration.bucket_server import bucket_server
from tests.integration.intake.hospital import Place, at, data_offset, part10, spool_folder

HOUR = timedelta(hours=1)


@pytest.fixture(params=["folder", "bucket"])
async def place(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    """A small hospital whose images lie in a folder, or in a bucket."""
    with ExitStack() as stack:
        spool = stack.enter_context(spool_folder(tmp_path / "spool"))
        is_bucket = request.param == "bucket"
        bucket = stack.enter_context(bucket_server(tmp_path / "s3")).bucket if is_bucket else None
        async with open_database(database_url) as db:
            here = Place(db, tmp_path, spool, bucket)
            await here.apply()
            yield here


def mounted(place: Place) -> DataFolder:
    """Return what the host sees that fsck runs on: the images alone."""
    host = DataFolder(place.root / "host", place.bucket)
    if not host.root.exists():
        host.root.mkdir()
        place.data.blobs.mkdir(exist_ok=True)
        host.blobs.symlink_to(place.data.blobs)
    return host


async def looked(place: Place, settled_after: timedelta = timedelta(0)) -> tuple[list[Finding], Summary]:
    summary = Summary()
    found = [
        f async for f in check(place.db, mounted(place), summary, look=Look(settled_after=settled_after))
    ]
    return found, summary


async def outcomes(place: Place) -> list[tuple[str, str]]:
    rows = await place.db.fetch("SELECT ae, outcome FROM arrival ORDER BY id")
    return [(str(r["ae"]), str(r["outcome"])) for r in rows]


async def test_blob_put_within_the_hour_is_left_to_its_indexer(place: Place) -> None:
    place.receive_all(ct_study("s1", 2))
    prepare(place.blobs, place.spooled())

    found, summary = await looked(place, HOUR)

    assert (found, summary.unsettled, summary.blobs) == ([], 2, 2)
    assert await place.count("arrival") == 0
    assert [f.kind for f in (await looked(place))[0]] == [Kind.BLOB_UNKNOWN] * 2


async def test_what_was_found_before_its_row_was_committed_goes_into_its_study_all_the_same(
    place: Place,
) -> None:
    place.receive_all(ct_study("s1", 2))
    prepare(place.blobs, place.spooled())
    found, _ = await looked(place)
    assert [await repair(place.db, mounted(place), f, now=at(1)) for f in found] == [True, True]
    assert await outcomes(place) == [("unknown/unknown", "QUARANTINED")] * 2

    assert (await place.index()).new == 2

    assert await outcomes(place) == [("default/ct1", "NEW")] * 2
    assert await place.count("study", "instance_count = 2") == 1
    assert await place.count("close_unit", "due_at IS NOT NULL") == 1
    assert await place.count("quarantined_object", "resolved_at IS NULL") == 0
    assert await place.count("quarantined_object", "resolved_by = 'aegate indexer'") == 2
    assert (place.spooled(), (await looked(place))[0]) == ([], [])


async def test_row_that_was_committed_after_the_look_is_not_touched(place: Place) -> None:
    place.receive_all(ct_study("s1", 2))
    prepare(place.blobs, place.spooled())
    found, _ = await looked(place)
    await place.index()

    assert [await repair(place.db, mounted(place), f, now=at(1)) for f in found] == [False, False]

    assert await outcomes(place) == [("default/ct1", "NEW")] * 2
    assert await place.count("quarantined_object") == 0
    assert await place.count("audit_event", "action = 'repair'") == 0


async def test_counts_are_those_of_the_moment_they_are_mended(place: Place) -> None:
    place.receive_all(ct_study("s1", 2))
    await place.index()
    await place.db.execute("UPDATE series SET instance_count = 7")
    found, _ = await looked(place)
    assert [f.kind for f in found] == [Kind.SERIES_COUNTS, Kind.STUDY_COUNTS]
    place.receive_all(ct_study("s1", 3)[2:])
    await place.index()

    assert [await repair(place.db, mounted(place), f, now=at(1)) for f in found] == [True, False]

    assert await place.count("series", "instance_count = 3") == 1
    assert (await looked(place))[0] == []


async def test_broken_object_that_was_found_first_gets_the_name_of_its_device(place: Place) -> None:
    whole = part10(ct_study("s1", 1)[0])
    place.receive(whole[: data_offset(whole)] + b"nothing that can be read")
    prepare(place.blobs, place.spooled())
    [finding], _ = await looked(place)
    assert await repair(place.db, mounted(place), finding, now=at(1))

    assert (await place.index()).quarantined == 1

    assert await outcomes(place) == [("default/ct1", "QUARANTINED")]
    assert await place.count("quarantined_object", "ae = 'default/ct1' AND resolved_at IS NULL") == 1
    assert await place.count("quarantined_object", "reason LIKE 'aegate fsck%'") == 0


async def test_side_record_that_can_be_read_again_leaves_the_object_to_its_indexer(place: Place) -> None:
    place.receive_all(ct_study("s1", 1))
    [spooled] = place.spooled()
    said = spooled.side_path.read_bytes()
    spooled.side_path.write_bytes(b"{}")
    [finding] = [f async for f in check(place.db, place.data, Summary())]
    assert finding.kind is Kind.SPOOL_UNREADABLE
    spooled.side_path.write_bytes(said)

    assert not await repair(place.db, place.data, finding, now=at(1))

    assert (len(place.spooled()), await place.count("arrival")) == (1, 0)
    assert (await place.index()).new == 1
