"""Conditions of a resource, as metav1.Condition has them: one value, and every type and reason that exists.

The surprise: ``Reconciling`` and ``Stalled`` are there only while they are True, because kstatus (with it
Flux and Argo CD) reads their mere presence. Reasons are constant words for programs; the message is for
people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum


class ConditionType(StrEnum):
    """What a condition is about."""

    ACCEPTED = "Accepted"
    RESOLVED_REFS = "ResolvedRefs"
    RECONCILING = "Reconciling"
    READY = "Ready"
    STALLED = "Stalled"


class Status(StrEnum):
    """Three values, as in metav1.ConditionStatus."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Why a condition is as it is."""

    ACCEPTED = "Accepted"
    TITLE_CONFLICT = "TitleConflict"
    INVALID = "Invalid"

    RESOLVED_REFS = "ResolvedRefs"
    SECRET_NOT_FOUND = "SecretNotFound"
    CERTIFICATE_EXPIRED = "CertificateExpired"
    CERTIFICATE_INVALID = "CertificateInvalid"
    STORE_NOT_FOUND = "StoreNotFound"
    POOL_NOT_FOUND = "PoolNotFound"
    PARTITION_NOT_FOUND = "PartitionNotFound"
    LOCATION_UNKNOWN = "LocationUnknown"
    REF_NOT_PERMITTED = "RefNotPermitted"
    ENTITY_NOT_FOUND = "EntityNotFound"
    SOURCE_IS_DESTINATION = "SourceIsDestination"
    NOTHING_SELECTED = "NothingSelected"
    KEYWORD_UNKNOWN = "KeywordUnknown"

    READY = "Ready"
    DISABLED = "Disabled"
    SUSPENDED = "Suspended"
    PRINT_NOT_AVAILABLE = "PrintNotAvailable"
    ISCL_NOT_SUPPORTED = "ISCLNotSupported"
    LISTENER_NOT_READY = "ListenerNotReady"

    ROLLING_OUT = "RollingOut"


@dataclass(frozen=True, slots=True)
class Condition:
    """One metav1.Condition. ``last_transition_time`` is None until `with_transition_times` has set it."""

    type: ConditionType
    status: Status
    reason: Reason
    message: str
    observed_generation: int = 0
    last_transition_time: datetime | None = None

    @property
    def is_true(self) -> bool:
        """Whether the status is True (Unknown is not)."""
        return self.status is Status.TRUE

    def to_json(self) -> dict[str, object]:
        """Return the condition as the CRD's status holds it."""
        at = self.last_transition_time or datetime.fromtimestamp(0, UTC)
        return {
            "type": self.type.value,
            "status": self.status.value,
            "reason": self.reason.value,
            "message": self.message,
            "observedGeneration": self.observed_generation,
            "lastTransitionTime": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        }


def condition_from_json(value: Mapping[str, object]) -> Condition:
    """Return what `Condition.to_json` made. Raises ValueError for an unknown type or reason."""
    return Condition(
        type=ConditionType(str(value["type"])),
        status=Status(str(value["status"])),
        reason=Reason(str(value["reason"])),
        message=str(value["message"]),
        observed_generation=int(str(value.get("observedGeneration", 0))),
        last_transition_time=datetime.fromisoformat(str(value["lastTransitionTime"])),
    )


def find_condition(conditions: Iterable[Condition], type: ConditionType) -> Condition | None:
    """Return the condition of that type, if there is one."""
    return next((c for c in conditions if c.type is type), None)


def with_transition_times(
    new: Sequence[Condition], old: Iterable[Condition], *, now: datetime
) -> tuple[Condition, ...]:
    """Return ``new`` with their times: the old one's where the status is the same, else ``now``."""
    before = {c.type: c for c in old}
    dated = []
    for condition in new:
        same = before.get(condition.type)
        kept = same.last_transition_time if same and same.status is condition.status else None
        dated.append(replace(condition, last_transition_time=kept or now))
    return tuple(dated)
