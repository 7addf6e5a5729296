"""Why is it not moving? One answer for every item that is not finished, in words a person on call can use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from aegate_core.decisions.breaker import BreakerState
from aegate_core.decisions.retry import BLOB_DAMAGED, BLOB_UNREADABLE, DECODER_LOST, NO_ROOM_TO_CONVERT
from aegate_core.errors import (
    BucketClockSkew,
    BucketCredentials,
    BucketDenied,
    BucketError,
    BucketMissing,
    BucketUnreachable,
    BucketUntrusted,
)


class NotMovingCode(StrEnum):
    """The reasons, stable for programs."""

    WAITING_FOR_COMPLETE = "WAITING_FOR_COMPLETE"
    HELD = "HELD"
    DESTINATION_HELD = "DESTINATION_HELD"
    DESTINATION_DISABLED = "DESTINATION_DISABLED"
    DESTINATION_GONE = "DESTINATION_GONE"
    DESTINATION_INVALID = "DESTINATION_INVALID"
    BREAKER_OPEN = "BREAKER_OPEN"
    SLOTS_FULL = "SLOTS_FULL"
    BACKOFF = "BACKOFF"
    NEEDS_RECONCILIATION = "NEEDS_RECONCILIATION"
    PATIENT_MISMATCH = "PATIENT_MISMATCH"
    READY = "READY"
    NO_WORKER = "NO_WORKER"
    SENDING = "SENDING"
    DEAD = "DEAD"


@dataclass(frozen=True, slots=True)
class WhyNotMoving:
    """The reason, one sentence about it, what happens next, and when."""

    code: NotMovingCode
    text: str
    next_step: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What the queue knows of an item."""

    state: str
    attempts: int = 0
    available_at: datetime | None = None
    hold_code: str | None = None
    held_by: str | None = None
    hold_reason: str | None = None
    instances_total: int = 0
    instances_done: int = 0
    instances_failed: int = 0
    started_at: datetime | None = None
    error_code: str | None = None
    error_message: str | None = None
    position: int = 1
    """Its place among what is ready for the same destination; 1 is next."""


@dataclass(frozen=True, slots=True)
class DestinationFacts:
    """What the queue knows of its destination."""

    ae: str
    max_connections: int
    slots_used: int = 0
    enabled: bool = True
    gone_at: datetime | None = None
    invalid_condition: str | None = None
    held_at: datetime | None = None
    held_by: str | None = None
    hold_reason: str | None = None
    breaker: BreakerState = BreakerState.CLOSED
    breaker_since: datetime | None = None
    last_error: str | None = None
    next_probe_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """Whether any worker lives, and when the last one was seen."""

    alive: bool
    last_seen_at: datetime | None = None


def why_not_moving(
    item: ItemFacts, destination: DestinationFacts, workers: WorkerFacts, *, now: datetime
) -> WhyNotMoving | None:
    """Return why an item is where it is; None for one that is finished and has lost nothing."""
    if item.state in ("COMPLETED", "WARNING", "CANCELED"):
        return None
    if item.state == "FAILED":
        return _dead(item)
    if item.state == "IN_PROGRESS":
        return _sending(item, now) if workers.alive else _no_worker(workers)
    if item.state == "HELD":
        return _held(item, destination)
    closed = _closed_to_all(destination)
    if closed is None and not workers.alive:
        # Before what passes by itself: without a worker nothing is probed or tried again.
        return _no_worker(workers)
    return closed or _breaker(destination) or _open_to_others(item, destination)


def _dead(item: ItemFacts) -> WhyNotMoving:
    what = item.error_message or item.error_code or "the peer refused it"
    text = (
        f"{item.instances_done} of {item.instances_total} delivered, {item.instances_failed} given up: "
        f"{what} ({item.error_code or 'UNKNOWN'})"
    )
    return WhyNotMoving(NotMovingCode.DEAD, text, "nothing happens by itself: mend the cause, then retry it")


def _sending(item: ItemFacts, now: datetime) -> WhyNotMoving:
    rate = ""
    if item.started_at is not None and now > item.started_at and item.instances_done:
        rate = f", {item.instances_done / (now - item.started_at).total_seconds():.1f} a second"
    text = f"being sent: {item.instances_done} of {item.instances_total} instances{rate}"
    return WhyNotMoving(
        NotMovingCode.SENDING, text, "it finishes, or returns to the queue when its worker is lost"
    )


def _held(item: ItemFacts, destination: DestinationFacts) -> WhyNotMoving:
    if item.hold_code == "DESTINATION_GONE":
        return _gone(destination)
    if item.hold_code == "PATIENT_MISMATCH":
        return WhyNotMoving(
            NotMovingCode.PATIENT_MISMATCH,
            "its study arrived before under another patient id",
            "nothing happens by itself: resolve the conflict, or resume it as it is",
        )
    if item.hold_code == "NEEDS_RECONCILIATION":
        return WhyNotMoving(
            NotMovingCode.NEEDS_RECONCILIATION,
            "its patient or order is not matched uniquely",
            "nothing happens by itself: match it, or resume it as it is",
        )
    text = f"held by {item.held_by or 'somebody'}{_because(item.hold_reason)}"
    return WhyNotMoving(NotMovingCode.HELD, text, "nothing happens by itself: resume it")


