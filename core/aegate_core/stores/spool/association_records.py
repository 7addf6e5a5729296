"""What a listener tells the audit of an association: a line of JSON in its journal. No patient data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from aegate_core.dicom.identifiers import ResourceKey, parse_resource_key
from aegate_core.errors import InvalidInput


class Happened(StrEnum):
    """What happened."""

    ACCEPTED = "ACCEPTED"
    ENDED = "ENDED"
    REFUSED = "REFUSED"
    MISSED = "MISSED"
    """So many records could not be kept: nobody took them up, or the disk was full."""


@dataclass(frozen=True, slots=True)
class AssociationRecord:
    """One association's beginning or end; of refusals perhaps several of the same, with their count."""

    happened: Happened
    at: datetime
    """Of several the last."""
    ae: ResourceKey | None = None
    """Whose association it is; None: it is not known who called."""
    peer: str = ""
    """The address that called; of several: empty."""
    detail: Mapping[str, object] = field(default_factory=dict)
    """Names as the audit shows them, such as ``callingTitle``, ``reason``, ``count``."""

    def to_line(self) -> bytes:
        """Return the record as a line."""
        said = {
            "happened": self.happened.value,
            "at": self.at.isoformat(),
            "ae": str(self.ae) if self.ae else None,
            "peer": self.peer,
            "detail": dict(self.detail),
        }
        return json.dumps(said, separators=(",", ":")).encode() + b"\n"

    @staticmethod
    def from_line(line: bytes) -> AssociationRecord:
        """Read what `to_line` wrote. Raises InvalidInput for anything else, such as half a line."""
        try:
            if not line.isascii() or rb"\u" in line:
                raise ValueError("not of a listener: titles and addresses are printable ASCII")
            said = json.loads(line)
            return AssociationRecord(
                Happened(said["happened"]),
                datetime.fromisoformat(said["at"]).astimezone(UTC),
                parse_resource_key(said["ae"]) if said["ae"] else None,
                str(said["peer"]),
                dict(said["detail"]),
            )
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            reason = type(error).__name__
            raise InvalidInput(
                f"a journal's line must be what a listener wrote, got other text ({reason})"
            ) from error
