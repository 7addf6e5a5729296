"""The state table of the upper layer (PS3.8 Table 9-10) as data, and which of its cells our two sides can reach.

It is written from the Standard, not taken from pynetdicom. A cell that a side cannot reach has its reason in words;
every other one is reached from the wire by `tests.proofs.fuzz`, which counts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_TABLE = """
Evt1  AE-1 -    -    -    -    -    -    -    -    -     -     -     -
Evt2  -    -    -    AE-2 -    -    -    -    -    -     -     -     -
Evt3  -    AA-1 AA-8 -    AE-3 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-6
Evt4  -    AA-1 AA-8 -    AE-4 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-6
Evt5  AE-5 -    -    -    -    -    -    -    -    -     -     -     -
Evt6  -    AE-6 AA-8 -    AA-8 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-7
Evt7  -    -    AE-7 -    -    -    -    -    -    -     -     -     -
Evt8  -    -    AE-8 -    -    -    -    -    -    -     -     -     -
Evt9  -    -    -    -    -    DT-1 -    AR-7 -    -     -     -     -
Evt10 -    AA-1 AA-8 -    AA-8 DT-2 AR-6 AA-8 AA-8 AA-8  AA-8  AA-8  AA-6
Evt11 -    -    -    -    -    AR-1 -    -    -    -     -     -     -
Evt12 -    AA-1 AA-8 -    AA-8 AR-2 AR-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-6
Evt13 -    AA-1 AA-8 -    AA-8 AA-8 AR-3 AA-8 AA-8 AR-10 AR-3  AA-8  AA-6
Evt14 -    -    -    -    -    -    -    AR-4 AR-9 -     -     AR-4  -
Evt15 -    -    AA-1 AA-2 AA-1 AA-1 AA-1 AA-1 AA-1 AA-1  AA-1  AA-1  -
Evt16 -    AA-2 AA-3 -    AA-3 AA-3 AA-3 AA-3 AA-3 AA-3  AA-3  AA-3  AA-2
Evt17 -    AA-5 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4  AA-4  AA-4  AR-5
Evt18 -    AA-2 -    -    -    -    -    -    -    -     -     -     AA-2
Evt19 -    AA-1 AA-8 -    AA-8 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8  AA-7
"""
"""One row an event, one column a state, Sta1 to Sta13."""


class Role(StrEnum):
    """Which of our two sides: the listener takes calls, the sender makes them."""

    ACCEPTOR = "acceptor"
    REQUESTOR = "requestor"


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """An event in a state."""

    event: int
    state: int

    def __str__(self) -> str:
        return f"Evt{self.event}/Sta{self.state}"


def _parse(table: str) -> dict[Cell, str]:
    cells = {}
    for row in table.strip().splitlines():
        event, *actions = row.split()
        for state, action in enumerate(actions, 1):
            if action != "-":
                cells[Cell(int(event.removeprefix("Evt")), state)] = action
    return cells


TABLE = _parse(_TABLE)
"""Cell → action."""

NEXT_STATES: dict[str, frozenset[int]] = {
    **{action: frozenset({1}) for action in ("AE-4", "AR-3", "AR-5", "AA-2", "AA-3", "AA-4", "AA-5")},
    **{action: frozenset({13}) for action in ("AE-8", "AR-4", "AA-1", "AA-6", "AA-7", "AA-8")},
    **{action: frozenset({6}) for action in ("AE-3", "AE-7", "DT-1", "DT-2")},
    **{"AE-1": frozenset({4}), "AE-2": frozenset({5}), "AE-5": frozenset({2}), "AE-6": frozenset({3, 13})},
    **{"AR-1": frozenset({7}), "AR-2": frozenset({8}), "AR-6": frozenset({7}), "AR-7": frozenset({8})},
    **{"AR-8": frozenset({9, 10}), "AR-9": frozenset({11}), "AR-10": frozenset({12})},
}
"""Action → the states that may follow (PS3.8 Tables 9-6 to 9-9); AR-8: Sta9 for a requestor, Sta10 for an acceptor."""

PDU_OF_EVENT = {6: 1, 3: 2, 4: 3, 10: 4, 12: 5, 13: 6, 16: 7}
"""Event → type of the PDU that comes; Evt19 is any other, or one that cannot be read."""

EVENT_OF_PDU = {kind: event for event, kind in PDU_OF_EVENT.items()}

FROM_THE_WIRE = frozenset(PDU_OF_EVENT) | {19}
"""Events that are a PDU."""

SENT_BY_ACTION = {
    "AE-2": 1, "AE-7": 2, "AE-8": 3, "DT-1": 4, "AR-7": 4, "AR-1": 5, "AR-4": 6, "AR-9": 6, "AA-1": 7, "AA-7": 7,
    "AA-8": 7,
}  # fmt: skip
"""Action → type of the PDU that the peer sees."""

CLOSING = frozenset({"AE-4", "AR-3", "AA-2", "AA-3"})
"""Actions that close the connection without a word."""


def _every(states: set[int], events: set[int] | None = None) -> frozenset[Cell]:
    return frozenset(c for c in TABLE if c.state in states and (events is None or c.event in events))


UNREACHABLE: dict[Role, dict[str, frozenset[Cell]]] = {
    Role.ACCEPTOR: {
        "a listener calls nobody": _every({4, 5}) | _every({1}, {1}),
        "a listener never asks for release: it aborts": _every({7, 9, 10, 11, 12}) | _every({6}, {11}),
        "who is not let in is sent away by the entrance, in Sta2 (Evt6, AE-6)": _every({3}, {8}),
        "the answer follows in the same turn of the association's thread; an abort in between takes a SIGTERM "
        "whose grace ends in that millisecond": _every({3}, {15}),
    },
    Role.REQUESTOR: {
        "a sender takes no calls": _every({2, 3}) | _every({1}, {5}),
        "only the side that was called gets there": _every({10, 12}),
        "the thread that would abort is the one that waits for the connection": _every({4}, {15}),
        "the collision is answered in the same turn of the thread that releases": _every({9}, {15}),
    },
}
"""Role → reason → cells that the role cannot reach from the wire as it is built."""


def reachable(role: Role) -> frozenset[Cell]:
    """Return the cells that a peer can bring about."""
    return frozenset(TABLE).difference(*UNREACHABLE[role].values())


def follows(cell: Cell, state: int) -> bool:
    """Say whether the table allows ``state`` after ``cell``."""
    return cell in TABLE and state in NEXT_STATES[TABLE[cell]]
