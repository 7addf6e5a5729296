"""What can be found wrong: one kind an invariant, each with what it means and whether mending it loses nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from aegate_core.stores.index.checking import WrongCount
from aegate_core.stores.queue.checking import FinishedDelivery, WrongDelivery


class Kind(StrEnum):
    """The invariant that does not hold. Stable: programs may match them."""

    BLOB_MISSING = "BLOB_MISSING"
    BLOB_CHANGED = "BLOB_CHANGED"
    BLOB_UNREADABLE = "BLOB_UNREADABLE"
    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    FOREIGN_FILE = "FOREIGN_FILE"
    SPOOL_UNREADABLE = "SPOOL_UNREADABLE"
    STUDY_COUNTS = "STUDY_COUNTS"
    SERIES_COUNTS = "SERIES_COUNTS"
    LOOSE_ROW = "LOOSE_ROW"
    QUARANTINE_UNLISTED = "QUARANTINE_UNLISTED"
    UNIT_NEVER_DUE = "UNIT_NEVER_DUE"
    DELIVERY_COUNTS = "DELIVERY_COUNTS"
    DELIVERY_STATE = "DELIVERY_STATE"
    DELIVERY_WITHOUT_ARRIVAL = "DELIVERY_WITHOUT_ARRIVAL"
    LEASE_ENDLESS = "LEASE_ENDLESS"


REPAIRS = {
    Kind.BLOB_UNKNOWN: "list it as quarantined, where it lies",
    Kind.SPOOL_UNREADABLE: "move it into quarantine",
    Kind.STUDY_COUNTS: "count anew",
    Kind.SERIES_COUNTS: "count anew",
    Kind.QUARANTINE_UNLISTED: "list it",
    Kind.UNIT_NEVER_DUE: "make it due: a worker closes and routes it",
    Kind.DELIVERY_COUNTS: "count anew",
    Kind.DELIVERY_STATE: "give it the state that its instances say; what is still to be sent goes out",
    Kind.LEASE_ENDLESS: "let the lease run out in a minute",
}
"""What mending does. Kinds that are not here need a person: a backup, or the device that sent it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be; no patient data."""

    kind: Kind
    subject: str
    """Which: an arrival id, a path below the data folder, ``study 12``, ``delivery 7``."""
    message: str
    """What was expected, what is there, and what to do where nothing can be mended."""
    row: WrongCount | WrongDelivery | FinishedDelivery | Path | str | int | None = None
    """What the repair of its kind needs."""

    @property
    def is_repairable(self) -> bool:
        """Whether it can be mended without losing anything."""
        return self.kind in REPAIRS
