"""What the peer's answer means for the instance, the delivery and the destination (queue.md, outcome classes).

The surprise: most failures are the destination's, not the object's. They cost no attempt; the breaker deals with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Verdict(StrEnum):
    """What an answer to C-STORE, or its absence, says."""

    STORED = "STORED"
    WARNING = "WARNING"
    """Stored, and the peer says what it changed or dropped."""
    REFUSED = "REFUSED"
    """The object can never be stored there: dead letter at once."""
    SUSPECT = "SUSPECT"
    """Perhaps the object: three tries, then dead letter."""
    TROUBLE = "TROUBLE"
    """The destination: costs nothing, the breaker counts."""
    REJECTED = "REJECTED"
    """The destination does not want us: costs nothing, the breaker opens at once."""
    UNREADABLE = "UNREADABLE"
    """A fault of ours, most often of our storage: costs nothing, says nothing of peer or object."""


SUSPECT_TRIES = 3
SUSPECT_BACKOFF_S = (10, 60)
"""By feel: a PACS that is busy with a lock is free after seconds, one that restarts after a minute."""

BLOB_UNREADABLE = "BLOB_UNREADABLE"
BLOB_DAMAGED = "BLOB_DAMAGED"
"""Codes of what our own storage does not give: it cannot be read, or is not what arrived."""

NO_ROOM_TO_CONVERT = "NO_ROOM_TO_CONVERT"
DECODER_LOST = "DECODER_LOST"
"""Codes of what cannot be converted now: the disk is full, or the decoder was killed or not started."""

UNREADABLE_BACKOFF_S = 60
"""By feel: a volume that was away is back after minutes, and a look at a file costs little."""

TROUBLE_BACKOFF_S = 5
"""How long an instance waits on which the destination had trouble: others go first, should it be of this one alone."""

POISON_BREAKS = 3
BREAK_BACKOFF_S = 5
"""How long an item waits after the association broke on one of its instances, times the breaks: others go first."""


def judge_status(status: int | None) -> Verdict:
    """Return what a C-STORE response status means; None: no response, or one without status (PS3.7 C, PS3.4 B.2.3)."""
    if status is None:
        return Verdict.TROUBLE
    if status == 0x0000:
        return Verdict.STORED
    if status in (0x0107, 0x0111, 0x0116) or 0xB000 <= status <= 0xBFFF:
        return Verdict.WARNING
    if 0xA700 <= status <= 0xA7FF:
        return Verdict.TROUBLE
    if 0xA800 <= status <= 0xA9FF or status == 0x0122:
        return Verdict.REFUSED
    return Verdict.REJECTED if status == 0x0124 else Verdict.SUSPECT


def judge_rejection(result: int) -> Verdict:
    """Return what an A-ASSOCIATE-RJ means: result 1 is permanent, 2 transient (PS3.8 9.3.4)."""
    return Verdict.REJECTED if result == 1 else Verdict.TROUBLE


def status_code(status: int | None) -> str:
    """Return the stable code of a status, such as ``STATUS_A700``."""
    return "NO_STATUS" if status is None else f"STATUS_{status:04X}"


@dataclass(frozen=True, slots=True)
class InstanceFate:
    """What becomes of an instance that was tried."""

    state: str
    """STORED, WARNING, DEAD or PENDING."""
    attempts: int
    available_at: datetime | None = None


def decide_instance(verdict: Verdict, attempts: int, *, costs: bool = True, now: datetime) -> InstanceFate:
    """Return the fate of an instance that was tried ``attempts`` times before and now got ``verdict``.

    ``costs`` False: the destination is suspected rather than the object, so a suspect answer costs no attempt.
    """
    if verdict in (Verdict.STORED, Verdict.WARNING):
        return InstanceFate(verdict.value, attempts)
    if verdict is Verdict.REFUSED:
        return InstanceFate("DEAD", attempts)
    if verdict is Verdict.REJECTED:
        return InstanceFate("PENDING", attempts)
    if verdict is not Verdict.SUSPECT:
        wait_s = UNREADABLE_BACKOFF_S if verdict is Verdict.UNREADABLE else TROUBLE_BACKOFF_S
        return InstanceFate("PENDING", attempts, now + timedelta(seconds=wait_s))
    tried = attempts + 1
    if costs and tried >= SUSPECT_TRIES:
        return InstanceFate("DEAD", tried)
    wait_s = SUSPECT_BACKOFF_S[min(attempts, len(SUSPECT_BACKOFF_S) - 1)]
    return InstanceFate("PENDING", tried if costs else attempts, now + timedelta(seconds=wait_s))


def is_poison(breaks: int, broke_at: datetime | None, last_success_at: datetime | None) -> bool:
    """Whether an instance alone breaks the association: it did so three times, and others passed in between."""
    passed = broke_at is not None and last_success_at is not None and last_success_at > broke_at
    return breaks >= POISON_BREAKS and passed


def break_backoff(breaks: int) -> timedelta:
    """Return how long a delivery waits after the association broke on its instance for the ``breaks``-th time."""
    return timedelta(seconds=BREAK_BACKOFF_S * min(breaks, 12))


@dataclass(frozen=True, slots=True)
class Tally:
    """How many instances of a delivery are in which state."""

    pending: int = 0
    stored: int = 0
    warning: int = 0
    dead: int = 0
    canceled: int = 0


def final_state(tally: Tally) -> str | None:
    """Return the state of a delivery that nothing is pending of, or None while something is.

    FAILED: an instance was neither acknowledged nor cancelled by a person.
    """
    if tally.pending:
        return None
    if tally.dead:
        return "FAILED"
    if tally.canceled:
        return "CANCELED"
    return "WARNING" if tally.warning else "COMPLETED"
