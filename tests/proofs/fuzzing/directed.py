"""One script for each cell of the state table that a peer can bring about: chance alone would take hours for some.

A state that lasts for a moment only is met by saying both PDUs in one write, several times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.proofs.fuzzing.conversations import (
    AC,
    DATA,
    RELEASE_RP,
    RELEASE_RQ,
    RJ,
    RQ,
    Conversation,
    is_whole,
    pdu,
)
from tests.proofs.fuzzing.reading import read
from tests.proofs.fuzzing.script import Do, Played, Script, Step, script_of, send
from tests.state_table import EVENT_OF_PDU, FROM_THE_WIRE, PDU_OF_EVENT, Cell, Role, reachable

TRIES_OF_A_MOMENT = 4
MOMENTS = {Role.ACCEPTOR: (3, 8), Role.REQUESTOR: (8, 9, 13)}
"""States that we leave by ourselves at once."""

STAY: Step = (Do.STAY, None)
SILENCE: list[Step] = [STAY]
CLOSE: list[Step] = [(Do.CLOSE, None)]


def directed(corpus: Sequence[Conversation], role: Role) -> Iterator[tuple[Cell, Script]]:
    """Yield scripts for ``role``'s cells; the script plays its other side."""
    make = _Requestor(corpus) if role is Role.ACCEPTOR else _Acceptor(corpus)
    for cell in sorted(reachable(role), key=lambda c: (c.state, c.event)):
        is_moment = cell.state in MOMENTS[role] and cell.event in FROM_THE_WIRE | {17}
        for _ in range(TRIES_OF_A_MOMENT if is_moment else 1):
            if (script := make.script(cell)) is not None:
                script.origin = f"directed at {cell}"
                yield cell, script


class _Making:
    """What both sides have in common."""

    def __init__(self, corpus: Sequence[Conversation]) -> None:
        self.corpus = {c.name: c for c in corpus}

    def event(self, event: int) -> bytes:
        """Return a PDU that is this event."""
        kind = PDU_OF_EVENT.get(event, 9)
        samples = {
            RQ: self.corpus["storescu"].said_by(Role.REQUESTOR)[0],
            AC: self.corpus["files-to-storescp"].said_by(Role.ACCEPTOR)[0],
            RJ: pdu(RJ, bytes((0, 2, 1, 1))),
            DATA: self.corpus["echoscu"].said_by(Role.REQUESTOR)[1],
        }
        return samples.get(kind, pdu(kind))

    def steps(self, cell: Cell, lead: list[Step], *, at_once: bool = False) -> list[Step]:
        """Return the steps that lead to a state, and the event there."""
        if cell.event == 17:
            return lead + CLOSE
        if cell.event not in FROM_THE_WIRE:
            return lead + SILENCE
        if at_once:
            return [*lead[:-1], send(lead[-1][1] + self.event(cell.event)), STAY]
        return [*lead, send(self.event(cell.event)), STAY]


class _Requestor(_Making):
    """Calls the listener."""

    def script(self, cell: Cell) -> Script | None:
        """Return a script for a cell of the acceptor."""
        conversation = self.corpus["echoscu"]
        request, echo = (send(p) for p in conversation.said_by(Role.REQUESTOR)[:2])
        answer: Step = (Do.AWAIT, "pdu")
        release = send(pdu(RELEASE_RQ))
        if cell == Cell(9, 8):
            steps = [request, answer, send(echo[1] + release[1]), STAY]
        elif cell == Cell(15, 8):
            unknown = send(echo[1].replace(b"1.2.840.10008.1.1\0", b"1.2.840.10008.9.9\0"))
            steps = [request, answer, send(unknown[1] + release[1]), STAY]
        elif cell == Cell(18, 13):
            # Our own patience after the last PDU is longer than this ARTIM, and looks at it when something comes.
            steps = [request, answer, release, answer, (Do.HOLD, 1.5), release, (Do.HOLD, 0.5)]
        elif cell.event in (7, 9, 14):
            steps = [*script_of(conversation, Role.REQUESTOR).steps, STAY]
        else:
            lead = {1: [], 2: [], 3: [request], 6: [request, answer], 8: [request, answer, release]}.get(
                cell.state
            )
            if lead is None:
                lead = [request, answer, release, answer]
            steps = self.steps(cell, lead, at_once=cell.state in MOMENTS[Role.ACCEPTOR])
        return Script(Role.REQUESTOR, steps, "", within=cell.state > 3)


class _Acceptor(_Making):
    """Is called by the sender."""

    def script(self, cell: Cell) -> Script | None:
        """Return a script for a cell of the requestor; None for what a refused connection brings about."""
        if cell == Cell(17, 4):
            return None
        conversation = self.corpus["worker-to-storescp"]
        whole = script_of(conversation, Role.ACCEPTOR).steps
        requested: list[Step] = [(Do.AWAIT, "rq")]
        accepted = [*requested, send(self.event(3))]
        stored = [*accepted, (Do.AWAIT, "message")]
        releasing = [s for s in whole if s != send(pdu(RELEASE_RP))]
        leads = {
            4: requested,
            5: requested,
            6: stored,
            7: releasing,
            8: [*stored, send(pdu(RELEASE_RQ))],
            9: [*releasing, send(pdu(RELEASE_RQ))],
            11: [*releasing, send(pdu(RELEASE_RQ)), (Do.AWAIT, "pdu"), (Do.PAUSE, 0.1)],
            13: [*stored, send(pdu(9))],
        }
        if cell == Cell(9, 8):
            steps = [*requested, send(self.event(3) + pdu(RELEASE_RQ)), STAY]
        elif cell == Cell(14, 8):
            between = next(n for n, s in reversed(list(enumerate(whole))) if s == (Do.AWAIT, "message"))
            steps = [*whole[:between], send(pdu(RELEASE_RQ)), STAY]
        elif cell == Cell(18, 13):
            steps = [*stored, *[send(pdu(9) * 500)] * 100, STAY]
        elif cell.event in (1, 2, 9, 11) or cell.state == 1:
            steps = [*whole, STAY]
        else:
            steps = self.steps(cell, leads[cell.state], at_once=cell.state in MOMENTS[Role.REQUESTOR])
        return Script(Role.ACCEPTOR, steps, "", within=cell.state > 5, job="worker")


def seen_from_outside(played: Played) -> frozenset[Cell]:
    """Return the cells that a peer of the listener brought about and that pynetdicom's state machine does not see.

    In Sta2 the entrance answers what is no request. In Sta6 the data of a C-STORE goes its short way. In Sta13 what
    comes is read and thrown away: an A-ABORT that crosses ours, too; and none is answered (AA-7), for our side of
    the connection is shut by then.
    """
    found = set()
    first, late = b"".join(played.before_answer), b"".join(played.after_end)
    if first[:1] != bytes((RQ,)) and first and played.is_over:
        found.add(Cell(_event_of(first), 2))
    if not is_whole(first) and not played.received:
        found.add(Cell(18 if played.is_over else 17, 2))
    if late:
        found.add(Cell(_event_of(late), 13))
    if any(m.field == 0x8001 for m in read(played.received).messages):
        found |= {Cell(10, 6), Cell(9, 6)}
    return frozenset(found)


def _event_of(content: bytes) -> int:
    return EVENT_OF_PDU.get(content[0], 19)