def _gone(destination: DestinationFacts) -> WhyNotMoving:
    return WhyNotMoving(
        NotMovingCode.DESTINATION_GONE,
        f"the Application Entity {destination.ae} was removed",
        "it goes on when an Application Entity of this name is applied again; or cancel it",
    )


def _closed_to_all(destination: DestinationFacts) -> WhyNotMoving | None:
    """Return why nothing at all goes to the destination."""
    if destination.gone_at is not None:
        return _gone(destination)
    if destination.invalid_condition is not None:
        return WhyNotMoving(
            NotMovingCode.DESTINATION_INVALID,
            f"{destination.ae} cannot be sent to: {destination.invalid_condition}",
            "it goes on by itself when the condition is gone",
        )
    if not destination.enabled:
        return WhyNotMoving(
            NotMovingCode.DESTINATION_DISABLED,
            f"{destination.ae} has enabled: false",
            "it goes on by itself when the Application Entity is enabled",
        )
    if destination.held_at is not None:
        text = f"{destination.ae} is held by {destination.held_by or 'somebody'}{_because(destination.hold_reason)}"
        return WhyNotMoving(
            NotMovingCode.DESTINATION_HELD, text, "nothing happens by itself: resume the destination"
        )
    return None


def _breaker(destination: DestinationFacts) -> WhyNotMoving | None:
    state, until = destination.breaker, destination.next_probe_at
    trial_runs = state is BreakerState.TRIAL and destination.slots_used > 0
    if state is BreakerState.CLOSED or (state is BreakerState.TRIAL and not trial_runs):
        return None
    since = f" since {_clock(destination.breaker_since)}" if destination.breaker_since else ""
    text = f"{destination.ae} is in trouble{since}: {destination.last_error or 'it does not take images'}"
    if trial_runs:
        step = "one trial delivery is under way; when an instance is stored, all others follow"
    else:
        step = f"it is probed again at {_clock(until)}" if until else "it is probed again soon"
    return WhyNotMoving(NotMovingCode.BREAKER_OPEN, text, step, until=until)


def _no_worker(workers: WorkerFacts) -> WhyNotMoving:
    seen = "none was ever seen"
    if workers.last_seen_at is not None:
        seen = f"the last one was seen at {_clock(workers.last_seen_at)}"
    return WhyNotMoving(
        NotMovingCode.NO_WORKER, f"no worker runs; {seen}", "start a worker: it goes by itself then"
    )


_STORAGE = "our own storage is at fault, not the receiver: "
OUR_FAULTS = {
    BLOB_UNREADABLE: (
        _STORAGE + "the file of at least one instance cannot be read",
        "mend the volume or restore the file",
    ),
    BLOB_DAMAGED: (
        _STORAGE + "the file of at least one instance is not what arrived",
        "mend the volume or restore the file",
    ),
    **{
        error.code: (_STORAGE + said, "see what the worker's health says, mend it")
        for error, said in {
            BucketUnreachable: "the bucket that holds the images does not answer",
            BucketUntrusted: "the certificate of the server of the images' bucket is not trusted",
            BucketCredentials: "the credentials of the bucket that holds the images are missing or not right",
            BucketClockSkew: "the clocks of the worker and of the server of the images' bucket are too far apart",
            BucketDenied: "a right for the bucket that holds the images is missing",
            BucketMissing: "the bucket that holds the images is not there",
            BucketError: "the bucket that holds the images does not give at least one instance",
        }.items()
    },
    NO_ROOM_TO_CONVERT: (
        _STORAGE + "there is no room to convert at least one instance for it",
        "make room on the volume of the data folder",
    ),
    DECODER_LOST: (
        "our own worker is at fault, not the receiver: the decoder of at least one instance was killed, or could not "
        "be started",
        "give the worker more memory, and see what ends its processes",
    ),
}
"""What is wrong with us, and what mends it, by the code of an item that waits for it."""


def _backoff(item: ItemFacts) -> WhyNotMoving:
    text, then = item.error_message or item.error_code or "no answer", ""
    if item.attempts:
        text = f"tried {item.attempts} times, last: {text}"
    if item.error_code in OUR_FAULTS:
        text, mend = OUR_FAULTS[item.error_code]
        then = f"; {mend}, and it goes by itself"
    at = _clock(item.available_at) or "soon"
    step = f"it is tried again {'at ' if item.available_at else ''}{at}{then}"
    return WhyNotMoving(NotMovingCode.BACKOFF, text, step, until=item.available_at)


def _open_to_others(item: ItemFacts, destination: DestinationFacts) -> WhyNotMoving:
    if item.state == "RETRY":
        return _backoff(item)
    if destination.slots_used >= destination.max_connections:
        text = f"{destination.slots_used} of {destination.max_connections} connections to {destination.ae} are in use"
        return WhyNotMoving(
            NotMovingCode.SLOTS_FULL, text, f"it goes when one is free; it is number {item.position} in line"
        )
    return WhyNotMoving(
        NotMovingCode.READY,
        f"number {item.position} in line for {destination.ae}",
        "a worker takes it up at once",
    )


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _clock(at: datetime | None) -> str:
    return "" if at is None else at.strftime("%Y-%m-%d %H:%M:%S UTC")


WORKER_SILENCE = timedelta(seconds=30)
"""A worker that was not seen for so long counts as gone: the lease of its slots."""
