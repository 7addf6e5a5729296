"""The indexer: it wakes, it says how far it is, it waits for its database, it stops cleanly; as loop and as process."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aegate_core.database import migrate, open_database
from aegate_core.dicom.arrival_ids import new_arrival_id
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import InvalidInput
from aegate_core.health import read_state
from aegate_core.settings import DataFolder
from aegate_core.stores.index.progress import read_progress
from aegate_core.stores.spool import SideRecord, SpooledArrival
from aegate_scp.indexer.duty import Duty
from aegate_scp.indexer.loop import BATCH, BATCH_BYTES, Indexer, batches
from aegate_scp.indexer.metrics import IndexerMetrics
from aegate_scp.indexer.settings import read_settings
from aegate_scp.indexer.spool_watch import survey
from tests import dicom, sentinel
from tests.integration.intake.hospital import T0, Place, key, spool_folder
from tests.integration.processes import process
from tests.integration.waiting import eventually, eventually_async


@pytest.fixture
async def place(database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with open_database(database_url) as db:
        with spool_folder(tmp_path / "spool") as spool:
            here = Place(db, tmp_path, spool)
            await here.apply()
            yield here


@asynccontextmanager
async def indexing(
    place: Place, name: str = "i1"
) -> AsyncIterator[tuple[Indexer, IndexerMetrics, list[str]]]:
    metrics, said = IndexerMetrics(), list[str]()
    indexer = Indexer(place.db, DataFolder(place.root), Duty(name), metrics=metrics, say=said.append)
    task = asyncio.create_task(indexer.run())
    try:
        yield indexer, metrics, said
    finally:
        indexer.stop()
        await asyncio.wait_for(task, 10)


async def test_arrivals_are_indexed_as_they_come(place: Place) -> None:
    async with indexing(place) as (_, metrics, _said):
        place.receive_all(dicom.ct_study("study 1", 5), when=datetime.now(UTC))
        await eventually_async(lambda: arrived(place, 5))
        place.receive(dicom.ct(dicom.Instance(study="study 2")), when=datetime.now(UTC))
        began = asyncio.get_running_loop().time()
        await eventually_async(lambda: arrived(place, 6))
        assert asyncio.get_running_loop().time() - began < 1.5
    assert place.spooled() == []
    assert metrics.registry.get_sample_value("aegate_arrivals_indexed_total", {"outcome": "NEW"}) == 6


async def arrived(place: Place, count: int) -> bool:
    return await place.count("arrival") == count


async def test_it_says_how_far_it_is_every_second_while_units_are_open(place: Place) -> None:
    async with indexing(place):
        place.receive(dicom.ct(), when=datetime.now(UTC))
        await eventually_async(lambda: arrived(place, 1))
        at_first = datetime.now(UTC)

        async def has_looked_since() -> bool:
            (progress,) = await read_progress(place.db)
            return progress.scanned_at > at_first and not progress.waiting

        await eventually_async(has_looked_since, deadline_s=4)


async def test_long_backlog_is_said_before_its_first_batch(place: Place) -> None:
    count = BATCH + 10
    place.receive_all(dicom.ct_study("study 1", count), when=datetime.now(UTC) - timedelta(hours=1))
    async with indexing(place):

        async def is_said_or_done() -> object:
            return await read_progress(place.db)

        (progress,) = await eventually_async(is_said_or_done)  # type: ignore[misc]
        assert progress.waiting["default/ct1"].arrivals == count
        await eventually_async(lambda: arrived(place, count), deadline_s=30)

        async def is_clear() -> bool:
            return not (await read_progress(place.db))[0].waiting

        await eventually_async(is_clear, deadline_s=5)
    assert await place.db.fetch_value("SELECT instance_count FROM study") == count


async def test_object_without_a_readable_side_record_holds_nothing_up(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    broken = place.receive(dicom.ct())
    (spooled,) = place.spooled()
    spooled.side_path.write_text("not what a listener writes")
    async with indexing(place) as (_, metrics, _said):
        await eventually_async(lambda: metrics.registry.get_sample_value("aegate_spool_unreadable") == 1)
        place.receive(dicom.ct(dicom.Instance(number=2)))
        await eventually_async(lambda: arrived(place, 1))

        async def is_clear() -> bool:
            progress = await read_progress(place.db)
            return bool(progress) and not progress[0].waiting

        await eventually_async(is_clear, deadline_s=5)
    assert spooled.path.exists()
    assert spooled.path.stem == broken
    left = [r for r in caplog.records if getattr(r, "event_fields", {}).get("arrival") == broken]
    assert len(left) == 1


async def test_arrivals_do_not_hurry_a_database_that_is_away(place: Place, tmp_path: Path) -> None:
    async with open_database(f"sqlite://{tmp_path / 'never' / 'aegate.sqlite3'}") as db:
        began = asyncio.get_running_loop().time()
        async with indexing(Place(db, tmp_path, place.spool)) as (_, _metrics, said):

            def tried_three_times() -> bool:
                place.receive(dicom.ct(), when=datetime.now(UTC))
                return len(said) >= 3

            await eventually_async(tried_three_times)
            assert asyncio.get_running_loop().time() - began >= 0.75


async def test_object_that_trips_over_a_fault_of_ours_holds_nothing_up(place: Place) -> None:
    place.receive_all(dicom.ct_study("study 1", 5))
    bad = place.spooled()[2]
    bad.side_path.write_text(json.dumps(json.loads(bad.side_path.read_text()) | {"data_offset": None}))
    bad.path.write_bytes(b"no Part 10 file")
    async with indexing(place) as (_, metrics, _said):
        await eventually_async(lambda: arrived(place, 4))
        place.receive(dicom.ct(dicom.Instance(number=9)), when=datetime.now(UTC))
        await eventually_async(lambda: arrived(place, 5))
        assert metrics.registry.get_sample_value("aegate_spool_unreadable") == 1
    assert [s.path for s in place.spooled()] == [bad.path]


def test_batches_are_bounded_by_bytes_and_hold_at_least_one() -> None:
    def of(*sizes: int) -> list[SpooledArrival]:
        return [SpooledArrival(Path("x"), side_of(size)) for size in sizes]

    def sizes(arrivals: list[SpooledArrival]) -> list[list[int]]:
        return [[a.side.size_bytes for a in batch] for batch in batches(arrivals)]

    assert sizes(of()) == []
    assert sizes(of(1, BATCH_BYTES, BATCH_BYTES + 1, 2, BATCH_BYTES - 2, 1)) == [
        [1],
        [BATCH_BYTES],
        [BATCH_BYTES + 1],
        [2, BATCH_BYTES - 2],
        [1],
    ]
    assert [len(b) for b in batches(of(*[1] * (2 * BATCH + 1)))] == [BATCH, BATCH, 1]


def side_of(size_bytes: int) -> SideRecord:
    words = ("C", "A", "127.0.0.1", T0, "1.2", "1.2", "1.2", "1.2")
    return SideRecord(new_arrival_id(), key("ct1"), *words, data_offset=0, size_bytes=size_bytes)  # type: ignore[arg-type]


async def test_without_a_database_it_waits_and_loses_nothing(place: Place, tmp_path: Path) -> None:
    arrival = place.receive(dicom.ct(), when=datetime.now(UTC))
    url = f"sqlite://{tmp_path / 'later' / 'aegate.sqlite3'}"
    async with open_database(url) as db:
        away = Place(db, tmp_path, place.spool)
        async with indexing(away) as (_, metrics, said):
            await eventually_async(lambda: bool(said))
            assert "does not answer" in said[-1] or "SQLite" in said[-1]
            assert metrics.registry.get_sample_value("aegate_database_away") == 1
            assert [s.side.arrival_id for s in place.spooled()] == [arrival]
            (tmp_path / "later").mkdir()
            await migrate(url)
            await eventually_async(lambda: arrived(away, 1))
            await eventually_async(lambda: said[-1] == "")
            assert metrics.registry.get_sample_value("aegate_database_away") == 0


async def test_started_while_postgresql_is_down_it_tries_until_it_is_told_to_stop(tmp_path: Path) -> None:
    async with open_database("postgres://aegate@127.0.0.1:1/aegate") as db:
        with spool_folder(tmp_path / "spool") as spool:
            async with indexing(Place(db, tmp_path, spool)) as (_, _metrics, said):
                await eventually_async(lambda: len(said) >= 3)
    assert {text.partition(" (")[0] for text in said} == {"the database at 127.0.0.1:1 does not answer"}


def test_survey_reads_names_alone(tmp_path: Path) -> None:
    assert survey(tmp_path / "nowhere") == {}
    folder = tmp_path / "default" / "ct1" / "p1"
    folder.mkdir(parents=True)
    old, new = new_arrival_id(1_000_000), new_arrival_id(2_000_000)
    for name in (f"{old}.dcm", f"{new}.dcm", f"{new}.json", f"{new_arrival_id(5)}.dcm.part"):
        (folder / name).touch()
    for foreign in (".listeners", "lost+found"):
        (tmp_path / foreign / "ct1" / "p1").mkdir(parents=True)
        (tmp_path / foreign / "ct1" / "p1" / f"{old}.dcm").touch()

    (waiting,) = survey(tmp_path).values()
    assert (waiting.arrivals, waiting.oldest_received_at.timestamp()) == (2, 1000)
    assert survey(tmp_path, without={old})["default/ct1"].oldest_received_at.timestamp() == 2000
    assert survey(tmp_path, without={old, new}) == {}


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    settings = read_settings({"AEGATE_DATA": str(tmp_path), "AEGATE_INDEXER": "i7"})

    assert settings.database_url == f"sqlite://{tmp_path}/aegate.sqlite3"
    assert (settings.duty, settings.state_file, settings.health_address) == (
        Duty("i7"),
        None,
        ("127.0.0.1", 0),
    )


def test_settings_of_an_indexer_of_one_entity(tmp_path: Path) -> None:
    environ = {
        "AEGATE_DATA": str(tmp_path),
        "AEGATE_INDEXER": "c0ffee",
        "AEGATE_AE": "radiology/ct1",
        "AEGATE_SPOOL_PROCESS": "c0ffee",
        "AEGATE_DATABASE_URL_FILE": "/etc/aegate/database/dsn",
    }

    settings = read_settings(environ, is_until_empty=True)

    assert settings.duty == Duty("c0ffee", ResourceKey("radiology", "ct1"), "c0ffee", is_until_empty=True)
    assert settings.database_url_file == Path("/etc/aegate/database/dsn")
    assert settings.duty.quiet_s == 0
    assert read_settings(environ).duty.quiet_s == 25 * 3600
    assert Duty("i1").quiet_s == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("AEGATE_AE", "ct1"), ("AEGATE_SPOOL_PROCESS", "../p1"), ("AEGATE_SPOOL_PROCESS", "p" * 64)],
)
def test_setting_that_cannot_be_used_is_refused(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        read_settings({"AEGATE_DATA": str(tmp_path), name: value})


def started(environment: dict[str, str], log: Path) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return process([sys.executable, "-m", "aegate_scp.indexer"], log=log, environ=environment)


async def test_process_indexes_says_how_it_is_and_stops_on_sigterm(place: Place, tmp_path: Path) -> None:
    state = tmp_path / "indexer.state"
    environment = {
        "AEGATE_DATA": str(tmp_path),
        "AEGATE_DATABASE_URL": place.db.url,
        "AEGATE_STATE_FILE": str(state),
        "AEGATE_LOG_FORMAT": "json",
    }
    place.receive(dicom.ct())
    with started(environment, tmp_path / "indexer.log") as child:
        said = await eventually_async(
            lambda: (s := read_state(state)) and s.state == "ready" and s, deadline_s=60
        )
        assert (said.process, said.pid) == ("indexer", child.pid)  # type: ignore[union-attr]
        place.receive(dicom.ct(dicom.Instance(number=2)))
        await eventually_async(lambda: arrived(place, 2))
        address = f"http://127.0.0.1:{said.health_port}"  # type: ignore[union-attr]
        metrics = await asyncio.to_thread(
            lambda: urllib.request.urlopen(f"{address}/metrics", timeout=5).read()
        )
        assert b'aegate_arrivals_indexed_total{outcome="NEW"} 2.0' in metrics
        sentinel.assert_absent(metrics, "the metrics")
        child.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(child.wait, 10) == 0
    lines = [json.loads(line) for line in (tmp_path / "indexer.log").read_text().splitlines()]
    assert lines[0]["event"] == "process.started"
    assert lines[-1]["event"] == "process.stopped"
    assert sum(line["arrivals"] for line in lines if line["event"] == "batch.indexed") == 2


async def test_killed_indexer_leaves_all_to_the_next(place: Place, tmp_path: Path) -> None:
    environment = {"AEGATE_DATA": str(tmp_path), "AEGATE_DATABASE_URL": place.db.url}
    count = 300
    place.receive_all(dicom.ct_study("study 1", count))
    with started(environment, tmp_path / "first.log") as child:
        eventually(lambda: len(list((tmp_path / "blobs").rglob("*.dcm"))) > 20, deadline_s=20)
        child.kill()
    async with indexing(place):
        await eventually_async(lambda: arrived(place, count), deadline_s=30)
        await eventually_async(lambda: not place.spooled())
    assert await place.db.fetch_value("SELECT instance_count FROM study") == count
    assert len(list((tmp_path / "blobs").rglob("*.dcm"))) == count
