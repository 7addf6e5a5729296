"""What is known of an arrival beside its bytes: the side record, written and fsynced before the object has its name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aegate_core.dicom.identifiers import ArrivalId, ResourceKey, parse_arrival_id, parse_resource_key
from aegate_core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class SideRecord:
    """What is known of an arrival and does not stand in the object itself. Titles are without padding."""

    arrival_id: ArrivalId
    ae: ResourceKey
    calling_title: str
    called_title: str
    peer_address: str
    received_at: datetime
    abstract_syntax: str
    """Of the presentation context; a device may send another SOP class under it."""
    transfer_syntax: str
    sop_class_uid: str
    """Affected SOP Class UID of the command (PS3.7 9.3.1)."""
    sop_instance_uid: str
    data_offset: int
    """Where in the file the data set begins: after preamble and file meta."""
    size_bytes: int
    """Of the whole file."""

    def to_json(self) -> str:
        """Return the record as one JSON object."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(values | {"ae": str(self.ae), "received_at": self.received_at.isoformat()})

    @staticmethod
    def from_json(text: str | bytes) -> SideRecord:
        """Read what `to_json` wrote. Raises InvalidInput for anything else."""
        try:
            values = json.loads(text)
            return SideRecord(
                **values
                | {
                    "arrival_id": parse_arrival_id(values["arrival_id"]),
                    "ae": parse_resource_key(values["ae"]),
                    "received_at": datetime.fromisoformat(values["received_at"]).astimezone(UTC),
                }
            )
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            reason = type(error).__name__
            raise InvalidInput(
                f"side record must be what a listener wrote, got other text ({reason})"
            ) from error


@dataclass(frozen=True, slots=True)
class SpooledArrival:
    """One acknowledged object in the spool."""

    path: Path
    side: SideRecord

    @property
    def side_path(self) -> Path:
        """The side record's file."""
        return self.path.with_suffix(".json")
