"""When a chain of certificates ends: Python's ssl shows that of a peer alone, and an identity is no peer."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def first_expiry(pem: str) -> datetime:
    """Return when the first certificate of a chain expires: with one of them the peer refuses the whole.

    Raises ValueError, IndexError for what is no chain.
    """
    return min(not_after(ssl.PEM_cert_to_DER_cert(found[0])) for found in _PEM.finditer(pem))


def not_after(der: bytes) -> datetime:
    """Return until when an X.509 certificate is valid (RFC 5280 4.1.2.5). Raises ValueError, IndexError.

    The way to it: Certificate, TBSCertificate, past version, serial number,
    signature and issuer, to Validity, past notBefore.
    """
    _, content, _ = _element(der)
    _, content, _ = _element(content)
    tag, _, rest = _element(content)
    if tag == 0xA0:  # the version is left out of version 1
        _, _, rest = _element(rest)
    for _ in range(2):
        _, _, rest = _element(rest)
    _, validity, _ = _element(rest)
    _, _, rest = _element(validity)
    tag, text, _ = _element(rest)
    digits = text.decode("ascii").removesuffix("Z")
    if tag == 0x17:  # UTCTime: of two digits, below 50 is 20..
        digits = ("20" if int(digits[:2]) < 50 else "19") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Return tag, content and what follows the first element of DER (X.690 8.1)."""
    size, start = data[1], 2
    if size >= 0x80:
        start += size - 0x80
        size = int.from_bytes(data[2:start], "big")
    if len(data) < start + size:
        raise ValueError("the certificate must be whole, got less than it announces")
    return data[0], data[start : start + size], data[start + size :]
