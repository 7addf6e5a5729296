"""A destination's breaker: when nothing is sent, when it is probed, what closes it again (queue.md).

The surprise: an answered C-ECHO does not close it. A PACS whose disk is full answers echoes; so an echo permits one
trial delivery, and only a stored instance closes the breaker.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

TROUBLES_TO_OPEN = 3
REFUSED_STUDIES_TO_OPEN = 3
FIRST_BACKOFF_S = 5
LONGEST_BACKOFF_S = 300
JITTER_SHARE = 0.2


class BreakerState(StrEnum):
    """CLOSED lets everything through, TRIAL one delivery at a time, the others nothing."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    TRIAL = "TRIAL"
    REJECTED_BY_PEER = "REJECTED_BY_PEER"


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is remembered of a destination's behaviour."""

    state: BreakerState = BreakerState.CLOSED
    since: datetime | None = None
    failures_in_row: int = 0
    refused_in_row: tuple[int, ...] = ()
    """Different studies whose instances were suspect, one after another, with nothing stored in between."""
    last_error: str | None = None
    next_probe_at: datetime | None = None
    backoff_s: int = FIRST_BACKOFF_S

    @property
    def suspects_destination(self) -> bool:
        """Whether so many studies in a row were suspect that it must be the destination."""
        return len(self.refused_in_row) >= REFUSED_STUDIES_TO_OPEN


def after_stored(breaker: Breaker) -> Breaker:
    """Return the breaker after the peer stored an instance: closed, all forgotten."""
    return replace(Breaker(), last_error=breaker.last_error)


def after_trouble(breaker: Breaker, error: str, *, now: datetime, jitter: float) -> Breaker:
    """Return the breaker after destination trouble. ``jitter`` is random in 0..1: peers are not probed in step."""
    counted = replace(breaker, failures_in_row=breaker.failures_in_row + 1, last_error=error[:256])
    if breaker.state is BreakerState.TRIAL:
        return _open(counted, _doubled(breaker.backoff_s), now=now, jitter=jitter)
    if breaker.state is BreakerState.CLOSED and counted.failures_in_row >= TROUBLES_TO_OPEN:
        return _open(counted, FIRST_BACKOFF_S, now=now, jitter=jitter)
    return counted


def after_rejection(breaker: Breaker, error: str, *, now: datetime, jitter: float) -> Breaker:
    """Return the breaker after a permanent rejection: open at once, probed every five minutes."""
    return replace(
        breaker,
        state=BreakerState.REJECTED_BY_PEER,
        since=breaker.since if breaker.state is not BreakerState.CLOSED else now,
        failures_in_row=breaker.failures_in_row + 1,
        last_error=error[:256],
        next_probe_at=now + _spread(LONGEST_BACKOFF_S, jitter),
        backoff_s=FIRST_BACKOFF_S,
    )


def after_suspect(breaker: Breaker, study_id: int, error: str, *, now: datetime, jitter: float) -> Breaker:
    """Return the breaker after a study of which an instance was perhaps at fault.

    Three different studies in a row are destination trouble, and so is every one after them until something is stored.
    """
    seen = breaker.refused_in_row
    if study_id not in seen:
        seen = (*seen, study_id)[-REFUSED_STUDIES_TO_OPEN:]
    counted = replace(breaker, refused_in_row=seen, last_error=error[:256])
    if not counted.suspects_destination:
        return counted
    if breaker.state is BreakerState.CLOSED:
        return _open(counted, FIRST_BACKOFF_S, now=now, jitter=jitter)
    return after_trouble(counted, error, now=now, jitter=jitter)


def after_probe(
    breaker: Breaker, error: str | None, *, rejected: bool, now: datetime, jitter: float
) -> Breaker:
    """Return the breaker after a probe; ``error`` None: it was answered."""
    if breaker.state not in (BreakerState.OPEN, BreakerState.REJECTED_BY_PEER):
        return breaker
    if error is None:
        return replace(breaker, state=BreakerState.TRIAL, next_probe_at=None)
    if rejected:
        return after_rejection(breaker, error, now=now, jitter=jitter)
    first = breaker.state is BreakerState.REJECTED_BY_PEER
    failed = replace(breaker, last_error=error[:256])
    return _open(failed, FIRST_BACKOFF_S if first else _doubled(breaker.backoff_s), now=now, jitter=jitter)


def _open(breaker: Breaker, backoff_s: int, *, now: datetime, jitter: float) -> Breaker:
    return replace(
        breaker,
        state=BreakerState.OPEN,
        since=breaker.since or now,
        backoff_s=backoff_s,
        next_probe_at=now + _spread(backoff_s, jitter),
    )


def _doubled(backoff_s: int) -> int:
    return min(backoff_s * 2, LONGEST_BACKOFF_S)


def _spread(seconds: int, jitter: float) -> timedelta:
    return timedelta(seconds=seconds * (1 - JITTER_SHARE + 2 * JITTER_SHARE * jitter))
