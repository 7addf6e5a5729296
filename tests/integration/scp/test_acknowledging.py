"""`listener.acknowledge: Indexed`: a device hears success when its object is indexed, and a failure in time if not."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from aegate_core.database import Database, open_database
from aegate_core.health import read_state
from tests import dicom
from tests.integration.peers import run_dcmtk
from tests.integration.processes import process
from tests.integration.scp.listeners import RunningListener, entity, running_listener
from tests.integration.scp.wires import connected, pdu, pdv, store_rq
from tests.integration.waiting import eventually


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url) as opened:
        yield opened


@contextmanager
def indexing(data: Path, url: str) -> Iterator[None]:
    """Run an indexer process beside the listener."""
    state = data / "indexer.state"
    environ = {"AEGATE_DATA": str(data), "AEGATE_DATABASE_URL": url, "AEGATE_STATE_FILE": str(state)}
    with process([sys.executable, "-m", "aegate_scp.indexer"], log=data / "indexer.log", environ=environ):
        eventually(lambda: (s := read_state(state)) and s.state == "ready", deadline_s=30)
        yield


def sending(listener: RunningListener, *objects: Dataset) -> str:
    """Send with storescu; return what it says."""
    folder = listener.folder / "sent"
    files = [dicom.write(ds, folder / f"{ds.SOPInstanceUID}.dcm") for ds in objects]
    return run_dcmtk("storescu", "-v", "-aet", "CT1", "127.0.0.1", str(listener.port), *files).stdout


def stored(listener: RunningListener, status: str) -> float:
    return listener.metric("aegate_instances_received_total", ae="default/ct1", status=status)


async def test_success_means_that_the_rows_are_committed(tmp_path: Path, db: Database) -> None:
    with indexing(tmp_path, db.url), running_listener(tmp_path, entity(index_wait_s=30)) as listener:
        said = sending(listener, *dicom.ct_study("study 1", 3))

        assert await db.fetch_value("SELECT count(*) FROM arrival") == 3
        assert said.count("Received Store Response (Success)") == 3
        assert listener.arrivals() == []


async def test_without_an_indexer_the_device_hears_a_failure_in_time_and_nothing_is_lost(
    tmp_path: Path, db: Database
) -> None:
    # The device says nothing for longer than it may, but it is we who are being waited for.
    ct1 = entity(index_wait_s=2, network_idle_s=1)
    ds = dicom.ct()
    with running_listener(tmp_path, ct1) as listener:
        said = sending(listener, ds)

        assert "Received Store Response (Refused: OutOfResources)" in said
        assert stored(listener, "0xA700") == 1
        (kept,) = listener.arrivals()
        (refused,) = listener.events("instance.refused")
        assert refused["reason"] == (
            f"arrival {kept.side.arrival_id} is in the spool but was not indexed within 2 s"
        )

        with indexing(tmp_path, db.url):
            eventually(lambda: not listener.arrivals(), deadline_s=20)
            assert "Received Store Response (Success)" in sending(listener, ds)
            assert await db.fetch_value("SELECT count(*) FROM arrival") == 2
            assert await db.fetch_value("SELECT count(*) FROM instance") == 1
            assert await db.fetch_value("SELECT count(*) FROM conflict") == 0


async def test_quarantined_is_kept_and_visible_and_therefore_success(tmp_path: Path, db: Database) -> None:
    with (
        indexing(tmp_path, db.url),
        running_listener(tmp_path, entity(index_wait_s=30)) as listener,
        connected(listener.port) as peer,
    ):
        peer.associate()
        peer.send(pdu(4, pdv(3, store_rq()) + pdv(2, b"no data set")))

        assert peer.status() == 0x0000
        assert await db.fetch_value("SELECT count(*) FROM quarantined_object") == 1
        assert listener.arrivals() == []


def test_drain_does_not_wait_for_an_indexer_that_is_away(tmp_path: Path) -> None:
    with (
        running_listener(tmp_path, entity(index_wait_s=60), grace_s=1) as listener,
        connected(listener.port) as peer,
    ):
        peer.associate()
        peer.send(pdu(4, pdv(3, store_rq()) + pdv(2, b"ab")))
        eventually(listener.arrivals)

        began = time.monotonic()
        listener.child.send_signal(signal.SIGTERM)

        assert peer.status() == 0xA700
        assert peer.receive_pdu()[0] == 7
        assert listener.child.wait(timeout=10) == 0
        assert time.monotonic() - began < 8
        assert [a.side.sop_instance_uid for a in listener.arrivals()] == ["1.2.3.4"]


def test_spool_that_is_moved_away_is_not_taken_for_an_indexer(tmp_path: Path) -> None:
    with (
        running_listener(tmp_path, entity(index_wait_s=2)) as listener,
        connected(listener.port) as peer,
    ):
        peer.associate()
        peer.send(pdu(4, pdv(3, store_rq()) + pdv(2, b"ab")))
        eventually(listener.arrivals)
        listener.spool.rename(tmp_path / "away")

        assert peer.status() == 0xA700
        (tmp_path / "away").rename(listener.spool)
