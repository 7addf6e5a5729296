"""The order of the claim."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from aegate_core.decisions.priority import RANK_PER_POINT, bumped_rank, rank

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
priorities = st.integers(0, 100)
minutes = st.integers(0, 100_000).map(lambda m: timedelta(minutes=m))


@given(priorities, priorities)
def test_higher_priority_goes_first_among_equals(one: int, other: int) -> None:
    assert (rank(one, NOW) < rank(other, NOW)) == (one > other)


@given(priorities, minutes, minutes)
def test_older_goes_first_within_a_priority(priority: int, one: timedelta, other: timedelta) -> None:
    assert (rank(priority, NOW + one) < rank(priority, NOW + other)) == (one < other)


def test_nothing_starves() -> None:
    waited = rank(0, NOW)
    assert rank(100, NOW + timedelta(minutes=99)) < waited
    assert rank(100, NOW + timedelta(minutes=101)) > waited


@given(priorities, minutes)
def test_a_bump_is_above_any_priority_and_any_waiting(priority: int, waited: timedelta) -> None:
    assert bumped_rank(NOW) < rank(priority, datetime(2020, 2, 1, tzinfo=UTC) + waited)


@given(minutes)
def test_the_later_bump_goes_first(later: timedelta) -> None:
    soon = NOW + timedelta(microseconds=1)
    assert bumped_rank(soon + later) < bumped_rank(NOW) - 1_000
    assert bumped_rank(datetime(2160, 1, 1, tzinfo=UTC)) > -(2**63)


@given(priorities, priorities)
def test_changed_priority_moves_the_rank_by_its_points(old: int, new: int) -> None:
    assert rank(old, NOW) + (old - new) * RANK_PER_POINT == rank(new, NOW)
