"""When an item will begin to be sent, as far as it can be told: from its place in line, the connections, and how long
others took lately.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from aegate_core.decisions.breaker import BreakerState
from aegate_core.decisions.moving import DestinationFacts

FEWEST_SAMPLES = 3
"""From fewer nothing is told. By feel: one study of 3,000 slices says nothing of the next."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long items took that a destination finished lately."""

    samples: int = 0
    mean: timedelta = timedelta()


def estimated_start(
    position: int, destination: DestinationFacts, pace: Pace, *, workers_alive: bool, now: datetime
) -> datetime | None:
    """Return when the item at ``position`` (1 is next) begins; None where nobody can tell.

    Every connection ends its item and takes the next after a mean time; half of that is over when one looks.
    """
    stands = (
        destination.gone_at is not None
        or destination.held_at is not None
        or destination.invalid_condition is not None
        or not destination.enabled
        or destination.breaker is not BreakerState.CLOSED
    )
    slots = destination.max_connections
    if stands or not workers_alive or position < 1 or slots < 1:
        return None
    behind = position - max(slots - destination.slots_used, 0)
    if behind <= 0:
        return now
    if pace.samples < FEWEST_SAMPLES:
        return None
    return now + pace.mean * ((behind - 0.5) / slots)
