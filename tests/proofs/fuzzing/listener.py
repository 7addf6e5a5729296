"""The listener under fuzzing: a real process, a good device beside, and what must be true of every mutant's end."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.processes import stop
from tests.integration.scp.listeners import RunningListener, entity, running_listener
from tests.integration.scp.wires import RELEASE_RQ, Peer, associate_rq, connected, pdu, pdv, store_rq
from tests.integration.waiting import eventually
from tests.proofs.fuzzing.conversations import ABORT, AC, DATA, RELEASE_RP, RJ, command_set, is_whole, split
from tests.proofs.fuzzing.directed import seen_from_outside
from tests.proofs.fuzzing.ledger import Ledger, content_of
from tests.proofs.fuzzing.observed import transitions
from tests.proofs.fuzzing.reading import C_STORE_RQ, RESPONSE, Reading, accepted_contexts, read
from tests.proofs.fuzzing.script import LONGEST_S, Played, Player, Script
from tests.proofs.fuzzing.vitals import Vitals, complaints
from tests.state_table import Cell

SETTLE_S = 60
GOOD_S = 30
"""How long the good device waits for an answer; by far more than a busy machine takes."""
VERIFICATION = "1.2.840.10008.1.1"
ECHO_RQ = command_set(
    [
        (0, 0x0002, VERIFICATION.encode() + b"\0"),
        (0, 0x0100, b"\x30\0"),
        (0, 0x0110, b"\1\0"),
        (0, 0x0800, b"\1\1"),
    ]
)


class ListenerUnderFuzz:
    """Plays scripts of requestors against a listener."""

    def __init__(self, listener: RunningListener, notes: Path) -> None:
        self._listener = listener
        self._notes = notes
        self._lock = threading.Lock()
        self.ledger = Ledger()
        self.outside: set[Cell] = set()
        self.good = GoodDevice(listener.port, self.ledger)
        self.good.serve_once()
        eventually(lambda: self._open() == 0, what="the good device's association is over")
        self._idle = Vitals.of(listener.child.pid)

    def play(self, script: Script) -> tuple[Played, list[str]]:
        """Play a script; return what became of it and what is wrong with that."""
        sock = socket.create_connection(("127.0.0.1", self._listener.port), timeout=LONGEST_S)
        played = Player(sock, is_harmless=script.harmless).play(script)
        with self._lock:
            self.outside |= seen_from_outside(played)
        return played, self._judge(script, played)

    def settle(self) -> list[str]:
        """Wait until all mutants are gone; return what is left of them, or was lost."""
        if self._listener.child.poll() is not None:
            return [f"the listener has ended with exit code {self._listener.child.returncode}"]
        wrong = []
        try:
            eventually(lambda: self._open() == 0, deadline_s=SETTLE_S, what="every slot has come back")
            eventually(lambda: self._pending() == 0, deadline_s=SETTLE_S, what="nobody waits at the entrance")
            eventually(self._has_settled, deadline_s=SETTLE_S, what="descriptors and threads are given back")
        except AssertionError as error:
            wrong.append(f"{error}; {Vitals.of(self._listener.child.pid)}, idle {self._idle}")
        if (vitals := Vitals.of(self._listener.child.pid)).has_grown(self._idle):
            wrong.append(f"memory grew: {vitals}, idle {self._idle}")
        wrong += [
            f"left over: {path.name}" for path in self._listener.leftovers() if "good" not in path.parts
        ]
        return [*wrong, *self.ledger.settle(self._listener.spool), *complaints(self._listener.log)]

    def cells(self) -> dict[tuple[Cell, int], int]:
        """Return the transitions that pynetdicom's machine made."""
        return dict(transitions(self._notes))

    def end(self) -> list[str]:
        """Stop the listener in good order; return what is wrong with that."""
        code = stop(self._listener.child, timeout_s=30)
        return [] if code == 0 else [f"the listener ended with exit code {code} when it was told to"]

    def __str__(self) -> str:
        return f"{Vitals.of(self._listener.child.pid)}; idle {self._idle}"

    def _open(self) -> float:
        return sum(self._listener.open_associations(name) for name in ("ct1", "aegate", "good"))

    def _pending(self) -> float:
        return self._listener.metric("aegate_connections_pending")

    def _has_settled(self) -> bool:
        return Vitals.of(self._listener.child.pid).has_settled(self._idle)

    def _judge(self, script: Script, played: Played) -> list[str]:
        answers, asked = read(played.received), read(played.sent)
        wrong = [*_ending(played), *_grammar(played, answers), *self._stores(played, asked, answers)]
        if script.harmless and (missing := _unserved(asked, answers)):
            wrong.append(missing)
        return wrong

    def _stores(self, played: Played, asked: Reading, answers: Reading) -> list[str]:
        """Compare each answer to a C-STORE with the request it is for: they come in order."""
        accepted = accepted_contexts(played.received)
        stores = [m for m in asked.messages if m.field == C_STORE_RQ]
        responses = [m for m in answers.messages if m.field == C_STORE_RQ | RESPONSE]
        wrong, acknowledged = [], []
        for number, response in enumerate(responses):
            if number >= len(stores):
                wrong.append(
                    f"answer {number + 1} of 0x{response.status or 0:04X} to an object that never came whole"
                )
                break
            store = stores[number]
            if response.status != 0:
                continue
            if (response.message_id, response.context) != (store.message_id, store.context):
                wrong.append(
                    f"answer {number + 1} is for message {response.message_id}, not {store.message_id}"
                )
            if store.context not in accepted:
                wrong.append(f"stored by context {store.context}, which was not accepted")
            acknowledged.append(content_of(store))
        self.ledger.note([content_of(s) for s in stores], acknowledged)
        return wrong


