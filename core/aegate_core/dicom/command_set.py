"""The command set of a DIMSE message as bytes (PS3.7 6.3.1), read as strictly as it is written."""

from __future__ import annotations

import struct

from aegate_core.errors import InvalidInput

MAX_COMMAND_BYTES = 16 * 1024
"""Longer is none: a C-STORE-RQ has about 200."""

_ELEMENT = struct.Struct("<HHL")
_SHORT = struct.Struct("<H")


def parse_command(encoded: bytes) -> dict[int, bytes]:
    """Return the command elements by element number (group 0000, Implicit VR Little Endian, PS3.7 6.3.1).

    Raises InvalidInput.
    """
    elements: dict[int, bytes] = {}
    offset = 0
    while offset < len(encoded):
        if offset + _ELEMENT.size > len(encoded):
            raise InvalidInput("command set must end with a whole element, got a part of one")
        group, element, length = _ELEMENT.unpack_from(encoded, offset)
        offset += _ELEMENT.size
        if group != 0 or offset + length > len(encoded):
            raise InvalidInput(f"command set must hold group 0000 within its length, got group {group:04x}")
        elements[element] = encoded[offset : offset + length]
        offset += length
    return elements


def number_of(elements: dict[int, bytes], element: int) -> int:
    """Return an element of two bytes. Raises InvalidInput when it is not there, or of another length."""
    value = elements.get(element, b"")
    if len(value) != _SHORT.size:
        raise InvalidInput(f"command element (0000,{element:04x}) must be 2 bytes, got {len(value)}")
    return int(_SHORT.unpack(value)[0])
