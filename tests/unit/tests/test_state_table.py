"""The state table that the proofs go by: written from the Standard, and the same that pynetdicom has."""

from __future__ import annotations

from pynetdicom.fsm import TRANSITION_TABLE

from tests.state_table import NEXT_STATES, TABLE, UNREACHABLE, Role, reachable


def test_it_is_pynetdicoms() -> None:
    ours = {(f"Evt{cell.event}", f"Sta{cell.state}"): action for cell, action in TABLE.items()}
    assert ours == TRANSITION_TABLE


def test_every_action_has_its_next_states() -> None:
    assert set(TABLE.values()) == NEXT_STATES.keys()


def test_what_is_out_of_reach_is_a_part_of_the_table_and_has_a_reason() -> None:
    for role in Role:
        cells = [cell for some in UNREACHABLE[role].values() for cell in some]
        assert set(cells) <= TABLE.keys()
        assert len(reachable(role)) == len(TABLE) - len(set(cells))
    assert {role: len(reachable(role)) for role in Role} == {Role.ACCEPTOR: 54, Role.REQUESTOR: 77}