def _ending(played: Played) -> list[str]:
    if played.stayed and not played.is_over:
        return [f"did not close within {LONGEST_S} s"]
    return []


def _grammar(played: Played, answers: Reading) -> list[str]:
    """Say what is no PDU of an acceptor, or comes where none may."""
    pdus = list(split(played.received))
    kinds = [p[0] for p in pdus if is_whole(p)]
    wrong = [f"says what nobody can read: {answers.wrong}"] if answers.wrong else []
    if kinds and kinds[0] not in (AC, RJ, ABORT):
        wrong.append(f"begins with a PDU of type {kinds[0]}")
    if any(k not in (DATA, RELEASE_RP, ABORT) for k in kinds[1:]):
        wrong.append(f"says PDUs of types {kinds}")
    if any(k in (RJ, RELEASE_RP, ABORT) for k in kinds[:-1]):
        wrong.append(f"goes on after its last PDU: types {kinds}")
    return wrong


def _unserved(asked: Reading, answers: Reading) -> str:
    """Say which requests of a conversation were not answered with success; empty when all were."""
    wanted = [(m.message_id, 0) for m in asked.messages]
    got = [(m.message_id, m.status) for m in answers.messages]
    return "" if sorted(map(str, wanted)) == sorted(map(str, got)) else f"wanted {wanted}, got {got}"


class GoodDevice(threading.Thread):
    """Sends echoes and objects without a mistake, and wants all of them answered."""

    def __init__(self, port: int, ledger: Ledger) -> None:
        super().__init__(name="good-device", daemon=True)
        self._port = port
        self._ledger = ledger
        self._is_done = threading.Event()
        self.stored = 0
        self.longest_s = 0.0
        self.wrong: list[str] = []

    def run(self) -> None:
        """Serve until `finish`."""
        while not self._is_done.wait(0.05) and not self.wrong:
            try:
                self.serve_once()
            except (OSError, AssertionError, ValueError) as error:
                self.wrong.append(f"the good device was not served: {error!r}")

    def finish(self) -> None:
        """End."""
        self._is_done.set()
        self.join()

    def serve_once(self) -> None:
        """Associate, store, release; then with an echo."""
        began = time.monotonic()
        with connected(self._port, timeout_s=GOOD_S) as peer:
            peer.associate(calling=b"GOOD".ljust(16))
            for _ in range(3):
                self._store(peer)
            peer.send(RELEASE_RQ)
            assert peer.receive_pdu()[0] == RELEASE_RP
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        with connected(self._port, timeout_s=GOOD_S) as peer:
            peer.send(associate_rq(calling=b"GOOD".ljust(16), abstract_syntax=VERIFICATION))
            assert peer.receive_pdu()[0] == AC
            peer.send(pdu(4, pdv(3, ECHO_RQ)))
            assert peer.status() == 0
            peer.send(RELEASE_RQ)
            assert peer.receive_pdu()[0] == RELEASE_RP

    def _store(self, peer: Peer) -> None:
        self.stored += 1
        uid = f"1.2.3.{self.stored}"
        data = hashlib.shake_128(uid.encode()).digest(2 * (self.stored * 37 % 4096))
        content = [(uid, hashlib.sha256(data).hexdigest())]
        self._ledger.note(content, [])
        peer.send(pdu(4, pdv(3, store_rq(uid.encode())) + pdv(2, data)))
        status = peer.status()
        assert status == 0, f"0x{status:04X}"
        self._ledger.note([], content)


@contextmanager
def listener_under_fuzz(folder: Path) -> Iterator[ListenerUnderFuzz]:
    """Run a listener with short timeouts until the end of the block."""
    folder.mkdir()
    notes = folder / "transitions"
    impatient = {"acse_timeout_s": 1, "network_idle_s": 1, "max_associations": 40}
    entities = (entity("ct1", **impatient), entity("aegate", **impatient), entity("good"))
    with running_listener(
        folder, *entities, run=("tests.proofs.fuzzing.observed", notes, "aegate_scp")
    ) as listener:
        yield ListenerUnderFuzz(listener, notes)
