"""The listener against the state table (PS3.8 9.2): whatever a peer says in any state, the table says what follows.

Sta3 and Sta8 last for a moment only: there a peer can but race (`tests.proofs.fuzz` does). In Sta13 our side of the
connection is shut: what comes is read and thrown away, also where the table would abort once more (AA-7).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.integration.scp.listeners import RunningListener, entity, running_listener
from tests.integration.scp.wires import Peer, associate_rq, connected, element, pdu, pdv, store_rq
from tests.integration.waiting import eventually
from tests.state_table import SENT_BY_ACTION, TABLE, Cell

IDLE_S = 1
RELEASE_RP, ABORT, NOTHING_MORE = 6, 7, 0
ECHO_RQ = (
    element(0x0002, b"1.2.840.10008.1.1")
    + element(0x0100, b"\x30\0")
    + element(0x0110, b"\1\0")
    + element(0x0800, b"\1\1")
)

WRONG = {
    3: pdu(2, bytes(100)),
    4: pdu(3, bytes((0, 1, 1, 1))),
    6: associate_rq(),
    13: pdu(6, bytes(4)),
    16: pdu(7, bytes(4)),
    19: pdu(9, b"what is this"),
}
"""Event → what a peer says; all but Evt6 in Sta2 are out of place in every state that lasts."""


class Device(RuleBasedStateMachine):
    """A peer that does what it likes, and knows by the table what to expect."""

    def __init__(self, listener: RunningListener) -> None:
        super().__init__()
        self.listener = listener
        self.before = len(listener.arrivals())
        self.stored = 0
        self.state = 1
        self.is_within_object = False
        self.stack = ExitStack()

    def teardown(self) -> None:
        """Leave, and see that nothing is left."""
        self.stack.close()
        eventually(lambda: self.listener.open_associations() == 0, what="the slot has come back")
        eventually(lambda: not self.listener.leftovers(), what="no part of an object is left")
        assert len(self.listener.arrivals()) == self.before + self.stored

    @precondition(lambda self: self.state == 1)
    @rule()
    def connect(self) -> None:
        """Connect (Evt5)."""
        self.peer: Peer = self.stack.enter_context(connected(self.listener.port))
        self.state, self.is_within_object = 2, False

    @precondition(lambda self: self.state in (2, 6))
    @rule(event=st.sampled_from(sorted(WRONG)))
    def say(self, event: int) -> None:
        """Say a PDU."""
        action = TABLE[Cell(event, self.state)]
        self.peer.send(WRONG[event])
        if action == "AE-6":
            assert self.peer.receive_pdu()[0] == SENT_BY_ACTION["AE-7"]
            self.state = 6
        else:
            self.ends_with(SENT_BY_ACTION.get(action))

    @precondition(lambda self: self.state == 2)
    @rule()
    def associate(self) -> None:
        """Say what belongs here: chance alone would seldom get any further."""
        self.say(6)

    @precondition(lambda self: self.state == 2)
    @rule(kind=st.sampled_from([4, 5]))
    def say_too_early(self, kind: int) -> None:
        """Send data, or ask for release, without an association (Evt10, Evt12)."""
        self.peer.send(pdu(kind, bytes(4)))
        self.ends_with(ABORT)

    @precondition(lambda self: self.state == 6 and not self.is_within_object)
    @rule(size=st.integers(0, 5000), parts=st.integers(1, 4))
    def store(self, size: int, parts: int) -> None:
        """Send an object in some fragments (Evt10): stored, and so answered (Evt9)."""
        self.peer.send(pdu(4, pdv(3, store_rq())))
        for _ in range(parts - 1):
            self.peer.send(pdu(4, pdv(0, bytes(2 * size))))
        self.peer.send(pdu(4, pdv(2, bytes(2 * size))))
        assert self.peer.status() == 0x0000
        self.stored += 1

    @precondition(lambda self: self.state == 6 and not self.is_within_object)
    @rule()
    def echo_on_the_wrong_context(self) -> None:
        """Send a C-ECHO where storage was accepted: any answer but success, or an abort."""
        self.peer.send(pdu(4, pdv(3, ECHO_RQ)))
        kind, _ = self.peer.receive_pdu()
        assert kind in (4, ABORT)
        if kind == ABORT:
            self.state = 13

    @precondition(lambda self: self.state == 6 and not self.is_within_object)
    @rule()
    def begin_an_object(self) -> None:
        """Send a command and a part of its data set."""
        self.peer.send(pdu(4, pdv(3, store_rq()) + pdv(0, bytes(100))))
        self.is_within_object = True

    @precondition(lambda self: self.state == 6 and self.is_within_object)
    @rule()
    def end_the_object(self) -> None:
        """Send the rest."""
        self.peer.send(pdu(4, pdv(2, bytes(100))))
        assert self.peer.status() == 0x0000
        self.stored += 1
        self.is_within_object = False

    @precondition(lambda self: self.state == 6)
    @rule(wrong=st.sampled_from([pdv(3, store_rq(), 3), pdv(0, b"ab", 9), b"\0\0\0\1\1\3", b"ab"]))
    def send_what_is_no_data(self, wrong: bytes) -> None:
        """Send a P-DATA-TF that is none: of a context that was not accepted, or with a lie about its length (Evt19)."""
        self.peer.send(pdu(4, wrong))
        self.ends_with(SENT_BY_ACTION[TABLE[Cell(19, 6)]])

    @precondition(lambda self: self.state == 6)
    @rule()
    def release(self) -> None:
        """Ask for release (Evt12), in the middle of an object or not: confirmed (Evt14)."""
        self.peer.send(pdu(5, bytes(4)))
        self.ends_with(SENT_BY_ACTION[TABLE[Cell(14, 8)]])

    @precondition(lambda self: self.state == 6)
    @rule(dice=st.integers(0, 9))
    def be_silent(self, dice: int) -> None:
        """Say nothing, sometimes until the listener has had enough (Evt15)."""
        if dice == 0:
            self.ends_with(SENT_BY_ACTION[TABLE[Cell(15, 6)]])

    @precondition(lambda self: self.state == 13)
    @rule(event=st.sampled_from(sorted(WRONG)))
    def go_on_after_the_end(self, event: int) -> None:
        """Say something after the listener's last PDU: nothing comes of it."""
        self.peer.send(WRONG[event])
        assert self.peer.receive_pdu()[0] == NOTHING_MORE

    @precondition(lambda self: self.state != 1)
    @rule(half=st.booleans())
    def close(self, half: bool) -> None:
        """Close (Evt17), after half a PDU or without it."""
        if half and self.state != 13:
            self.peer.send(WRONG[6][:30])
        self.peer.sock.close()
        self.state = 1

    def ends_with(self, kind: int | None) -> None:
        """Expect this PDU, or none, and the end of the connection."""
        if kind is not None:
            assert self.peer.receive_pdu()[0] == kind
        assert self.peer.receive_pdu()[0] == NOTHING_MORE
        self.state = 13
        if kind is None:
            self.peer.sock.close()
            self.state = 1


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningListener]:
    """One for all examples, which must leave it as it was but for what they stored."""
    with running_listener(tmp_path_factory.mktemp("listener"), entity(network_idle_s=IDLE_S)) as running:
        yield running


def test_listener_answers_as_the_state_table_says(listener: RunningListener) -> None:
    few = settings(
        max_examples=40,
        stateful_step_count=12,
        phases=(Phase.generate,),  # each step takes its time: shrinking would take hours
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(lambda: Device(listener), settings=few)
    assert listener.events("process.failed") == []
    assert listener.child.poll() is None
