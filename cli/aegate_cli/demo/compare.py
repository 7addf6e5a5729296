"""Compare what was sent with what lies at the far ends: data set for data set, from files, never from our database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from aegate_cli.demo.modality import data_set_digest
from aegate_core.errors import NotDICOM


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one receiver should have, and has."""

    receiver: str
    expected: int
    equal: int
    missing: tuple[str, ...]
    different: tuple[str, ...]
    unexpected: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Whether everything is there, unchanged, and nothing else."""
        return not (self.missing or self.different or self.unexpected)

    def complaints(self) -> list[str]:
        """Return what is wrong, naming receiver and SOP Instance UIDs."""
        return [
            f"{self.receiver}: {what} {uid}"
            for what, uids in (
                ("missing", self.missing),
                ("different from what was sent", self.different),
                ("not meant for it", self.unexpected),
            )
            for uid in uids
        ]


def read_received(folder: Path) -> dict[str, list[str]]:
    """Return the digests by SOP Instance UID of all files in ``folder``."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.dcm")):
        try:
            uid = str(dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
            found.setdefault(uid, []).append(data_set_digest(path))
        except (NotDICOM, InvalidDicomError, EOFError, AttributeError):
            found.setdefault(path.name, []).append("not a DICOM file")
    return found


def compare(
    receiver: str,
    expected: Mapping[str, str],
    received: Mapping[str, Iterable[str]],
    *,
    all_sent: frozenset[str],
) -> Comparison:
    """Compare digests by SOP Instance UID. An object may arrive twice (after a broken association), never different.

    Objects that are not ``all_sent``'s come from somebody else on this machine, and are none of our business.
    """
    present = expected.keys() & received.keys()
    different = {uid for uid in present if set(received[uid]) != {expected[uid]}}
    return Comparison(
        receiver=receiver,
        expected=len(expected),
        equal=len(present - different),
        missing=tuple(sorted(expected.keys() - received.keys())),
        different=tuple(sorted(different)),
        unexpected=tuple(sorted((received.keys() & all_sent) - expected.keys())),
    )
