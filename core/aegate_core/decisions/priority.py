"""Which item goes first: what was bumped, the last bump first; then by priority with ageing: nothing starves.

A point of priority is worth a minute of waiting. As every item ages alike, the order of two items never changes with
time: one number, made when the item is made or its priority changed, holds it, and an index can serve it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

RANK_PER_POINT = 60_000
"""Milliseconds of waiting that a point of priority is worth. By feel: priority 0 passes a new one of 100 after
100 minutes; measure waiting times by priority before changing it."""

RANK_PER_BUMP_US = 1_024
"""What a microsecond counts between two bumps; so many items of one bump, and more, keep their order between them."""

_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


def rank(priority: int, due_at: datetime) -> int:
    """Return the place in the order of the claim: the lowest goes first.

    ``priority`` is 0 to 100; ``due_at`` is when the item became due. Milliseconds, of no meaning by themselves.
    """
    return (due_at - _EPOCH) // timedelta(milliseconds=1) - priority * RANK_PER_POINT


def bumped_rank(at: datetime) -> int:
    """Return the place of what is bumped at ``at``: before every `rank`, and before what was bumped earlier."""
    return -((at - _EPOCH) // timedelta(microseconds=1)) * RANK_PER_BUMP_US
