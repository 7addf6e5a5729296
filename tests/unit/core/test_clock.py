"""Tests of clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from aegate_core.database import Database, DatabaseClock

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Clocks:
    """A database and a monotonic clock whose times are set by the test; a look takes ``way_s``."""

    def __init__(self) -> None:
        self.at = NOON
        self.seconds = 100.0
        self.way_s = 0.0

    async def time(self) -> datetime:
        """Answer as a database does."""
        self.seconds += self.way_s
        return self.at

    def monotonic(self) -> float:
        """Return the seconds of this machine."""
        return self.seconds

    async def look(self, clock: DatabaseClock) -> None:
        """Let ``clock`` look at this database."""
        await clock.look(cast(Database, self))


async def test_it_goes_on_from_the_databases_time() -> None:
    clocks = Clocks()
    clock = DatabaseClock(clocks.monotonic)
    await clocks.look(clock)
    clocks.seconds += 7.5
    assert clock.now() == NOON + timedelta(seconds=7.5)
    clocks.at = NOON + timedelta(hours=1)  # another server answers, after a failover
    await clocks.look(clock)
    assert clock.now() == NOON + timedelta(hours=1)


async def test_a_slow_look_does_not_spoil_a_good_one() -> None:
    clocks = Clocks()
    clock = DatabaseClock(clocks.monotonic)
    clocks.way_s = 3.0
    await clocks.look(clock)
    assert clock.now() == NOON  # the first counts, however slow
    clocks.way_s = 0.1
    clocks.at = NOON + timedelta(seconds=5)
    await clocks.look(clock)
    clocks.way_s = 3.0
    await clocks.look(clock)
    assert clock.now() == NOON + timedelta(seconds=8)


def test_it_is_not_read_before_it_is_set() -> None:
    with pytest.raises(RuntimeError, match="must be set by a look"):
        DatabaseClock().now()


async def test_a_step_ahead_is_told_for_a_while_and_others_are_no_leap() -> None:
    clocks = Clocks()
    clock = DatabaseClock(clocks.monotonic)
    await clocks.look(clock)
    clocks.seconds, clocks.at = 110.0, NOON + timedelta(seconds=11)  # drift
    await clocks.look(clock)
    assert clock.leaped(timedelta(seconds=30)) == timedelta()
    clocks.seconds, clocks.at = 120.0, NOON + timedelta(hours=1, seconds=21)
    await clocks.look(clock)
    assert clock.leaped(timedelta(seconds=30)) == timedelta(hours=1)
    clocks.seconds = 149.9
    assert clock.leaped(timedelta(seconds=30)) == timedelta(hours=1)
    clocks.seconds = 150.0
    assert clock.leaped(timedelta(seconds=30)) == timedelta()
    clocks.at = NOON
    await clocks.look(clock)
    assert clock.leaped(timedelta(seconds=30)) == timedelta()
    assert clock.now() == NOON


async def test_it_knows_how_far_it_was_stepped_in_all() -> None:
    clocks = Clocks()
    clock = DatabaseClock(clocks.monotonic)
    for days, stepped in ((0, 0), (2, 2), (3, 3), (0, 0)):
        clocks.at = NOON + timedelta(days=days)
        await clocks.look(clock)
        assert clock.stepped == timedelta(days=stepped)
    clocks.at += timedelta(seconds=1)  # drift
    await clocks.look(clock)
    assert clock.stepped == timedelta()


async def test_it_looks_again_only_after_a_while_whether_or_not_it_was_answered() -> None:
    clocks = Clocks()
    clock = DatabaseClock(clocks.monotonic)
    assert not clock.is_set
    await clock.look_again(cast(Database, clocks), 10)
    assert clock.is_set
    clocks.at, clocks.seconds = NOON + timedelta(hours=1), 109.9
    await clock.look_again(cast(Database, clocks), 10)
    assert clock.now() == NOON + timedelta(seconds=9.9)
    clocks.seconds = 110.0
    await clock.look_again(cast(Database, clocks), 10)
    assert clock.now() == NOON + timedelta(hours=1)
