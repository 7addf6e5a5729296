"""The digest that tells whether two objects are the same: SHA-256 over the data set's bytes, without file
meta.

It is compared per transfer syntax: the same image in two syntaxes has two digests.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

_CHUNK_BYTES = 1 << 20


def digest_data_set(path: Path, data_offset: int) -> str:
    """Return the SHA-256 of everything from ``data_offset`` on, as 64 hex digits; constant memory."""
    digest = hashlib.sha256()
    buffer = bytearray(_CHUNK_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        file.seek(data_offset)
        while count := file.readinto(buffer):
            digest.update(view[:count])
    return digest.hexdigest()
