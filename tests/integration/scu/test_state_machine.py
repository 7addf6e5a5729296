"""The sender against the state table (PS3.8 9.2): whatever its peer says in any state, the table says what follows.

And whoever waits for an association, an answer or a release is told, soon, and never of a success that was not said.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from aegate_core.decisions.contexts import ProposedContext
from aegate_core.dicom.ae_title import AETitle
from aegate_core.errors import PeerError
from aegate_core.resources.values import Timeouts
from aegate_scu.outgoing import Outgoing
from aegate_scu.peer import VERIFICATION, NoAssociation, PeerAddress, PeerAssociation, associate
from aegate_scu.send import Remote, echo, prepare
from tests import dicom
from tests.integration.scp.wires import Peer
from tests.integration.scu.clinic import entity
from tests.integration.scu.raw_peer import accepted, command, data, pdu, response
from tests.state_table import SENT_BY_ACTION, TABLE, Cell

PATIENCE_S = 2
SOON_S = 20
"""By far more than the patience that our side has, also on a busy machine."""
REQUEST, DATA, RELEASE_RQ, ABORT, NOTHING_MORE = 1, 4, 5, 7, 0
CONTEXT = ProposedContext(CTImageStorage, ExplicitVRLittleEndian)

SAYINGS = {
    4: pdu(3, bytes((0, 1, 1, 1))),
    6: pdu(1, bytes(100)),
    12: pdu(5, bytes(4)),
    13: pdu(6, bytes(4)),
    16: pdu(7, bytes(4)),
    19: pdu(9, b""),
}
"""Event → what an acceptor says; an A-ASSOCIATE-AC (Evt3) is made from the request."""

EVENTS = st.sampled_from([3, *SAYINGS, 17])


class Acceptor(RuleBasedStateMachine):
    """A peer that does what it likes, and a user of ours who wants something sent."""

    def __init__(self, server: socket.socket, file: Path, pool: ThreadPoolExecutor) -> None:
        super().__init__()
        self.server = server
        self.file = prepare(file)
        self.pool = pool
        self.state = 1
        self.message_id = 0
        self.is_asked = False
        self.peer: Peer
        self.doing: Future[Any]
        self.assoc: PeerAssociation

    def teardown(self) -> None:
        """Leave, and see that our side does, too."""
        if self.state != 1:
            self.peer.sock.close()
            with suppress(PeerError):
                self.doing.result(SOON_S)
            if self.state != 5:
                self.assoc.abort()

    @precondition(lambda self: self.state == 1)
    @rule()
    def call(self) -> None:
        """The user wants an association (Evt1, Evt2)."""
        times = Timeouts(connect_s=5, acse_s=PATIENCE_S, dimse_response_s=PATIENCE_S)
        port = self.server.getsockname()[1]
        address = PeerAddress(entity(port, timeouts=times), "AEGATE")
        self.doing = self.pool.submit(associate, address, [CONTEXT])
        sock, _ = self.server.accept()
        sock.settimeout(SOON_S)
        self.peer = Peer(sock)
        kind, self.request = self.peer.receive_pdu()
        assert kind == REQUEST
        self.state, self.is_asked, self.message_id = 5, False, 0

    @precondition(lambda self: self.state == 5)
    @rule()
    def accept(self) -> None:
        """Say what belongs here (Evt3)."""
        self.peer.send(accepted(self.request, 16384))
        self.assoc = self.doing.result(SOON_S)
        self.state = 6

    @precondition(lambda self: self.state == 5)
    @rule(event=EVENTS.filter(lambda event: event != 3), data_first=st.booleans())
    def refuse(self, event: int, data_first: bool) -> None:
        """Say anything else."""
        if data_first:
            event = 10
        self.say(event)
        self.ends_by(Cell(event, 5))
        with pytest.raises(NoAssociation) as error:
            self.doing.result(SOON_S)
        assert ("REJECTED" in str(error.value)) is (event == 4)

    @precondition(lambda self: self.state == 6 and not self.is_asked)
    @rule()
    def store(self) -> None:
        """The user sends an object (Evt9)."""
        made = Outgoing(self.file.path, self.file.data_offset)
        uids = self.file.sop_class_uid, self.file.sop_instance_uid
        self.doing = self.pool.submit(self.assoc.store, *uids, ExplicitVRLittleEndian, made)
        control = 0
        while control != 2:
            kind, body = self.peer.receive_pdu()
            assert kind == DATA
            control = body[5]
        self.is_asked = True
        self.message_id += 1

    @precondition(lambda self: self.state == 6 and self.is_asked)
    @rule(status=st.sampled_from([0x0000, 0xB000, 0xA700, 0xC000]))
    def respond(self, status: int) -> None:
        """Answer (Evt10): that is what our side reports."""
        self.peer.send(response(self.message_id, status))
        assert self.doing.result(SOON_S) == status
        self.is_asked = False

    @precondition(lambda self: self.state == 6)
    @rule(
        wrong=st.sampled_from(
            [
                data(2, b"ab"),
                data(3, command((0x0100, b"\1\0"), (0x0800, b"\1\0"))),
                data(3, b"\0\0\0\1\2\0\0\0ab"),
                response(60_000, 0x0000),
                pdu(4, b"\0\0\0\1\1\3"),
            ]
        )
    )
    def respond_wrongly(self, wrong: bytes) -> None:
        """Say what is no answer, or one to what was never sent: as if it were no PDU (Evt19)."""
        self.peer.send(wrong)
        self.ends_by(Cell(19, 6))
        self.nothing_is_stored()

    @precondition(lambda self: self.state == 6)
    @rule(event=EVENTS.filter(lambda event: event != 12))
    def say_in_between(self, event: int) -> None:
        """Say what belongs elsewhere, or go."""
        self.say(event)
        self.ends_by(Cell(event, 6))
        self.nothing_is_stored()

    @precondition(lambda self: self.state == 6)
    @rule()
    def ask_for_release(self) -> None:
        """Ask for release (Evt12): confirmed (Evt14); when our side waits for an answer, there is none any more."""
        self.say(12)
        self.ends_by(Cell(15 if self.is_asked else 14, 8))
        self.nothing_is_stored()

    @precondition(lambda self: self.state == 6 and not self.is_asked)
    @rule()
    def release(self) -> None:
        """The user has sent all (Evt11)."""
        self.doing = self.pool.submit(self.assoc.release)
        assert self.peer.receive_pdu()[0] == SENT_BY_ACTION[TABLE[Cell(11, 6)]] == RELEASE_RQ
        self.state = 7

    @precondition(lambda self: self.state in (7, 11))
    @rule(event=EVENTS)
    def answer_release(self, event: int) -> None:
        """Confirm, collide or go astray."""
        cell = Cell(event, self.state)
        self.say(event)
        if TABLE[cell] == "AR-8":
            assert self.peer.receive_pdu()[0] == SENT_BY_ACTION[TABLE[Cell(14, 9)]]
            self.state = 11
            return
        self.ends_by(cell)
        self.doing.result(SOON_S)

    @precondition(lambda self: self.state == 7 and self.message_id > 0)
    @rule()
    def send_data_while_releasing(self) -> None:
        """Say something late (Evt10): it is read (AR-6), and nobody wants it any more."""
        self.peer.send(response(self.message_id, 0x0000))

    @precondition(lambda self: self.state in (5, 7, 11) or self.is_asked)
    @rule(dice=st.integers(0, 9))
    def be_silent(self, dice: int) -> None:
        """Say nothing, sometimes until our side has had enough (Evt15)."""
        if dice:
            return
        state = self.state
        self.ends_by(Cell(15, state))
        if state == 5:
            with pytest.raises(NoAssociation):
                self.doing.result(SOON_S)
        elif state == 6:
            assert self.doing.result(SOON_S) is None
            self.is_asked = False
        else:
            self.doing.result(SOON_S)

    def say(self, event: int) -> None:
        """Send the PDU of an event, or close."""
        if event == 17:
            self.peer.sock.shutdown(socket.SHUT_RDWR)
        elif event == 3:
            self.peer.send(accepted(self.request, 16384))
        elif event == 10:
            self.peer.send(response(1, 0x0000))
        else:
            self.peer.send(SAYINGS[event])

    def ends_by(self, cell: Cell) -> None:
        """Expect the PDU of this cell's action, or none, and the end of the connection."""
        kind = SENT_BY_ACTION.get(TABLE[cell])
        if kind is not None:
            assert self.peer.receive_pdu()[0] == kind, cell
        assert self.peer.receive_pdu()[0] == NOTHING_MORE, cell
        self.peer.sock.close()
        self.state = 1

    def nothing_is_stored(self) -> None:
        """Expect that our side knows it, at once when it waits for an answer, else when it sends the next."""
        if not self.is_asked:
            made = Outgoing(self.file.path, self.file.data_offset)
            uids = self.file.sop_class_uid, self.file.sop_instance_uid
            self.doing = self.pool.submit(self.assoc.store, *uids, ExplicitVRLittleEndian, made)
        assert self.doing.result(SOON_S) is None
        self.is_asked = False


