"""Processes that stand still for a while (SIGSTOP: a machine that swaps, a suspended one) and then go on.

Whatever stands still, nothing acknowledged is lost, nothing is split or sent twice, and the others go on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.association import Association

from aegate_scp.sink import Sink, SinkOptions
from tests import dicom
from tests.integration.cli.installations import QUICK, ROUTE, Up, device, installation
from tests.integration.faults.conftest import Recovery
from tests.integration.processes import is_stopped
from tests.integration.scp.listeners import associate, running_listener
from tests.integration.scp.wires import connected, pdu, pdv, store_rq
from tests.integration.sqlite import nobody_writes
from tests.integration.waiting import eventually

DEADLINE_S = 60
QUIET = "  study: {quietPeriodSeconds: 10, maxAgeSeconds: 600}\n"
"""Longer than a busy machine takes between two halves of a study."""
UNITS = "{ closeUnits { nodes { whyNotMoving { text } } } }"
ITEMS = "{ queueItems { nodes { state instancesTotal instancesDone attempts } } }"


def manifests(sink: Sink, times: str) -> dict[str, str]:
    return {
        "ct1.yaml": device("ct1", more=times),
        "sink.yaml": device("pacs", sink.port),
        "route.yaml": ROUTE,
    }


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """Let a process stand still until the end of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: is_stopped(pid), what="it stands still")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def paused_outside_of_a_transaction(pid: int, database: Path) -> Iterator[None]:
    """Let a process stand still that holds no lock just then."""

    def is_so() -> bool:
        os.kill(pid, signal.SIGSTOP)
        if eventually(lambda: is_stopped(pid)) and nobody_writes(database):
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    eventually(is_so, what="it stands still outside of a transaction")
    with paused(pid):
        yield


def send(up: Up, *objects: object) -> None:
    """Send over one association, all acknowledged."""
    association: Association = associate(up.dicom_port, (CTImageStorage, [ExplicitVRLittleEndian]))
    assert [association.send_c_store(ds).Status for ds in objects] == [0] * len(objects)
    association.release()


def has_all(up: Up, sink: Sink, images: int, *, twice: int = 0) -> None:
    """Wait until the receiver has so many images, at most ``twice`` of them twice, and the queue says the same."""

    def done() -> bool:
        items = up.ask(ITEMS)["queueItems"]["nodes"]
        return {i["state"] for i in items} == {"COMPLETED"} and (
            sum(i["instancesDone"] for i in items) == images
        )

    eventually(done, deadline_s=DEADLINE_S, what="all is delivered")
    assert len({r.sop_instance_uid for r in sink.received}) == images
    assert len(sink.received) <= images + twice


def says_why(up: Up) -> bool:
    """Whether the one unit says that it waits for the indexer."""
    [unit] = up.ask(UNITS)["closeUnits"]["nodes"]
    why = unit["whyNotMoving"]
    return why is not None and "has not looked into the spool since" in why["text"]


@pytest.mark.timeout(300)
def test_study_waits_for_an_indexer_that_stands_still_and_goes_out_once(
    tmp_path: Path, recovery: Recovery
) -> None:
    with Sink(SinkOptions(tmp_path / "sink", title="PACS")) as sink:
        with installation(tmp_path, manifests(sink, QUIET)) as up:
            study = dicom.ct_study("s", 8)
            send(up, *study[:4])
            eventually(lambda: up.ask(UNITS)["closeUnits"]["nodes"], deadline_s=DEADLINE_S)
            with paused_outside_of_a_transaction(up.pid_of("indexer"), up.data / "aegate.sqlite3"):
                send(up, *study[4:])
                eventually(lambda: says_why(up), deadline_s=DEADLINE_S, what="it says what it waits for")
                assert up.ask(ITEMS)["queueItems"]["nodes"] == []
            with recovery("indexer that stood still"):
                has_all(up, sink, 8)
            [item] = up.ask(ITEMS)["queueItems"]["nodes"]
            assert (item["instancesTotal"], item["attempts"]) == (8, 0)
        assert up.child.returncode == 0


@pytest.mark.timeout(300)
def test_images_go_on_while_api_or_supervisor_stand_still(tmp_path: Path, recovery: Recovery) -> None:
    with Sink(SinkOptions(tmp_path / "sink", title="PACS")) as sink, ThreadPoolExecutor(1) as pool:
        with installation(tmp_path, manifests(sink, QUICK)) as up:
            up.ask(ITEMS)
            with paused(up.pid_of("api")):
                question = pool.submit(up.ask, ITEMS)
                send(up, *dicom.ct_study("past the api", 3))
                eventually(lambda: len(sink.received) == 3, deadline_s=DEADLINE_S)
                assert not question.done()
            assert question.result(DEADLINE_S)["queueItems"]["nodes"] is not None

            worker = up.pid_of("worker")
            with paused(up.child.pid):
                send(up, *dicom.ct_study("past the supervisor", 3))
                eventually(lambda: len(sink.received) == 6, deadline_s=DEADLINE_S)
                os.kill(worker, signal.SIGKILL)
                send(up, *dicom.ct_study("without a worker", 3))
            with recovery("supervisor that stood still while a worker died"):
                has_all(up, sink, 9, twice=3)  # what it had sent and not recorded when it was killed
            assert up.pid_of("worker") != worker
        assert up.child.returncode == 0


def test_listener_that_stands_still_within_an_object_takes_the_rest_of_it(
    tmp_path: Path, recovery: Recovery
) -> None:
    with running_listener(tmp_path) as listener, connected(listener.port, timeout_s=1) as peer:
        peer.associate()
        peer.send(pdu(4, pdv(3, store_rq()) + pdv(0, b"half")))
        eventually(lambda: listener.leftovers(), what="the object has begun")
        with paused(listener.child.pid):
            peer.send(pdu(4, pdv(2, b"rest")))
            with pytest.raises(TimeoutError):
                peer.receive_pdu()
            assert listener.arrivals() == []
        peer.sock.settimeout(DEADLINE_S)
        with recovery("listener that stood still"):
            assert peer.status() == 0x0000
        (arrival,) = listener.arrivals()
        assert arrival.path.read_bytes().endswith(b"halfrest")
        assert listener.leftovers() == []
