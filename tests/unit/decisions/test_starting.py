"""When an item begins, where that can be told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aegate_core.decisions.breaker import BreakerState
from aegate_core.decisions.moving import DestinationFacts
from aegate_core.decisions.starting import Pace, estimated_start

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PACS = DestinationFacts("default/pacs", 2, slots_used=2)
MINUTE = Pace(3, timedelta(minutes=1))


def starts(
    position: int, destination: DestinationFacts = PACS, pace: Pace = MINUTE, *, alive: bool = True
) -> datetime | None:
    return estimated_start(position, destination, pace, workers_alive=alive, now=NOW)


def test_a_free_connection_takes_it_at_once() -> None:
    assert starts(1, replace(PACS, slots_used=1), Pace()) == NOW
    assert starts(2, replace(PACS, slots_used=0), Pace()) == NOW


def test_behind_others_it_waits_for_its_turn() -> None:
    assert starts(1) == NOW + timedelta(seconds=15)
    assert starts(5) == NOW + timedelta(seconds=135)
    assert starts(5, replace(PACS, slots_used=1)) == NOW + timedelta(seconds=105)


@pytest.mark.parametrize(
    "trouble",
    [
        {"gone_at": NOW},
        {"held_at": NOW},
        {"enabled": False},
        {"invalid_condition": "X"},
        {"breaker": BreakerState.OPEN},
        {"breaker": BreakerState.TRIAL},
        {"max_connections": 0},
    ],
)
def test_nobody_tells_it_of_a_destination_that_stands(trouble: dict[str, Any]) -> None:
    assert starts(1, replace(PACS, slots_used=0, **trouble)) is None


def test_nobody_tells_it_without_a_worker_or_a_pace() -> None:
    assert starts(1, alive=False) is None
    assert starts(1, pace=Pace(2, timedelta(minutes=1))) is None
    assert starts(0) is None
