"""Text of data sets: (0008,0005) in all its forms, and what to do when it is wrong (PS3.5 6.1.2.5, PS3.3
C.12.1.1.2).

Nothing here raises: an object whose text cannot be decoded is still a patient's image. What does not fit
becomes U+FFFD.
"""

from __future__ import annotations

import codecs
import warnings
from collections.abc import Sequence

from pydicom.charset import convert_encodings, decode_bytes, python_encoding

ESCAPE = 0x1B
TEXT_DELIMITERS = frozenset(b"\\\r\n\t\f")
NAME_DELIMITERS = frozenset(b"\\^=\r\n\t\f")
"""In a person's name ^ and = also end a code extension (PS3.5 6.2.1.2)."""

DEFAULT = ("latin_1",)
"""Without (0008,0005) only ASCII is allowed; devices that break the rule nearly all send Latin-1."""

_OF_THE_STANDARD = frozenset(codecs.lookup(name).name for name in python_encoding.values())
"""pydicom lets any codec of Python pass: ``idna`` raises whatever the handler, ``unicode_escape`` makes surrogates."""


def python_encodings(terms: Sequence[str]) -> tuple[str, ...]:
    """Return Python's codecs for the values of (0008,0005); misspelt terms are understood, unknown ones are
    Latin-1.
    """
    cleaned = [term.strip() for term in terms]
    if not any(cleaned):
        return DEFAULT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            named = convert_encodings(cleaned)
            return (
                tuple(n if codecs.lookup(n).name in _OF_THE_STANDARD else DEFAULT[0] for n in named)
                or DEFAULT
            )
        except (LookupError, ValueError):
            return DEFAULT


def decode(value: bytes, encodings: Sequence[str], *, is_name: bool = False) -> str:
    """Return ``value`` as text, with code extensions (ISO 2022) applied; never raises.

    Split multiple values after decoding, not before: in GB18030, Shift JIS and ISO 2022 the second byte of
    a character may look like a backslash.
    """
    if ESCAPE not in value:
        return _plain(value, encodings[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return decode_bytes(value, list(encodings), set(NAME_DELIMITERS if is_name else TEXT_DELIMITERS))
        except (LookupError, ValueError):
            return _plain(value, encodings[0])


def _plain(value: bytes, encoding: str) -> str:
    try:
        return value.decode(encoding, "replace")
    except LookupError:
        return value.decode("latin-1")
