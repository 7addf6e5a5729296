"""The breaker's way from closed to open, through a trial, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from aegate_core.decisions.breaker import (
    Breaker,
    BreakerState,
    after_probe,
    after_rejection,
    after_stored,
    after_suspect,
    after_trouble,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
CLOSED, OPEN, TRIAL, REJECTED = BreakerState


def trouble(breaker: Breaker, times: int = 1) -> Breaker:
    for _ in range(times):
        breaker = after_trouble(breaker, "CONNECT: refused", now=NOW, jitter=0.5)
    return breaker


def probed(breaker: Breaker, error: str | None, *, rejected: bool = False) -> Breaker:
    return after_probe(breaker, error, rejected=rejected, now=NOW, jitter=0.5)


def test_third_trouble_in_a_row_opens() -> None:
    assert trouble(Breaker(), 2).state is CLOSED
    opened = trouble(Breaker(), 3)
    assert (opened.state, opened.since, opened.next_probe_at) == (OPEN, NOW, NOW + timedelta(seconds=5))


def test_stored_instance_in_between_starts_the_count_anew() -> None:
    assert trouble(after_stored(trouble(Breaker(), 2)), 2).state is CLOSED


def test_probes_back_off_to_five_minutes() -> None:
    breaker, waits = trouble(Breaker(), 3), []
    for _ in range(8):
        breaker = probed(breaker, "CONNECT: refused")
        assert breaker.next_probe_at is not None
        waits.append((breaker.next_probe_at - NOW).total_seconds())
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]


def test_answered_echo_permits_a_trial_and_only_a_stored_instance_closes() -> None:
    trial = probed(trouble(Breaker(), 3), None)
    assert (trial.state, trial.next_probe_at) == (TRIAL, None)
    assert after_stored(trial).state is CLOSED
    failed = trouble(trial)
    assert (failed.state, failed.backoff_s, failed.since) == (OPEN, 10, NOW)


def test_rejection_opens_at_once_and_is_probed_every_five_minutes() -> None:
    rejected = after_rejection(Breaker(), "REJECTED", now=NOW, jitter=0.5)
    assert (rejected.state, rejected.next_probe_at) == (REJECTED, NOW + timedelta(seconds=300))
    again = probed(rejected, "REJECTED", rejected=True)
    assert (again.state, again.next_probe_at) == (REJECTED, NOW + timedelta(seconds=300))
    assert probed(rejected, None).state is TRIAL


def test_rejecting_peer_that_goes_down_is_probed_as_one_that_is_down() -> None:
    rejected = after_rejection(Breaker(), "REJECTED", now=NOW, jitter=0.5)
    down = probed(rejected, "CONNECT: refused")
    assert (down.state, down.backoff_s) == (OPEN, 5)


def suspect(breaker: Breaker, study: int) -> Breaker:
    return after_suspect(breaker, study, "STATUS_C000", now=NOW, jitter=0.5)


def test_three_different_studies_in_a_row_are_the_destination() -> None:
    once = suspect(suspect(suspect(Breaker(), 1), 1), 1)
    assert (once.state, once.refused_in_row) == (CLOSED, (1,))
    opened = suspect(suspect(once, 2), 3)
    assert (opened.state, opened.suspects_destination) == (OPEN, True)
    trial = probed(opened, None)
    failed = suspect(trial, 4)
    assert (failed.state, failed.backoff_s, failed.suspects_destination) == (OPEN, 10, True)


def test_stored_instance_clears_the_suspicion() -> None:
    assert suspect(suspect(after_stored(suspect(Breaker(), 1)), 2), 3).state is CLOSED


@given(st.floats(0, 1))
def test_jitter_spreads_probes_by_a_fifth(jitter: float) -> None:
    opened = Breaker(failures_in_row=2)
    at = after_trouble(opened, "x", now=NOW, jitter=jitter).next_probe_at
    assert at is not None
    assert timedelta(seconds=4) <= at - NOW <= timedelta(seconds=6)


@given(st.lists(st.sampled_from(["stored", "trouble", "rejected", "suspect", "ok", "fail"]), max_size=30))
def test_whatever_happens_it_recovers_and_is_probed(events: list[str]) -> None:
    breaker = Breaker()
    for n, event in enumerate(events):
        breaker = {
            "stored": lambda b=breaker: after_stored(b),
            "trouble": lambda b=breaker: trouble(b),
            "rejected": lambda b=breaker: after_rejection(b, "r", now=NOW, jitter=0),
            "suspect": lambda b=breaker, n=n: suspect(b, n),
            "ok": lambda b=breaker: probed(b, None),
            "fail": lambda b=breaker: probed(b, "down"),
        }[event]()
        closed_to_all = breaker.state in (OPEN, REJECTED)
        assert (breaker.next_probe_at is not None) == closed_to_all
        assert breaker.since is not None or breaker.state is CLOSED
        assert 5 <= breaker.backoff_s <= 300
    assert after_stored(breaker).state is CLOSED
