"""What a person may decide about a conflict, by its kind. What was received is never changed by it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from aegate_core.decisions.duplicates import ConflictKind


class Resolution(StrEnum):
    """A decision."""

    SEND_AS_IT_IS = "SEND_AS_IT_IS"
    DO_NOT_SEND = "DO_NOT_SEND"
    KEEP_NEWER = "KEEP_NEWER"
    KEEP_OLDER = "KEEP_OLDER"
    KEEP_BOTH = "KEEP_BOTH"


CHOICES: Mapping[ConflictKind, tuple[Resolution, ...]] = {
    ConflictKind.PATIENT_MISMATCH: (Resolution.SEND_AS_IT_IS, Resolution.DO_NOT_SEND),
    ConflictKind.SAME_UID_OTHER_CONTENT: (Resolution.KEEP_NEWER, Resolution.KEEP_OLDER),
    ConflictKind.SAME_UID_OTHER_STUDY: (Resolution.KEEP_BOTH,),
}


def choices(kind: str) -> tuple[Resolution, ...]:
    """Return what may be decided about a conflict of this kind."""
    return CHOICES[ConflictKind(kind)]
