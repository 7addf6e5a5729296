"""Receivers that take our time or our memory: both are bounded, and what waits says what is wrong with whom."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from aegate_core.decisions.moving import NotMovingCode
from aegate_core.resources.values import Timeouts
from aegate_scu.peer import PeerAddress
from aegate_scu.probe import ProbeAnswer, probe
from tests.dicom import Instance, ct
from tests.integration.scu.clinic import Clinic, clinic, entity, reaches, why
from tests.integration.scu.raw_peer import accepted, data, pdu, read_pdu, response
from tests.integration.waiting import eventually_async

TIMES = Timeouts(connect_s=5, acse_s=1, dimse_response_s=1, network_idle_s=5)
ANSWERS = Timeouts(connect_s=5, acse_s=10, dimse_response_s=1, network_idle_s=5)
"""For a receiver that answers the request at once: a busy machine may take more than a second over it."""
MOST_GROWTH_BYTES = 32 << 20
MOST_SECONDS = 30
"""Of all three tries together, on a machine that is busy; the timeouts are a second each."""
A_GIGABYTE = 1 << 30

Script = Callable[[socket.socket], None]


def establish(sock: socket.socket) -> None:
    _, request = read_pdu(sock)
    sock.sendall(accepted(request, 16384))


def established(then: Script) -> Script:
    """Accept the association, let a whole C-STORE request come, and go on so."""

    def script(sock: socket.socket) -> None:
        establish(sock)
        while not ends_message(read_pdu(sock)[1]):
            pass
        then(sock)

    return script


def ends_message(body: bytes) -> bool:
    """Whether a P-DATA-TF is the last of a C-STORE request: its data set's last fragment."""
    return body[5] == 2


def requested(then: Script) -> Script:
    """Let the association request come, and go on so."""

    def script(sock: socket.socket) -> None:
        read_pdu(sock)
        then(sock)

    return script


def says(content: bytes) -> Script:
    return lambda sock: sock.sendall(content)


def echo_asked(then: Script) -> Script:
    """Accept the association, let a whole C-ECHO request come, and go on so."""

    def script(sock: socket.socket) -> None:
        establish(sock)
        read_pdu(sock)
        then(sock)

    return script


