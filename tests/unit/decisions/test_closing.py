"""When a unit is due, and what keeps a due one open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegate_core.decisions.closing import IndexerSeen, due_at, why_open
from aegate_core.resources.values import StudyTimes

T0 = datetime(2026, 1, 1, tzinfo=UTC)
TIMES = StudyTimes(quiet_period_s=60, max_age_s=600)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


@pytest.mark.parametrize(("last", "first", "due"), [(0, 0, 60), (100, 0, 160), (590, 0, 600), (700, 0, 600)])
def test_unit_is_due_when_quiet_and_at_the_latest_after_the_maximum_age(
    last: int, first: int, due: int
) -> None:
    assert due_at(at(last), at(first), TIMES) == at(due)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=20))
def test_later_arrivals_never_make_it_due_earlier(arrivals: list[int]) -> None:
    first = min(arrivals)
    dues = [due_at(at(max(arrivals[: n + 1])), at(first), TIMES) for n in range(len(arrivals))]

    assert dues == sorted(dues)
    assert dues[-1] <= at(first + TIMES.max_age_s)


def seen(scanned: float, *, of: str | None = None, **oldest: float) -> IndexerSeen:
    return IndexerSeen("i1", at(scanned), {ae: at(s) for ae, s in oldest.items()}, ae=of)


@pytest.mark.parametrize(
    ("now", "indexers", "word"),
    [
        (59, [], "waits for more images until"),
        (60, [], None),
        (60, [seen(60)], None),
        (60, [seen(59)], "has not looked"),
        (70, [seen(65), seen(59)], "has not looked"),
        (70, [seen(65, ct1=60)], "has not indexed everything"),
        (70, [seen(65, ct1=61)], None),
        (70, [seen(65, us1=1)], None),
        (70, [seen(0, of="us1")], None),
        (70, [seen(0, of="ct1")], "has not looked"),
        (70, [seen(65, of="ct1", ct1=60)], "has not indexed everything"),
        (960, [seen(0)], "has not looked"),
        (961, [seen(0)], None),
        (1000, [seen(900, ct1=1)], "has not indexed everything"),
    ],
)
def test_unit_closes_only_when_nothing_of_it_can_lie_in_a_spool(
    now: int, indexers: list[IndexerSeen], word: str | None
) -> None:
    reason = why_open("ct1", at(60), indexers, now=at(now))

    assert (reason is None) if word is None else (reason is not None and word in reason)
