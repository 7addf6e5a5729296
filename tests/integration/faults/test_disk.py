"""The disk of blobs, database or everything fails: devices are served while the spool is well, and no row is half."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.integration.faults.conftest import Recovery
from tests.integration.faults.disk_errors import CHANGES, EVERYTHING, GROWS, Call
from tests.integration.faults.scene import SOON_S, Scene, scene
from tests.integration.waiting import eventually

BLOBS = {
    "full disk": (errno.ENOSPC, GROWS, "the file system is full: make room on it"),
    "read-only disk": (errno.EROFS, CHANGES, "the file system is read-only"),
    "broken disk": (errno.EIO, Call.FSYNC | Call.LINK, "the disk fails: look into the system's log"),
}
DATABASE = {
    "full disk": (errno.ENOSPC, GROWS, "the database's disk is full: make room"),
    "quota used up": (errno.EDQUOT, GROWS, "the SQLite file cannot be read or written (SQLITE_IOERR_WRITE)"),
    "broken disk": (errno.EIO, EVERYTHING, "look into the system's log"),
    "disk that cannot flush": (
        errno.EIO,
        Call.FSYNC,
        "the SQLite file cannot be read or written (SQLITE_IOERR_FSYNC)",
    ),
}
HOLD = "mutation ($id: ID!) { holdDestination(id: $id) { ... on UnavailableProblem { message } } }"
PACS = "{ destinations { nodes { id ae } } }"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One for all: each fault must leave it well for the next."""
    with scene(tmp_path_factory.mktemp("disk")) as running:
        yield running


def pids(here: Scene) -> dict[str, int]:
    return {e["process"]: e["pid"] for e in here.up.events("child.started")}


def until_said(here: Scene, process: str, words: str) -> None:
    eventually(lambda: here.state(process).state == "degraded", deadline_s=SOON_S)
    eventually(lambda: words in here.state(process).message, deadline_s=SOON_S)
    status, said = here.get(process, "/readyz")
    assert (status, words in said) == (503, True)


@pytest.mark.parametrize("name", BLOBS)
def test_images_wait_in_the_spool_while_the_blobs_take_nothing(
    here: Scene, recovery: Recovery, name: str
) -> None:
    error, calls, words = BLOBS[name]
    before = pids(here)
    with here.disk.failing(error, calls, f"{here.up.data}/blobs*") as fault:
        for ae in ("ct1", "us1"):
            assert here.store(ae) == "0x0000"
        until_said(here, "indexer", words)
        assert here.metric("indexer", "aegate_spool_arrivals", ae="default/ct1") == 1
        assert here.state("listener").state == here.state("worker").state == "ready"
        assert fault.failed > 0
    with recovery(f"{name} of the blobs"):
        here.until_all_is_well()
    assert pids(here) == before


@pytest.mark.parametrize("name", DATABASE)
def test_devices_are_served_and_no_row_is_half_while_the_database_takes_nothing(
    here: Scene, recovery: Recovery, name: str
) -> None:
    error, calls, words = DATABASE[name]
    before = pids(here)
    (pacs,) = (d["id"] for d in here.up.ask(PACS)["destinations"]["nodes"] if d["ae"] == "default/pacs")
    with here.disk.failing(error, calls, f"{here.up.data}/aegate.sqlite3*") as fault:
        for ae in ("ct1", "us1"):
            assert here.store(ae) == "0x0000"
        until_said(here, "indexer", words)
        until_said(here, "worker", words)
        assert words in here.up.ask(HOLD, id=pacs)["holdDestination"]["message"]
        assert fault.failed > 0
    with recovery(f"{name} of the database"):
        here.until_all_is_well()
    assert pids(here) == before
    with closing(sqlite3.connect(here.up.data / "aegate.sqlite3")) as db:
        unfinished = "SELECT count(*) FROM delivery WHERE state <> 'COMPLETED'"
        eventually(lambda: db.execute(unfinished).fetchone() == (0,), deadline_s=SOON_S)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for table in ("arrival", "instance", "delivery"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (len(here.acknowledged),)


@pytest.mark.parametrize("error", [errno.EIO, errno.EMFILE])
def test_supervisor_that_cannot_read_what_processes_say_ends_none_of_them(
    here: Scene, recovery: Recovery, error: int
) -> None:
    before = pids(here)
    with here.disk.failing(error, Call.OPEN | Call.READ | Call.LIST, f"{here.up.data}/run/*.state") as fault:
        eventually(lambda: fault.failed > 3, deadline_s=SOON_S)
        for ae in ("ct1", "us1"):
            assert here.store(ae) == "0x0000"
        here.until_delivered()
    with recovery(f"states that cannot be read ({errno.errorcode[error]})"):
        here.until_all_is_well()
    assert pids(here) == before


def test_folder_of_resources_that_cannot_be_read_changes_nothing(here: Scene, recovery: Recovery) -> None:
    before = pids(here)
    glob = f"{here.up.folder}*"
    with here.disk.failing(errno.EIO, Call.OPEN | Call.READ | Call.LIST | Call.STAT, glob) as fault:
        (here.up.folder / "ct1.yaml").touch()
        eventually(lambda: fault.failed > 10, deadline_s=SOON_S)
        for ae in ("ct1", "us1"):
            assert here.store(ae) == "0x0000"
        here.until_delivered()
    with recovery("folder of resources that cannot be read"):
        here.until_all_is_well()
    assert pids(here) == before


def test_disk_that_is_full_of_everything_heals_with_a_process_that_died_meanwhile(
    here: Scene, recovery: Recovery
) -> None:
    (root,) = {here.up.data.parent, here.up.log.parent}
    assoc = here.call("us1")
    with here.disk.failing(errno.ENOSPC, GROWS | Call.ROOM, f"{root}/*"):
        assert here.send(assoc) == 0xA700
        eventually(lambda: here.store("ct1") == "rejected 2,3,1", deadline_s=SOON_S)
        os.kill(here.up.pid_of("worker"), signal.SIGKILL)
    with recovery("full disk of everything, and a killed worker"):
        here.until_all_is_well()
    assoc.abort()
