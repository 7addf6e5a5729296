"""An upgrade goes a few at a time and stops at the first that fails."""

from __future__ import annotations

import pytest

from aegate_core.dicom.identifiers import ResourceKey
from aegate_operator.rollout import PATIENCE_S, RolloutGate, RolloutState
from tests.unit.operator.clock import Clock

KEYS = [ResourceKey("radiology", f"ct{n}") for n in range(5)]
A, B, C, D, E = KEYS


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> RolloutGate:
    return RolloutGate(2, clock)


def test_only_so_many_roll_at_once(gate: RolloutGate) -> None:
    assert [gate.admit(key, is_healthy=True) for key in KEYS] == [True, True, False, False, False]
    assert gate.admit(A, is_healthy=True) is True
    assert gate.counts == {"rolling": 2, "waiting": 3, "failed": 0}
    assert gate.why_waiting() == "The new version waits for its turn: 2 listeners roll, 3 wait."
    assert gate.report(A, RolloutState.ROLLING) == []
    assert gate.report(B, RolloutState.COMPLETE) == [C]
    assert gate.admit(D, is_healthy=True) is True, "whoever asks first"
    assert gate.admit(C, is_healthy=True) is False
    assert gate.report(A, RolloutState.COMPLETE) == [C]


def test_it_stops_at_the_first_that_fails_until_that_is_mended(gate: RolloutGate) -> None:
    for key in (A, B, C):
        gate.admit(key, is_healthy=True)
    assert gate.report(A, RolloutState.FAILED, "CrashLoopBackOff") == []
    assert gate.report(B, RolloutState.COMPLETE) == []
    assert gate.admit(C, is_healthy=True) is False
    assert gate.why_waiting() == (
        "The new version waits: radiology/ct0 did not come up with it (CrashLoopBackOff). Mend that, or go back."
    )
    assert gate.counts == {"rolling": 0, "waiting": 1, "failed": 1}
    assert gate.report(A, RolloutState.COMPLETE) == [C]
    assert gate.admit(C, is_healthy=True) is True


def test_the_failed_one_itself_may_be_rolled_again(gate: RolloutGate) -> None:
    gate.admit(A, is_healthy=True)
    gate.report(A, RolloutState.FAILED, "CrashLoopBackOff")
    assert gate.admit(A, is_healthy=False) is True
    assert gate.admit(B, is_healthy=True) is True


def test_who_was_broken_before_stops_nobody(gate: RolloutGate) -> None:
    gate.admit(A, is_healthy=False)
    gate.admit(B, is_healthy=True)
    gate.admit(C, is_healthy=True)
    assert gate.report(A, RolloutState.FAILED, "ImagePullBackOff") == [C]


def test_who_goes_makes_room(gate: RolloutGate) -> None:
    for key in (A, B, C):
        gate.admit(key, is_healthy=True)
    assert gate.forget(A) == [C]
    assert gate.forget(E) == []
    gate.report(B, RolloutState.FAILED, "x")
    assert gate.forget(B) == [C]


def test_who_goes_while_it_waits_gives_the_place_it_was_offered_to_the_next(gate: RolloutGate) -> None:
    for key in (A, B, C, D):
        gate.admit(key, is_healthy=True)
    assert gate.report(A, RolloutState.COMPLETE) == [C]
    assert gate.forget(C) == [D]
    assert gate.counts == {"rolling": 1, "waiting": 1, "failed": 0}


def test_who_rolls_by_its_own_change_waits_no_longer_and_takes_no_place(gate: RolloutGate) -> None:
    for key in (A, B, C, D):
        gate.admit(key, is_healthy=True)
    assert gate.report(A, RolloutState.COMPLETE) == [C]
    assert gate.overtake(C) == [D]
    assert not gate.is_rolling(C)
    assert gate.counts == {"rolling": 1, "waiting": 1, "failed": 0}


def test_who_rolls_already_keeps_its_place_and_serves_its_own_change_only_when_it_is_through(
    gate: RolloutGate,
) -> None:
    gate.admit(A, is_healthy=True)
    assert gate.is_rolling(A)
    assert gate.overtake(A) == []
    assert not gate.is_rolling(A)
    assert gate.counts == {"rolling": 1, "waiting": 0, "failed": 0}
    gate.report(A, RolloutState.COMPLETE)
    assert gate.counts == {"rolling": 0, "waiting": 0, "failed": 0}


def test_who_neither_comes_nor_fails_holds_its_place_for_ten_minutes(gate: RolloutGate, clock: Clock) -> None:
    for key in (A, B, C):
        gate.admit(key, is_healthy=True)
    clock.pass_(PATIENCE_S)
    assert gate.admit(C, is_healthy=True) is True


def test_one_that_an_operator_before_us_let_roll_counts(gate: RolloutGate) -> None:
    gate.resume(A, is_own=False)
    gate.resume(B, is_own=False)
    assert gate.admit(C, is_healthy=True) is False
    gate.report(A, RolloutState.FAILED, "x")
    gate.resume(A, is_own=False)
    assert gate.counts == {"rolling": 1, "waiting": 1, "failed": 1}


def test_what_was_never_admitted_is_no_news(gate: RolloutGate) -> None:
    assert gate.report(A, RolloutState.FAILED, "its own trouble") == []
    assert gate.admit(B, is_healthy=True) is True
