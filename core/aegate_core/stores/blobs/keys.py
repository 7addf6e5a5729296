"""The key of a blob, in a folder and in a bucket alike: ``ab/cd/<arrival id>.dcm``.

ab and cd are the *last* four hex digits of the id: the first ones of a time-ordered id would fill one folder for weeks.
A key belongs to one arrival for ever, so putting it again is harmless.
"""

from __future__ import annotations

from typing import NewType

from aegate_core.dicom.identifiers import ArrivalId, parse_arrival_id
from aegate_core.errors import InvalidValue

MARK = "aegate-installation"
"""The name, beside the keys, of what says whose store it is."""

BlobKey = NewType("BlobKey", str)
"""``ab/cd/<arrival id>.dcm``."""


def blob_key(arrival_id: ArrivalId) -> BlobKey:
    """Return the key of an arrival's blob."""
    return BlobKey(f"{arrival_id[-4:-2]}/{arrival_id[-2:]}/{arrival_id}.dcm")


def parse_blob_key(text: str) -> tuple[BlobKey, ArrivalId]:
    """Return a key and whose it is. Raises InvalidValue for what is no key: a key can never leave the store."""
    arrival_id = parse_arrival_id(text.rpartition("/")[2].removesuffix(".dcm"))
    key = blob_key(arrival_id)
    if text != key:
        raise InvalidValue("blob key must be ab/cd/<arrival id>.dcm, got another form")
    return key, arrival_id
