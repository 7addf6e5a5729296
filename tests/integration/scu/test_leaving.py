"""A peer that gives us no association is left at once: no connection to it stays open."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pynetdicom.transport import AssociationSocket

from aegate_core.dicom.ae_title import AETitle
from aegate_core.errors import PeerError
from aegate_core.resources.values import Timeouts
from aegate_scu.peer import VERIFICATION, PeerAddress, associate
from aegate_scu.send import Remote, echo
from tests.integration.scp.wires import item
from tests.integration.scu.clinic import entity
from tests.integration.scu.raw_peer import pdu
from tests.integration.waiting import eventually


def as_worker(port: int) -> None:
    """Call as a worker does."""
    associate(PeerAddress(entity(port, timeouts=Timeouts(acse_s=2)), "AEGATE"), [VERIFICATION])


def by_hand(port: int) -> None:
    """Call as `aegate echo` does."""
    echo(Remote("127.0.0.1", port, AETitle("SINK"), AETitle("AEGATE"), acse_timeout_s=2))


WITHOUT_LENGTH = pdu(
    2,
    b"\0\1\0\0"
    + b"SINK".ljust(16)
    + b"AEGATE".ljust(16)
    + bytes(32)
    + item(0x10, b"1.2.840.10008.3.1.1.1")
    + item(0x21, b"\1\0\0\0" + item(0x40, b"1.2.840.10008.1.2"))
    + item(0x50, item(0x52, b"1.2.3")),
)
"""An A-ASSOCIATE-AC that does not say how long a PDU may be (PS3.7 D.3.3.1)."""


@contextmanager
def answering(said: bytes, *, pause_s: float = 0) -> Iterator[tuple[int, threading.Event]]:
    """Answer a request so, with a pause after each byte; yield the port and what is set once we have gone."""
    closed = threading.Event()

    def serve() -> None:
        sock, _ = server.accept()
        with sock:
            sock.settimeout(30)
            sock.recv(65536)
            try:
                for piece in (bytes((b,)) for b in said) if pause_s else (said,):
                    closed.wait(pause_s)
                    sock.sendall(piece)
                while sock.recv(65536):
                    pass
            except (ConnectionResetError, BrokenPipeError):
                pass
            except TimeoutError:
                return
        closed.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], closed
        thread.join(40)


@pytest.mark.parametrize("call", [as_worker, by_hand])
@pytest.mark.parametrize(
    "said",
    [
        b"",
        pdu(3, bytes((0, 2, 3, 2))),
        pdu(4, bytes(10)),
        pdu(5, bytes(4)),
        pdu(7, bytes(4)),
        pdu(9, bytes(4)),
        b"\2",
        WITHOUT_LENGTH,
    ],
    ids=[
        "nothing",
        "rejection",
        "data",
        "release",
        "abort",
        "unknown PDU",
        "a part of a PDU",
        "acceptance without a maximum length",
    ],
)
def test_connection_without_an_association_is_closed(call: Callable[[int], None], said: bytes) -> None:
    with answering(said) as (port, closed):
        with pytest.raises(PeerError) as refusal:
            call(port)
        assert closed.wait(10), f"the connection stays open after {refusal.value.message}"


class Late(threading.Event):
    """What says that the connection stands, to a thread that a busy machine lets run only when it has ended again."""

    def __init__(self, connection: AssociationSocket) -> None:
        super().__init__()
        self._connection = connection

    def wait(self, timeout: float | None = None) -> bool:
        super().wait(timeout)
        return eventually(lambda: not self._connection._is_connected, deadline_s=10)


@pytest.mark.parametrize(
    ("call", "said"), [(as_worker, r"REJECTED: .*\(2,3,2\)"), (by_hand, "try again later")]
)
def test_rejection_is_heard_also_by_who_looks_up_late(
    call: Callable[[int], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = AssociationSocket.__init__

    def make(self: AssociationSocket, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        self._ready = Late(self)

    monkeypatch.setattr(AssociationSocket, "__init__", make)
    with answering(pdu(3, bytes((0, 2, 3, 2)))) as (port, _), pytest.raises(PeerError, match=said):
        call(port)


@pytest.mark.parametrize("call", [as_worker, by_hand])
def test_acceptance_that_comes_bit_by_bit_is_not_waited_for_longer_than_any(
    call: Callable[[int], None],
) -> None:
    began = time.monotonic()
    with answering(pdu(2, bytes(300)), pause_s=0.1) as (port, closed):
        with pytest.raises(PeerError):
            call(port)
        assert closed.wait(10)
    assert time.monotonic() - began < 25, "all of it takes 30 s"
