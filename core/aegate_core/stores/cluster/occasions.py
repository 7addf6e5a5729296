"""Events of our own about an object, as ``kubectl describe`` shows them (events.k8s.io/v1)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, cast

LONGEST_NOTE = 1024
"""The API server takes no longer one."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports: ``aegate.dev/operator`` and the name of its pod."""

    controller: str
    instance: str


@dataclass(frozen=True, slots=True)
class Occasion:
    """What happened to an object, worth an event."""

    reason: str
    note: str
    action: str
    type: Literal["Normal", "Warning"] = "Normal"


def event_manifest(
    about: Mapping[str, object], occasion: Occasion, reporter: Reporter, *, at: datetime
) -> dict[str, object]:
    """Return the event; the same one at the same time has the same name, so a repeated request makes no second."""
    metadata = cast("Mapping[str, str]", about["metadata"])
    moment = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    told = "\0".join([metadata["uid"], moment, occasion.reason, occasion.note])
    name = f"{metadata['name']}.{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    return {
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "eventTime": moment,
        "reportingController": reporter.controller,
        "reportingInstance": reporter.instance,
        "action": occasion.action,
        "reason": occasion.reason,
        "note": occasion.note[:LONGEST_NOTE],
        "type": occasion.type,
        "regarding": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
    }
