"""What an indexer is there for, and which folders of the spool are its own to empty."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.stores.spool import is_dead

LEFT_ALONE_S = 25 * 3600.0
"""On a volume of several nodes a file that was never acknowledged is removed when nobody wrote it for so long: longer
than any association may last, because the volume's locks may fail (docs/adr/0015)."""


@dataclass(frozen=True, slots=True)
class Duty:
    """Who an indexer is and what it takes."""

    process: str
    """Its name in the index."""
    ae: ResourceKey | None = None
    """The only AE whose images come into its spool; None: any. Such an indexer rests while that AE does."""
    spool_process: str | None = None
    """The listener beside it, whose folders it empties; those of others only once their listener is gone. None: all."""
    is_until_empty: bool = False
    """Return when nothing is left in the spool, and remove its folders."""

    def takes(self, spool: Path, process: str) -> bool:
        """Say whether to empty the folders of ``process`` now."""
        return self.spool_process in (None, process) or is_dead(spool, process)

    @property
    def quiet_s(self) -> float:
        """How long a file must have been left alone before it is removed as never acknowledged."""
        return LEFT_ALONE_S if self.spool_process and not self.is_until_empty else 0.0
