"""Whose a blob store is: two databases on one bucket or volume, and what the second may not do to the images there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aegate_core.database import migrate, open_database
from aegate_core.errors import StoreOfAnother
from aegate_core.services import operations
from aegate_core.services.fsck import Kind, Summary, check, repair
from aegate_core.services.operations import Wanted
from aegate_core.services.ownership import must_be_ours
from aegate_core.services.retention import CHANGES_KEPT, OPERATIONS_KEPT, retain
from aegate_core.stores.blobs import MARK, BlobStore, open_blobs
from aegate_core.stores.changes import feed
from aegate_core.stores.index.checking import installation_mark
from tests.dicom import ct_study
from tests.integration.bucket_server import bucket_server
from tests.integration.intake.hospital import Place, at, spool_folder

OTHER = "f" * 32


@pytest.fixture(params=["folder", "bucket"])
async def place(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    """Two images, in a folder or in a bucket, that is nobody's yet."""
    with ExitStack() as stack:
        spool = stack.enter_context(spool_folder(tmp_path / "spool"))
        is_bucket = request.param == "bucket"
        bucket = stack.enter_context(bucket_server(tmp_path / "s3")).bucket if is_bucket else None
        async with open_database(database_url) as db:
            here = Place(db, tmp_path, spool, bucket)
            await here.apply()
            here.receive_all(ct_study("s1", 2))
            await here.index()
            yield here


async def become_another(place: Place) -> None:
    await place.db.execute("UPDATE installation SET mark = $1", OTHER)


def names(blobs: BlobStore) -> list[str]:
    return sorted(name for page in blobs.listing() for name in page)


async def test_store_of_nobody_is_marked_once_and_stays_whose_it_is(place: Place) -> None:
    ours, before = await installation_mark(place.db), names(place.blobs)
    assert (len(ours), len(before)) == (32, 2)

    await must_be_ours(place.db, place.blobs)
    await must_be_ours(place.db, open_blobs(place.data))

    assert place.blobs.mark(OTHER) == ours
    assert names(place.blobs) == before
    assert [f async for f in check(place.db, place.data, Summary())] == []


async def test_another_database_neither_mends_nor_removes(place: Place) -> None:
    await must_be_ours(place.db, place.blobs)
    await place.db.execute("DELETE FROM arrival")
    [found, _] = [f async for f in check(place.db, place.data, Summary()) if f.kind is Kind.BLOB_UNKNOWN]
    before = names(place.blobs)
    await become_another(place)

    with pytest.raises(StoreOfAnother) as refused:
        await repair(place.db, place.data, found, now=at(1))
    with pytest.raises(StoreOfAnother):
        await retain(place.db, place.data, now=at(0) + timedelta(days=9000))

    assert OTHER in refused.value.message
    assert f"remove {MARK} from it" in refused.value.message
    assert (names(place.blobs), await place.count("quarantined_object")) == (before, 0)
    await retain(place.db, place.data, now=at(0) + timedelta(days=9000), dry_run=True)


async def test_what_is_in_the_database_alone_goes_by_age_whosever_the_images_are(place: Place) -> None:
    await must_be_ours(place.db, place.blobs)
    async with place.db.transaction() as tx:
        begun = await operations.begin(tx, Wanted("holdQueueItems", "anna"), "k", None, now=at(0))
        await tx.execute("UPDATE operation SET finished_at = $2 WHERE id = $1", begun.id, at(0))
    await feed.settle(place.db)
    newest = await feed.latest(place.db)
    changes, before = await place.count("change"), names(place.blobs)
    assert changes > 1
    await become_another(place)

    later = datetime.now(UTC) + CHANGES_KEPT + OPERATIONS_KEPT
    with pytest.raises(StoreOfAnother):
        await retain(place.db, place.data, now=later)

    assert (await place.count("operation"), await place.count("change")) == (0, 1)
    assert await feed.latest(place.db) == newest
    assert names(place.blobs) == before


async def test_of_many_that_mark_at_once_one_wins(place: Place) -> None:
    marks = [f"{n:032x}" for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        said = set(pool.map(lambda mark: open_blobs(place.data).mark(mark), marks))
    assert len(said) == 1
    assert said < set(marks)
    assert len(names(place.blobs)) == 2


async def test_index_older_than_marks_is_recognised_by_its_first_arrival(place: Place) -> None:
    first = await place.db.fetch_value("SELECT min(id) FROM arrival")
    await place.db.execute("DELETE FROM installation")
    await migrate(place.db.url)
    assert await installation_mark(place.db) == first
    await must_be_ours(place.db, place.blobs)

    await place.db.execute("DELETE FROM installation")  # a backup from before that, restored
    await migrate(place.db.url)
    await must_be_ours(place.db, place.blobs)
