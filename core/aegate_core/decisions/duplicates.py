"""What an arrival is to the index: new, the same once more, or in conflict with what we have; and whether it is our
own echo.

Digests are compared per transfer syntax. The comparison is with the *current* arrival of the instance: when A, then
B, then A again arrive under one UID, the last A is newer content than B, so it is a conflict and goes out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

MODIFYING_SYSTEM = "aegate"
"""What we write as ModifyingSystem (0400,0563) into objects that we change on the way out."""


class Outcome(StrEnum):
    """Of an arrival."""

    NEW = "NEW"
    DUPLICATE = "DUPLICATE"
    CONFLICT = "CONFLICT"
    QUARANTINED = "QUARANTINED"


class ConflictKind(StrEnum):
    """Why a person may have to look at it."""

    SAME_UID_OTHER_CONTENT = "SAME_UID_OTHER_CONTENT"
    SAME_UID_OTHER_STUDY = "SAME_UID_OTHER_STUDY"
    PATIENT_MISMATCH = "PATIENT_MISMATCH"


@dataclass(frozen=True, slots=True)
class Content:
    """What an arrival holds, as far as two can be compared."""

    arrival_id: str
    sha256: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an arrival is; ``other_arrival_id`` is the one it duplicates or stands against."""

    outcome: Outcome
    conflict: ConflictKind | None = None
    other_arrival_id: str = ""


def judge(arrival: Content, current: Content | None, elsewhere: str | None) -> Judgement:
    """Return what ``arrival`` is.

    ``current`` is the newest arrival with the same SOP Instance UID in the same series; ``elsewhere`` the id of an
    arrival with that UID in another series or study of the partition.
    """
    if current is not None:
        known, came = (
            (current.sha256, current.transfer_syntax_uid),
            (arrival.sha256, arrival.transfer_syntax_uid),
        )
        if known == came:
            return Judgement(Outcome.DUPLICATE, None, current.arrival_id)
        return Judgement(Outcome.CONFLICT, ConflictKind.SAME_UID_OTHER_CONTENT, current.arrival_id)
    if elsewhere is not None:
        return Judgement(Outcome.CONFLICT, ConflictKind.SAME_UID_OTHER_STUDY, elsewhere)
    return Judgement(Outcome.NEW)


def came_back(ae: str, modifying_systems: Iterable[str], sent_from: Iterable[str]) -> bool:
    """Say whether an object is one that we pushed: it is stored, never routed, or two systems feed each other for ever.

    ``sent_from``: the source AEs of earlier arrivals with the same digest that were sent on. From that same AE it is a
    device that sends again; from any other it is our own object on its way back.
    """
    return MODIFYING_SYSTEM in modifying_systems or any(source != ae for source in sent_from)
