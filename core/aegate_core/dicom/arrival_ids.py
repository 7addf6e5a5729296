"""Making arrival ids: apart from the identifiers, which decisions import, because it takes clock and chance."""

from __future__ import annotations

import os
import time

from aegate_core.dicom.identifiers import ArrivalId


def new_arrival_id(now_ms: int | None = None) -> ArrivalId:
    """Return a new id: 48 bits of milliseconds since 1970, then version, variant and 74 random bits (RFC 9562 5.7)."""
    milliseconds = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    raw = bytearray(milliseconds.to_bytes(6, "big") + os.urandom(10))
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    return ArrivalId(raw.hex())
