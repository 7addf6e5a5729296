"""Run one of our programs as it is, and note every transition of pynetdicom's state machine: what runs stays ours.

``python -m tests.proofs.fuzzing.observed FILE aegate_scp`` runs ``python -m aegate_scp`` so. Only the third party's
class is wrapped: pynetdicom offers its transitions to whoever makes the association, and that is our code.
"""

from __future__ import annotations

import os
import re
import runpy
import sys
from collections import Counter
from pathlib import Path

from pynetdicom.fsm import StateMachine

from tests.state_table import Cell

_LINE = re.compile(r"Evt(\d+) Sta(\d+) Sta(\d+)")


def note_transitions(path: Path) -> None:
    """Append a line for each transition of this process to ``path``."""
    act = StateMachine.do_action
    notes = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC)

    def noting(self: StateMachine, event: str) -> None:
        before = self.current_state
        act(self, event)
        os.write(notes, f"{event} {before} {self.current_state}\n".encode())

    StateMachine.do_action = noting


def transitions(path: Path) -> Counter[tuple[Cell, int]]:
    """Return how often each cell was left for each next state."""
    found: Counter[tuple[Cell, int]] = Counter()
    for line in path.read_text().splitlines() if path.exists() else ():
        if match := _LINE.fullmatch(line):
            event, state, following = map(int, match.groups())
            found[Cell(event, state), following] += 1
    return found


if __name__ == "__main__":
    _, notes, module = sys.argv
    note_transitions(Path(notes))
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