def never_reads(sock: socket.socket) -> None:
    establish(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    gone.wait(MOST_SECONDS)


def stays_silent(sock: socket.socket) -> None:
    """Say nothing, and read nothing, until the other side has gone."""
    sock.settimeout(60)
    while sock.recv(1 << 16):
        pass


def floods(head: bytes, content: bytes) -> Script:
    def script(sock: socket.socket) -> None:
        sock.sendall(head)
        for _ in range(A_GIGABYTE // len(content)):
            sock.sendall(content)

    return script


def trickles(content: bytes) -> Script:
    """Say one byte at a time, each well within every timeout."""

    def script(sock: socket.socket) -> None:
        for byte in content * 100:
            sock.sendall(bytes((byte,)))
            gone.wait(0.1)

    return script


gone = threading.Event()
"""Never set: a way to wait."""


def takes_a_byte_now_and_then(sock: socket.socket) -> None:
    establish(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    while sock.recv(1):
        gone.wait(0.1)


ENDLESS = struct.pack(">BBL", 4, 0, 0xFFFFFFFF)
REJECTED = pdu(3, bytes((0, 2, 3, 2)))
ABORTED = pdu(7, bytes(4))
BLOCK = bytes(1 << 16)


@contextmanager
def receiver(script: Script) -> Iterator[int]:
    """Run a receiver that does the same over each connection, each in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server, script), daemon=True).start()
        try:
            yield int(server.getsockname()[1])
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)


def _accept(server: socket.socket, script: Script) -> None:
    with suppress(OSError):
        while True:
            sock, _ = server.accept()
            threading.Thread(target=_serve, args=(sock, script), daemon=True).start()


def _serve(sock: socket.socket, script: Script) -> None:
    with sock, suppress(OSError, struct.error, IndexError):
        script(sock)
        stays_silent(sock)


@contextmanager
def bounded() -> Iterator[None]:
    """Assert what the block may take of this process: time, and memory at its peak (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")
    before, began = _peak_bytes(), time.monotonic()
    yield
    assert time.monotonic() - began < MOST_SECONDS
    assert _peak_bytes() - before < MOST_GROWTH_BYTES


def _peak_bytes() -> int:
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert peak is not None
    return int(peak[1]) * 1024


ABORTED_TEXT = "ABORTED: SINK did not answer the association request"
MALFORMED_TEXT = "MALFORMED: SINK accepted the association and told of no presentation context"

NO_ASSOCIATION: dict[str, tuple[Script, str]] = {
    "takes the connection and is silent": (stays_silent, ABORTED_TEXT),
    "answers with an abort": (requested(says(ABORTED)), ABORTED_TEXT),
    "rejects transiently": (
        requested(says(REJECTED)),
        "REJECTED: SINK answered A-ASSOCIATE-RJ (2,3,2)",
    ),
    "answers with no DICOM": (requested(says(b"HTTP/1.1 400 Bad Request\r\n\r\n")), ABORTED_TEXT),
    "accepts with half a PDU": (requested(says(struct.pack(">BBL", 2, 0, 200) + bytes(68))), ABORTED_TEXT),
    "accepts and tells of no context": (requested(says(pdu(2, b"\0\1" + bytes(66)))), MALFORMED_TEXT),
    "accepts byte by byte": (requested(trickles(pdu(2, bytes(2000)))), ABORTED_TEXT),
    "accepts with a PDU of 4 GiB": (
        requested(floods(struct.pack(">BBL", 2, 0, 0xFFFFFFFF), BLOCK)),
        ABORTED_TEXT,
    ),
    "floods with data instead": (requested(floods(b"", data(1, bytes(16_000)))), ABORTED_TEXT),
}


@pytest.mark.parametrize("name", NO_ASSOCIATION)
async def test_receiver_that_gives_no_association_is_in_trouble_and_costs_nothing(
    database_url: str, tmp_path: Path, name: str
) -> None:
    script, text = NO_ASSOCIATION[name]
    async with clinic(database_url, tmp_path) as here:
        with receiver(script) as port, bounded():
            await here.configure(entity(port, timeouts=TIMES if text == ABORTED_TEXT else ANSWERS))
            delivery = await here.enqueue(*await here.store(ct()))
            async with here.worker():
                await eventually_async(lambda: is_open(here), deadline_s=MOST_SECONDS)
                assert (await here.states())[delivery] == "SCHEDULED"
                code, said = await why(here, delivery)
                assert (code, said.partition(": ")[2]) == (NotMovingCode.BREAKER_OPEN, text)
        assert await here.instances(delivery) == [("PENDING", None, None)]
        assert (await here.delivery(delivery))["attempts"] == 0
        row = await here.destination()
        assert (row["breaker"], row["failures_in_row"], row["last_error"]) == ("OPEN", 3, text)


async def is_open(here: Clinic) -> bool:
    """Whether the breaker is open and nothing is being tried."""
    held = await here.db.fetch_value("SELECT count(*) FROM slot WHERE token IS NOT NULL")
    return (await here.destination())["breaker"] == "OPEN" and not held


NO_ANSWER: dict[str, Script] = {
    "never answers": established(stays_silent),
    "never reads": never_reads,
    "reads a byte now and then": takes_a_byte_now_and_then,
    "aborts": established(says(ABORTED)),
    "asks for release instead": established(says(pdu(5, bytes(4)))),
    "answers byte by byte": established(trickles(response(1, 0x0000))),
    "answers with a PDU of 4 GiB": established(floods(ENDLESS, BLOCK)),
    "answers with a command without end": established(floods(b"", data(1, bytes(16_000)))),
    "answers with empty fragments without end": established(floods(b"", data(1, b"") * 1000)),
    "answers others without end": established(floods(b"", response(4711, 0x0000) * 100)),
}


@pytest.mark.parametrize("name", NO_ANSWER)
async def test_receiver_that_gives_no_answer_is_in_trouble_and_costs_nothing(
    database_url: str, tmp_path: Path, name: str
) -> None:
    side = 2048 if "read" in name else 16  # more than the buffers between us and it take
    large = ct(Instance(rows=side, columns=side))
    async with clinic(database_url, tmp_path) as here:
        await here.store(large)
        with receiver(NO_ANSWER[name]) as port, bounded():
            await here.configure(entity(port, timeouts=TIMES))
            delivery = await here.enqueue(*here.stored)
            async with here.worker():
                await reaches(here, delivery, "RETRY", deadline_s=MOST_SECONDS)
                assert await why(here, delivery) == (
                    NotMovingCode.BACKOFF,
                    "BROKEN: SINK gave no status for an instance",
                )
        assert await here.instances(delivery) == [("PENDING", None, "ASSOCIATION_BROKE")]
        assert (await here.delivery(delivery))["attempts"] == 0
        row = await here.destination()
        assert (row["breaker"], row["failures_in_row"]) == ("CLOSED", 1)


async def test_receiver_that_never_answers_a_release_has_what_it_acknowledged(
    database_url: str, tmp_path: Path
) -> None:
    async with clinic(database_url, tmp_path) as here:
        script = established(says(response(1, 0x0000)))
        with receiver(script) as port, bounded():
            await here.configure(entity(port, timeouts=TIMES))
            delivery = await here.enqueue(*await here.store(ct()))
            async with here.worker():
                await reaches(here, delivery, "COMPLETED", deadline_s=MOST_SECONDS)
        assert await here.instances(delivery) == [("STORED", 0, None)]


ECHOES: dict[str, Script] = {
    "silence": echo_asked(stays_silent),
    "a PDU of 4 GiB": echo_asked(floods(ENDLESS, BLOCK)),
    "a command without end": echo_asked(floods(b"", data(1, bytes(16_000)))),
}


@pytest.mark.parametrize("name", ECHOES)
def test_probe_of_such_a_receiver_is_bounded_too(name: str) -> None:
    with receiver(ECHOES[name]) as port, bounded():
        answer = probe(PeerAddress(entity(port, timeouts=TIMES), "AEGATE"))
    assert answer == ProbeAnswer("BROKEN: the peer did not answer C-ECHO")
