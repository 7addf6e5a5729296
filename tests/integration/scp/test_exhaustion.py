"""What runs out, and what must be given back: descriptors, threads, slots; nobody else notices."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aegate_core.decisions.listener_config import ListenerConfig
from aegate_scp.listener import Listener
from aegate_scp.metrics import ListenerMetrics
from tests.integration.scp.listeners import entity, running_listener
from tests.integration.scp.wires import RELEASE_RQ, associate_rq, connected, pdu, pdv, store_rq
from tests.integration.waiting import eventually


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    """One in this process, so that the system can be made to fail under it."""
    config = ListenerConfig("shared", "127.0.0.1", 0, str(tmp_path / "spool"), (entity(max_associations=1),))
    listener = Listener(config, metrics=ListenerMetrics())
    listener.start()
    yield listener
    listener.drain(grace_s=5)


def no_descriptor(*_: object) -> int:
    raise OSError(errno.EMFILE, "Too many open files")


def no_thread(prefix: str) -> object:
    start = threading.Thread.start

    def start_others(thread: threading.Thread) -> None:
        if thread.name.startswith(prefix):
            raise RuntimeError("can't start new thread")
        start(thread)

    return start_others


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("what", ["descriptor", "thread"])
def test_device_that_cannot_be_served_is_told_to_come_later_and_holds_nobody_up(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    assert listener.congestion() is None  # asked now, and therefore not within the next second
    with connected(listener.port) as unlucky, connected(listener.port, timeout_s=5) as next_one:
        eventually(lambda: listener.metrics.registry.get_sample_value("aegate_connections_pending") == 2)
        before = descriptors()
        with monkeypatch.context() as patch:
            if what == "descriptor":
                patch.setattr(os, "eventfd", no_descriptor)
            else:
                patch.setattr(threading.Thread, "start", no_thread("association-"))
            unlucky.send(associate_rq())
            assert unlucky.receive_pdu() == (3, bytes((0, 2, 3, 1)))
        # The audit's journal is open for a moment.
        eventually(lambda: descriptors() <= before, what="its descriptors are given back")

        # It never closes its side, and holds neither the entrance nor the AE's one slot.
        next_one.associate()
        next_one.send(RELEASE_RQ)
        assert next_one.receive_pdu()[0] == 6


def test_association_without_a_thread_for_its_upper_layer_gives_everything_back(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(listener.port) as unlucky, monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread("upper-layer-"))
        unlucky.send(associate_rq())
        assert unlucky.seconds_until_closed() < 3
    with connected(listener.port, timeout_s=5) as next_one:
        next_one.associate()
        next_one.send(RELEASE_RQ)
        assert next_one.receive_pdu()[0] == 6


ENDS = {
    "released": RELEASE_RQ,
    "peer_aborted": pdu(4, pdv(3, store_rq()) + pdv(0, b"half")) + pdu(7, bytes(4)),
    "connection_lost": pdu(4, pdv(3, store_rq()) + pdv(0, b"half")),
    "malformed": pdu(4, b"abc"),
}


def test_nothing_stays_open_however_associations_end(tmp_path: Path) -> None:
    with running_listener(tmp_path) as listener:
        process = Path(f"/proc/{listener.child.pid}")

        def open_now() -> tuple[int, int]:
            return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))

        def round_of_ends() -> None:
            for last_words in ENDS.values():
                with connected(listener.port) as peer:
                    peer.associate()
                    peer.send(pdu(4, pdv(3, store_rq()) + pdv(2, b"ab")))
                    assert peer.status() == 0x0000
                    peer.send(last_words)
            with connected(listener.port) as stranger:
                stranger.send(associate_rq(calling=b"NOBODY".ljust(16)))
                assert stranger.receive_pdu()[0] == 3

        round_of_ends()  # the folder of the AE is opened once and kept
        eventually(lambda: len(listener.events("association.ended")) == len(ENDS))
        eventually(lambda: open_now()[1] <= 6, what="threads have ended")
        before = open_now()
        for _ in range(10):
            round_of_ends()

        eventually(lambda: len(listener.events("association.ended")) == 11 * len(ENDS))
        eventually(lambda: all(n <= limit for n, limit in zip(open_now(), before, strict=True)))
        assert listener.open_associations() == 0
        assert len(listener.arrivals()) == 11 * len(ENDS)
        assert listener.leftovers() == []


def test_more_associations_than_pynetdicom_allows_by_itself(tmp_path: Path) -> None:
    with running_listener(tmp_path, entity(max_associations=25)) as listener, ExitStack() as stack:
        for _ in range(25):
            stack.enter_context(connected(listener.port)).associate()

        assert listener.open_associations() == 25
