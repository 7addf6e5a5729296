"""Indexers of one AE each, as on a cluster: who takes whose images, who waits for whose word, and what rest costs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aegate_core.database import Database, migrate, open_database
from aegate_core.resources.values import StudyTimes
from aegate_core.services.studies import close_due
from aegate_core.settings import DataFolder
from aegate_core.stores.index.progress import Progress, read_progress, write_progress
from aegate_core.stores.spool import SpoolFolder
from aegate_scp.indexer.duty import Duty
from aegate_scp.indexer.loop import Indexer
from aegate_scp.indexer.metrics import IndexerMetrics
from tests import dicom
from tests.integration.intake.hospital import Place, entity, key
from tests.integration.postgres import postgres_server
from tests.integration.waiting import eventually_async

TIMES = StudyTimes(quiet_period_s=1, max_age_s=60)


@pytest.fixture
async def place(database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with open_database(database_url) as db:
        with contextlib.closing(SpoolFolder(tmp_path / "spool", "pod-1")) as spool:
            here = Place(db, tmp_path, spool)
            await here.apply(*(entity(name, study=TIMES) for name in ("ct1", "us1")))
            yield here


@asynccontextmanager
async def indexing(place: Place, ae: str = "ct1", pod: str = "pod-1") -> AsyncIterator[Indexer]:
    duty = Duty(pod, ae=key(ae), spool_process=pod)
    indexer = Indexer(
        place.db, DataFolder(place.root), duty, metrics=IndexerMetrics(), say=lambda trouble: None
    )
    task = asyncio.create_task(indexer.run())
    try:
        yield indexer
    finally:
        indexer.stop()
        await asyncio.wait_for(task, 60)


async def arrived(place: Place, count: int) -> bool:
    return await place.count("arrival") == count


async def said(place: Place) -> list[Progress]:
    return await read_progress(place.db)


async def is_silent(place: Place) -> bool:
    return await said(place) == []


async def close(place: Place) -> int:
    return len(await close_due(place.db, now=datetime.now(UTC)))


async def test_it_says_how_far_it_is_while_its_studies_are_open_and_rests_then(place: Place) -> None:
    async with indexing(place):
        await eventually_async(lambda: is_silent(place))
        place.receive(dicom.ct(), when=datetime.now(UTC))
        await eventually_async(lambda: arrived(place, 1))
        (progress,) = await eventually_async(lambda: said(place))  # type: ignore[misc]
        assert (progress.process, progress.ae) == ("pod-1", "default/ct1")

        await eventually_async(lambda: close(place), deadline_s=60)

        await eventually_async(lambda: is_silent(place), deadline_s=60)
        place.receive(dicom.ct(dicom.Instance(number=2)), when=datetime.now(UTC))
        await eventually_async(lambda: arrived(place, 2))
        await eventually_async(lambda: said(place))


async def test_open_studies_of_another_entity_do_not_keep_it_from_rest(place: Place) -> None:
    async with indexing(place):
        place.receive(dicom.ct(), when=datetime.now(UTC))
        await eventually_async(lambda: arrived(place, 1))
        async with indexing(place, "us1", "pod-2"):

            async def only_the_first_speaks() -> bool:
                return [p.process for p in await said(place)] == ["pod-1"]

            await eventually_async(only_the_first_speaks, deadline_s=60)


async def test_studies_wait_for_the_indexers_of_their_own_entity_alone(place: Place) -> None:
    place.receive(dicom.ct(), when=datetime.now(UTC) - timedelta(seconds=30))
    await place.index(datetime.now(UTC) - timedelta(seconds=30))
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    async with place.db.transaction() as tx:
        await write_progress(tx, Progress("pod-2", long_ago, {}, ae="default/us1"))
        await write_progress(tx, Progress("pod-1", long_ago, {}, ae="default/ct1"))
    assert await close(place) == 0

    async with place.db.transaction() as tx:
        await write_progress(tx, Progress("pod-1", datetime.now(UTC), {}, ae="default/ct1"))

    assert await close(place) == 1


async def test_it_takes_from_its_own_listener_and_from_those_that_are_gone(place: Place) -> None:
    alive, gone = (SpoolFolder(place.root / "spool", name) for name in ("pod-2", "pod-3"))
    with contextlib.closing(alive):
        for folder in (place.spool, alive, gone):
            number = int(folder.process.removeprefix("pod-"))
            image = dicom.ct(dicom.Instance(number=number))
            Place(place.db, place.root, folder, _count=number).receive(image, when=datetime.now(UTC))
        gone.close()
        async with indexing(place):
            await eventually_async(lambda: arrived(place, 2))
            await eventually_async(lambda: [a.path.parent.name for a in place.spooled()] == ["pod-2"])

            async def is_all_of_the_volume_known() -> bool:
                return [p.waiting["default/ct1"].arrivals for p in await said(place) if p.waiting] == [1]

            await eventually_async(is_all_of_the_volume_known, deadline_s=60)
            assert await place.count("arrival") == 2
    async with indexing(place):
        await eventually_async(lambda: arrived(place, 3), deadline_s=60)
        await eventually_async(lambda: place.spooled() == [])


async def test_indexer_that_ends_leaves_nobody_waiting_for_its_word(place: Place) -> None:
    async with indexing(place):
        place.receive(dicom.ct(), when=datetime.now(UTC))
        await eventually_async(lambda: arrived(place, 1))
        await eventually_async(lambda: said(place))

    assert await said(place) == []
    await eventually_async(lambda: close(place), deadline_s=60)


async def test_word_of_a_pod_that_was_lost_is_taken_back_by_the_next(place: Place) -> None:
    async with place.db.transaction() as tx:
        for process, ae in (("lost", "default/ct1"), ("other", "default/us1")):
            await write_progress(tx, Progress(process, datetime.now(UTC), {}, ae=ae))
    async with indexing(place):

        async def only_the_other_entitys() -> bool:
            return [p.process for p in await said(place)] == ["other"]

        await eventually_async(only_the_other_entitys, deadline_s=60)


OTHERS = "application_name = 'aegate' AND pid <> pg_backend_pid()"


async def run_many(url: str, root: Path, count: int) -> tuple[int, float]:
    """Index one image of each of ``count`` AEs that come at once; return the most connections seen, and the seconds."""
    names = [f"ae{n}" for n in range(count)]
    indexers: list[Indexer] = []

    async def one(name: str) -> None:
        async with open_database(url, sparing=True) as db:
            duty = Duty(f"pod-{name}", ae=key(name), spool_process=f"pod-{name}")
            data = DataFolder(root / name)
            indexers.append(Indexer(db, data, duty, metrics=IndexerMetrics(), say=lambda trouble: None))
            await indexers[-1].run()

    async with open_database(url) as db:
        watch = Watch(db)
        with contextlib.closing(SpoolFolder(root / "none")) as folder:
            await Place(db, root, folder).apply(*(entity(name, study=TIMES) for name in names))
        began = asyncio.get_running_loop().time()
        tasks = [asyncio.create_task(one(name)) for name in names]
        try:
            for name in names:
                with contextlib.closing(SpoolFolder(root / name / "spool", f"pod-{name}")) as folder:
                    image = dicom.ct(dicom.Instance(study=f"study {name}"))
                    Place(db, root / name, folder).receive(image, name, datetime.now(UTC))
            await eventually_async(lambda: watch.has_indexed(count), deadline_s=300)
            seconds = asyncio.get_running_loop().time() - began
            await eventually_async(watch.has_closed_all, deadline_s=300)
            await eventually_async(watch.is_alone, deadline_s=300)
            assert [task for task in tasks if task.done()] == []
            assert list(root.glob("*/spool/default/*/*/*.dcm")) == []
        finally:
            for indexer in indexers:
                indexer.stop()
            await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    return watch.most, seconds


@dataclass
class Watch:
    """One connection that counts the others."""

    db: Database
    most: int = 0

    async def connections(self) -> int:
        seen = int(await self.db.fetch_value(f"SELECT count(*) FROM pg_stat_activity WHERE {OTHERS}"))
        self.most = max(self.most, seen)
        return seen

    async def has_indexed(self, count: int) -> bool:
        await self.connections()
        await close_due(self.db, now=datetime.now(UTC))
        return int(await self.db.fetch_value("SELECT count(*) FROM arrival")) == count

    async def has_closed_all(self) -> bool:
        await close_due(self.db, now=datetime.now(UTC))
        return not await self.db.fetch_value("SELECT count(*) FROM close_unit WHERE due_at IS NOT NULL")

    async def is_alone(self) -> bool:
        return await self.connections() == 0


async def test_more_indexers_than_connections_index_all_and_then_hold_none(tmp_path: Path) -> None:
    with postgres_server(max_connections="20") as server:
        url = server.create("many")
        await migrate(url)

        most, _ = await run_many(url, tmp_path, 40)

        assert 0 < most <= 20
