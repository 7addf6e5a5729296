"""Global ids of the API as text: opaque to callers, but for the `aegate` command, which shows people short forms."""

from __future__ import annotations

import base64
import binascii


def encode_id(kind: str, key: object) -> str:
    """Return the id of ``kind`` with ``key``.

    >>> decode_id(encode_id("QueueItem", 17))
    ('QueueItem', '17')
    """
    return base64.urlsafe_b64encode(f"{kind}:{key}".encode()).decode().rstrip("=")


def decode_id(text: str) -> tuple[str, str] | None:
    """Return kind and key; None for what is not one of our ids."""
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        return None
    kind, colon, key = decoded.partition(":")
    return (kind, key) if colon and kind and key and "\0" not in key else None
