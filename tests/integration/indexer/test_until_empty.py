"""The indexer that empties what an AE left behind: it ends only when nothing is left, and then cleanly."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aegate_core.database import open_database
from aegate_core.dicom.arrival_ids import new_arrival_id
from aegate_core.health import ProcessState, read_state
from aegate_core.stores.index.progress import Progress, read_progress, write_progress
from aegate_core.stores.spool import SpoolFolder, sweep
from aegate_scp.indexer.exit_codes import NOT_EMPTY
from tests import dicom
from tests.integration.intake.hospital import Place
from tests.integration.processes import process
from tests.integration.waiting import eventually, eventually_async

COUNT = 50
POOL = "pool-default"


@pytest.fixture
async def place(database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with open_database(database_url) as db:
        with contextlib.closing(SpoolFolder(tmp_path / "spool", "pod-1")) as spool:
            here = Place(db, tmp_path, spool)
            await here.apply()
            yield here


@dataclass
class Drain:
    """The process, and what it says."""

    child: subprocess.Popen[bytes]
    folder: Path

    @property
    def state(self) -> ProcessState | None:
        return read_state(self.folder / "drain.json")

    def says(self, text: str) -> bool:
        return self.state is not None and text in self.state.message

    def ends(self) -> int:
        return self.child.wait(timeout=100)


@contextmanager
def draining(place: Place, url: str | None = None, *, of_pool: bool = False) -> Iterator[Drain]:
    environ = {
        "AEGATE_DATA": str(place.root),
        "AEGATE_DATABASE_URL_FILE": str(place.root / "dsn"),
        "AEGATE_AE": "default/ct1",
        "AEGATE_INDEXER": "drain",
        "AEGATE_SPOOL_PROCESS": "drain",
        "AEGATE_STATE_FILE": str(place.root / "drain.json"),
        "AEGATE_LOG_FORMAT": "json",
    }
    if of_pool:
        environ |= {"AEGATE_AE": "", "AEGATE_INDEXER": POOL}
    (place.root / "dsn").write_text(place.db.url if url is None else url)
    (place.root / "drain.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "aegate_scp.indexer", "--until-empty"]
    with process(command, log=place.root / "drain.log", environ=environ) as child:
        yield Drain(child, place.root)


def receive(place: Place, count: int = COUNT) -> None:
    place.receive_all(dicom.ct_study("study 1", count), when=datetime.now(UTC))


async def test_it_indexes_all_removes_the_folders_and_ends(place: Place) -> None:
    receive(place)
    begun = place.spool.begin(place.spooled()[0].side.ae, new_arrival_id(), b"half")
    place.spool.close()

    with draining(place) as drain:
        assert drain.ends() == 0

    begun.discard()
    assert await place.count("arrival") == COUNT
    assert await place.count("instance") == COUNT
    assert list((place.root / "spool").iterdir()) == []
    assert len(list((place.root / "blobs").rglob("*.dcm"))) == COUNT
    assert await place.count("indexer_state") == 0


async def test_it_waits_for_the_database_and_loses_nothing(place: Place) -> None:
    receive(place)
    place.spool.close()
    with draining(place, "postgres://aegate@127.0.0.1:1/aegate") as drain:
        eventually(lambda: drain.says("127.0.0.1:1 does not answer"), deadline_s=60)
        assert drain.child.poll() is None
        assert len(place.spooled()) == COUNT

        (place.root / "dsn").write_text(place.db.url)

        assert drain.ends() == 0
    assert await place.count("arrival") == COUNT
    assert list((place.root / "spool").iterdir()) == []


async def test_told_to_stop_before_the_spool_is_empty_it_has_not_succeeded(place: Place) -> None:
    receive(place)
    place.spool.close()
    with draining(place, "postgres://aegate@127.0.0.1:1/aegate") as drain:
        eventually(lambda: drain.says("127.0.0.1:1 does not answer"), deadline_s=60)
        drain.child.terminate()
        assert drain.ends() == NOT_EMPTY
    assert len(place.spooled()) == COUNT


async def test_told_to_stop_while_it_imports_it_has_not_succeeded(place: Place) -> None:
    receive(place)
    place.spool.close()
    with draining(place) as drain:
        drain.child.terminate()
        assert drain.ends() in (NOT_EMPTY, -signal.SIGTERM)


async def test_killed_in_the_middle_it_goes_on_where_it_was(place: Place) -> None:
    receive(place, 300)
    place.spool.close()
    with draining(place) as drain:
        eventually(lambda: len(list((place.root / "blobs").rglob("*.dcm"))) > 20, deadline_s=60)
        drain.child.kill()
        drain.child.wait()
    with draining(place) as drain:
        assert drain.ends() == 0
    assert await place.count("arrival") == 300
    assert len(list((place.root / "blobs").rglob("*.dcm"))) == 300
    assert list((place.root / "spool").iterdir()) == []


async def test_it_does_not_end_while_a_listener_lives(place: Place) -> None:
    receive(place, 3)
    with draining(place) as drain:
        eventually(lambda: drain.state is not None and drain.state.state == "ready", deadline_s=60)
        receive(place, 2)
        assert [a.path.parent.name for a in place.spooled()] == ["pod-1"] * 5

        place.spool.close()

        assert drain.ends() == 0
    assert await place.count("arrival") == 5


async def test_it_does_not_give_up_what_it_cannot_read(place: Place) -> None:
    receive(place, 3)
    broken = place.spooled()[1]
    good = broken.side_path.read_bytes()
    broken.side_path.write_text("not what a listener writes")
    place.spool.close()
    with draining(place) as drain:

        async def are_the_others_indexed() -> bool:
            return await place.count("arrival") == 2

        await eventually_async(are_the_others_indexed, deadline_s=60)
        assert broken.path.exists()
        assert drain.child.poll() is None

        broken.side_path.write_bytes(good)

        assert drain.ends() == 0
    assert await place.count("arrival") == 3


def test_empty_spool_needs_no_database(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    with open_place(tmp_path) as place, draining(place, "postgres://aegate@127.0.0.1:1/aegate") as drain:
        assert drain.ends() == 0


@contextmanager
def open_place(root: Path) -> Iterator[Place]:
    spool = SpoolFolder(root / "spool", "pod-1")
    spool.close()
    yield Place(None, root, spool)  # type: ignore[arg-type] # no database is asked


async def test_url_that_is_missing_or_wrong_is_said_and_waited_for(place: Place) -> None:
    place.spool.close()
    for text, words in (
        (None, "must stand in"),
        ("", "got nothing"),
        ("mysql://root:sentinel@host/db", "must start with postgres://"),
        ("postgres://aegate:sentinel@host", "must name a database"),
    ):
        with contextlib.closing(SpoolFolder(place.root / "spool", "pod-2")) as folder:
            Place(place.db, place.root, folder, _count=7).receive(dicom.ct(), when=datetime.now(UTC))
        with draining(place, text or "") as drain:
            if text is None:
                (place.root / "dsn").unlink()
            eventually(lambda d=drain, w=words: d.says(w), deadline_s=60)  # type: ignore[misc]
            assert drain.state is not None
            assert "sentinel" not in drain.state.message
            assert "sentinel" not in (place.root / "drain.log").read_text()
            (place.root / "dsn").write_text(place.db.url)
            assert drain.ends() == 0
    assert list((place.root / "spool").iterdir()) == []


def test_other_arguments_are_refused() -> None:
    command = [sys.executable, "-m", "aegate_scp.indexer", "--until-empt"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (
        2,
        "arguments must be --until-empty or none: mend the command\n",
    )


def test_file_of_a_listener_that_only_seems_gone_is_left_alone_for_a_day(tmp_path: Path) -> None:
    folder = tmp_path / "spool" / "default" / "ct1" / "pod-2"
    folder.mkdir(parents=True)
    fresh = [folder / f"{'a' * 32}.dcm.part", folder / f"{'b' * 32}.json"]
    old = [folder / f"{'c' * 32}.dcm.part", folder / f"{'d' * 32}.json"]
    for path in [*fresh, *old]:
        path.write_text(json.dumps({}))
    for path in old:
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 26 * 3600))

    swept = sweep(tmp_path / "spool", quiet_s=25 * 3600)

    assert (swept.processes, swept.parts) == (1, 1)
    assert sorted(folder.iterdir()) == sorted(fresh)
    assert sweep(tmp_path / "spool").parts == 1
    assert not folder.exists()


async def said(place: Place) -> list[str]:
    """Whose word studies wait for."""
    return [progress.process for progress in await read_progress(place.db)]


async def say_of_pool(place: Place) -> None:
    """What the indexers of a pool's pods said last; all under one name."""
    async with place.db.transaction() as tx:
        await write_progress(tx, Progress(POOL, datetime.now(UTC), {}))


async def test_word_of_a_pool_that_is_gone_goes_when_its_spool_is_empty(place: Place) -> None:
    receive(place)
    place.spool.close()
    await say_of_pool(place)
    with draining(place, of_pool=True) as drain:
        assert drain.ends() == 0
    assert await place.count("arrival") == COUNT
    assert await said(place) == []
    assert not list((place.root / "spool").rglob("*.dcm"))


async def test_word_of_a_pool_that_had_no_volume_goes_too(place: Place) -> None:
    place.spool.close()
    await say_of_pool(place)
    with draining(place, of_pool=True) as drain:
        assert drain.ends() == 0
    assert await said(place) == []


async def test_word_of_a_pool_stays_while_a_listener_of_it_lives(place: Place) -> None:
    receive(place)
    await say_of_pool(place)
    with draining(place, of_pool=True) as drain:
        eventually(lambda: drain.state is not None and drain.state.state == "ready", deadline_s=60)
        assert await said(place) == [POOL]
        assert await place.count("arrival") == 0
        place.spool.close()
        assert drain.ends() == 0
    assert await said(place) == []
