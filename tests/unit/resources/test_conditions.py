"""Conditions keep their time while their status is the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from aegate_core.resources.conditions import (
    Condition,
    ConditionType,
    Reason,
    Status,
    condition_from_json,
    find_condition,
    with_transition_times,
)

T0 = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)
READY = Condition(ConditionType.READY, Status.TRUE, Reason.READY, "Ready.", 1)
NOT_READY = Condition(ConditionType.READY, Status.FALSE, Reason.PARTITION_NOT_FOUND, "p", 2)


def test_new_condition_begins_now() -> None:
    (dated,) = with_transition_times([READY], [], now=T0)
    assert dated.last_transition_time == T0


def test_same_status_keeps_its_time_whatever_the_reason() -> None:
    before = with_transition_times([READY], [], now=T0)
    again = Condition(ConditionType.READY, Status.TRUE, Reason.DISABLED, "off", 2)
    (dated,) = with_transition_times([again], before, now=T0 + timedelta(hours=1))
    assert (dated.last_transition_time, dated.reason) == (T0, Reason.DISABLED)


def test_other_status_begins_now() -> None:
    before = with_transition_times([READY], [], now=T0)
    (dated,) = with_transition_times([NOT_READY], before, now=T0 + timedelta(hours=1))
    assert dated.last_transition_time == T0 + timedelta(hours=1)


def test_json_is_that_of_the_crd_and_comes_back() -> None:
    (dated,) = with_transition_times([NOT_READY], [], now=T0)
    assert dated.to_json() == {
        "type": "Ready",
        "status": "False",
        "reason": "PartitionNotFound",
        "message": "p",
        "observedGeneration": 2,
        "lastTransitionTime": "2026-11-24T04:00:00Z",
    }
    assert condition_from_json(dated.to_json()) == dated


def test_unknown_reason_is_refused() -> None:
    with pytest.raises(ValueError, match="Nonsense"):
        condition_from_json({**READY.to_json(), "reason": "Nonsense"})


def test_find_condition() -> None:
    assert find_condition([READY], ConditionType.READY) is READY
    assert find_condition([READY], ConditionType.STALLED) is None
    assert READY.is_true
    assert not NOT_READY.is_true
