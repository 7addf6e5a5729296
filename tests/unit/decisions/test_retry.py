"""The table of outcome classes, and what becomes of an instance and of a delivery."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegate_core.decisions.retry import (
    SUSPECT_TRIES,
    InstanceFate,
    Tally,
    Verdict,
    break_backoff,
    decide_instance,
    final_state,
    is_poison,
    judge_rejection,
    judge_status,
    status_code,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, Verdict.STORED),
        (0xB000, Verdict.WARNING),
        (0xB006, Verdict.WARNING),
        (0xBFFF, Verdict.WARNING),
        (0x0107, Verdict.WARNING),
        (0x0111, Verdict.WARNING),
        (0x0116, Verdict.WARNING),
        (0xA700, Verdict.TROUBLE),
        (0xA7FF, Verdict.TROUBLE),
        (0xA800, Verdict.REFUSED),
        (0xA900, Verdict.REFUSED),
        (0xA9FF, Verdict.REFUSED),
        (0x0122, Verdict.REFUSED),
        (0x0110, Verdict.SUSPECT),
        (0x0213, Verdict.SUSPECT),
        (0xC000, Verdict.SUSPECT),
        (0xCFFF, Verdict.SUSPECT),
        (0xFF00, Verdict.SUSPECT),
        (0x0001, Verdict.SUSPECT),
        (0x0124, Verdict.REJECTED),
        (None, Verdict.TROUBLE),
    ],
)
def test_status_is_judged_as_the_table_says(status: int | None, verdict: Verdict) -> None:
    assert judge_status(status) is verdict


@given(st.integers(0, 0xFFFF))
def test_only_success_and_warnings_count_as_stored(status: int) -> None:
    stored = judge_status(status) in (Verdict.STORED, Verdict.WARNING)
    assert stored == (status in (0x0000, 0x0107, 0x0111, 0x0116) or 0xB000 <= status <= 0xBFFF)


@pytest.mark.parametrize(("result", "verdict"), [(1, Verdict.REJECTED), (2, Verdict.TROUBLE)])
def test_rejection_is_permanent_or_transient(result: int, verdict: Verdict) -> None:
    assert judge_rejection(result) is verdict


def test_codes_of_statuses_are_stable() -> None:
    assert (status_code(0xA700), status_code(0x0110), status_code(None)) == (
        "STATUS_A700",
        "STATUS_0110",
        "NO_STATUS",
    )


def test_suspect_instance_is_given_up_at_the_third_try() -> None:
    fates = [decide_instance(Verdict.SUSPECT, n, now=NOW) for n in range(3)]
    assert fates == [
        InstanceFate("PENDING", 1, NOW + timedelta(seconds=10)),
        InstanceFate("PENDING", 2, NOW + timedelta(seconds=60)),
        InstanceFate("DEAD", 3),
    ]


@given(st.sampled_from(list(Verdict)), st.integers(0, 5), st.booleans())
def test_only_the_object_costs_an_attempt(verdict: Verdict, attempts: int, costs: bool) -> None:
    fate = decide_instance(verdict, attempts, costs=costs, now=NOW)
    charged = verdict is Verdict.SUSPECT and costs
    assert fate.attempts == attempts + charged
    dead = verdict is Verdict.REFUSED or (charged and attempts + 1 >= SUSPECT_TRIES)
    assert (fate.state == "DEAD") == dead


def test_poison_is_what_breaks_alone() -> None:
    later = NOW + timedelta(seconds=1)
    assert is_poison(3, NOW, later)
    assert not is_poison(2, NOW, later)
    assert not is_poison(3, later, NOW)
    assert not is_poison(3, NOW, None)
    assert not is_poison(3, None, NOW)


def test_item_that_breaks_waits_longer_each_time_up_to_a_minute() -> None:
    assert [break_backoff(n).total_seconds() for n in (1, 2, 12, 40)] == [5, 10, 60, 60]


@pytest.mark.parametrize(
    ("tally", "state"),
    [
        (Tally(stored=3), "COMPLETED"),
        (Tally(stored=2, warning=1), "WARNING"),
        (Tally(stored=2, warning=1, dead=1), "FAILED"),
        (Tally(stored=2, dead=1, canceled=1), "FAILED"),
        (Tally(stored=2, canceled=1), "CANCELED"),
        (Tally(pending=1, stored=5, dead=1), None),
        (Tally(), "COMPLETED"),
    ],
)
def test_delivery_ends_as_its_instances_did(tally: Tally, state: str | None) -> None:
    assert final_state(tally) == state