def test_sender_goes_on_as_the_state_table_says(tmp_path: Path) -> None:
    file = dicom.write(dicom.ct(), tmp_path / "ct.dcm")
    few = settings(
        max_examples=30,
        stateful_step_count=12,
        phases=(Phase.generate,),  # each step takes its time: shrinking would take hours
        suppress_health_check=list(HealthCheck),
    )
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        server.settimeout(SOON_S)
        run_state_machine_as_test(lambda: Acceptor(server, file, pool), settings=few)


@contextmanager
def answering_echo(said: bytes, *, syntax: bytes = b"1.2.840.10008.1.2") -> Iterator[int]:
    """Accept an association in this transfer syntax, answer its C-ECHO so, and read on; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def serve() -> None:
            sock, _ = server.accept()
            with sock:
                sock.settimeout(SOON_S)
                peer = Peer(sock)
                acceptance = accepted(peer.receive_pdu()[1], 16384)
                peer.send(acceptance.replace(b"\x11" + b"1.2.840.10008.1.2", b"\x11" + syntax))
                peer.receive_pdu()
                peer.send(said)
                peer.receive_pdu()

        done = pool.submit(serve)
        yield server.getsockname()[1]
        done.result(SOON_S)


def echo_response(message_id: int, *status: int) -> bytes:
    """Return a P-DATA-TF with a C-ECHO response."""
    elements = [(0x0100, b"\x30\x80"), (0x0120, struct.pack("<H", message_id)), (0x0800, b"\1\1")]
    return data(3, command(*elements, *((0x0900, struct.pack("<H", s)) for s in status)))


def by_hand(port: int) -> int:
    """Echo as `aegate echo` does."""
    return echo(Remote("127.0.0.1", port, AETitle("SINK"), AETitle("AEGATE"), 5, PATIENCE_S, PATIENCE_S))


def test_echo_is_answered_by_its_own_response() -> None:
    for status in (0x0000, 0x0210):
        with answering_echo(echo_response(1, status)) as port:
            assert by_hand(port) == status


@pytest.mark.parametrize(
    "said",
    [echo_response(2, 0), echo_response(1), response(1, 0), data(3, b"\0\0\0\1\2\0\0\0ab"), pdu(5, bytes(4))],
    ids=["of another message", "no status", "of a C-STORE", "garbled", "release"],
)
def test_echo_is_answered_by_nothing_else(said: bytes) -> None:
    with answering_echo(said) as port, pytest.raises(PeerError, match="did not answer C-ECHO"):
        by_hand(port)


def test_echo_needs_no_transfer_syntax_that_we_know() -> None:
    with answering_echo(echo_response(1, 0x0000), syntax=b"1.2.840.10008.1.9") as port:
        assoc = associate(PeerAddress(entity(port), "AEGATE"), [VERIFICATION])
        assert assoc.echo() == 0x0000
        assoc.abort()
