"""Half an hour of a quiet night restarts nothing; a dead watch does, within five minutes."""

from __future__ import annotations

import pytest

from aegate_operator.liveness import Liveness
from tests.unit.operator.clock import Clock

AES, PODS = "applicationentities in all namespaces", "pods in all namespaces"
MINUTE = 60


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def liveness(clock: Clock) -> Liveness:
    liveness = Liveness(clock)
    liveness.heard(AES)
    liveness.heard(PODS)
    liveness.answered()
    liveness.resynced()
    return liveness


def test_nothing_has_happened_yet(clock: Clock) -> None:
    assert Liveness(clock).trouble() is None


def test_thirty_idle_minutes_restart_nothing(liveness: Liveness, clock: Clock) -> None:
    for minute in range(30):
        clock.pass_(MINUTE)
        liveness.heard(AES)  # a bookmark a minute
        liveness.heard(PODS)
        if minute % 11 == 10:
            liveness.resynced()
            liveness.answered()
        assert liveness.needs_proof() is False
        assert liveness.trouble() is None


def test_a_silently_cut_watch_is_noticed_within_five_minutes(liveness: Liveness, clock: Clock) -> None:
    noticed_after = None
    for second in range(5, 5 * MINUTE + 1, 5):
        clock.pass_(5)
        liveness.heard(AES)
        if liveness.needs_proof():
            liveness.answered()  # the operator asked, and the API server is there
        if liveness.trouble():
            noticed_after = second
            break
    assert noticed_after == 245
    assert liveness.trouble() == f"the watch of {PODS} has been silent for 245 s, and the API server answers"


def test_an_api_server_that_is_away_for_hours_is_no_fault_of_ours(liveness: Liveness, clock: Clock) -> None:
    for _ in range(120):
        clock.pass_(MINUTE)
        assert liveness.trouble() is None
    assert liveness.needs_proof() is True


def test_when_it_comes_back_and_the_watch_does_too_all_is_well(liveness: Liveness, clock: Clock) -> None:
    clock.pass_(10 * MINUTE)
    for watch in (AES, PODS):
        liveness.heard(watch)
    liveness.answered()
    assert liveness.trouble() is None


def test_a_watch_that_nobody_keeps_any_more_is_forgotten(liveness: Liveness, clock: Clock) -> None:
    clock.pass_(10 * MINUTE)
    liveness.answered()
    liveness.heard(AES)
    liveness.forget(PODS)
    assert liveness.trouble() is None
    assert liveness.silence_s() == {AES: 0.0}


def test_a_worker_stuck_in_one_key_is_named(clock: Clock) -> None:
    liveness = Liveness(clock, lambda: (301.0, "ApplicationEntity radiology/ct1"))
    assert liveness.trouble() == "a worker has been busy with ApplicationEntity radiology/ct1 for 301 s"


def test_a_resync_that_does_not_come_is_noticed(liveness: Liveness, clock: Clock) -> None:
    for _ in range(25):
        clock.pass_(MINUTE)
        liveness.heard(AES)
        liveness.heard(PODS)
        liveness.answered()
    assert liveness.trouble() is None
    clock.pass_(1)
    assert liveness.trouble() == "nothing was listed anew for 1501 s"
