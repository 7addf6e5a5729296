"""C-STORE messages as bytes (PS3.7 9.3.1, 6.3.1, E) and the file meta around a data set (PS3.10 7.1).

pynetdicom decodes and encodes every other message; this one stands on the path of every image.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from aegate_core.dicom.command_set import number_of
from aegate_core.dicom.identifiers import UID, parse_uid

IMPLEMENTATION_CLASS_UID = "2.25.148297404269988718585025568136113939641"
IMPLEMENTATION_VERSION = "AEGATE_0_1"

C_STORE_RQ, C_STORE_RSP, NO_DATA_SET = 0x0001, 0x8001, 0x0101

_ELEMENT = struct.Struct("<HHL")
_PDU = struct.Struct(">BBL")
_PDV = struct.Struct(">LBB")
_SHORT = struct.Struct("<H")
_LAST_COMMAND_FRAGMENT = 3


@dataclass(frozen=True, slots=True)
class StoreCommand:
    """The part of a C-STORE-RQ that we act on."""

    message_id: int
    sop_class_uid: UID
    sop_instance_uid: UID
    has_data_set: bool


def command_field(elements: dict[int, bytes]) -> int:
    """Return (0000,0100). Raises InvalidInput."""
    return number_of(elements, 0x0100)


def has_data_set(elements: dict[int, bytes]) -> bool:
    """Say whether a data set follows, by (0000,0800). Raises InvalidInput."""
    return number_of(elements, 0x0800) != NO_DATA_SET


def store_command(elements: dict[int, bytes]) -> StoreCommand:
    """Read a C-STORE-RQ. Raises InvalidInput, InvalidValue for a UID that is none."""
    return StoreCommand(
        message_id=number_of(elements, 0x0110),
        sop_class_uid=_uid(elements, 0x0002),
        sop_instance_uid=_uid(elements, 0x1000),
        has_data_set=has_data_set(elements),
    )


def store_response(elements: dict[int, bytes], status: int, comment: str = "") -> bytes:
    """Return the C-STORE-RSP to a request (PS3.7 9.3.1.2); ``comment`` is for people and at most 64 characters."""
    body = _element(0x0002, elements.get(0x0002, b""))
    body += _element(0x0100, _SHORT.pack(C_STORE_RSP))
    body += _element(0x0120, elements.get(0x0110, b"\0\0"))
    body += _element(0x0800, _SHORT.pack(NO_DATA_SET))
    body += _element(0x0900, _SHORT.pack(status))
    if comment:
        body += _element(0x0902, comment[:64].encode("ascii", "replace"), pad=b" ")
    body += _element(0x1000, elements.get(0x1000, b""))
    return _element(0x0000, struct.pack("<L", len(body))) + body


def command_pdus(context_id: int, command: bytes, max_pdu_bytes: int) -> Iterator[bytes]:
    """Yield the P-DATA-TF PDUs of a command, none longer than the peer takes (0: any; PS3.8 9.3.5)."""
    size = max(max_pdu_bytes - _PDV.size, 1) if max_pdu_bytes else len(command)
    for start in range(0, len(command), size):
        fragment = command[start : start + size]
        control = _LAST_COMMAND_FRAGMENT if start + size >= len(command) else 1
        header = _PDU.pack(4, 0, len(fragment) + _PDV.size) + _PDV.pack(
            len(fragment) + 2, context_id, control
        )
        yield header + fragment


def part10_header(command: StoreCommand, transfer_syntax: str, calling_title: str) -> bytes:
    """Return preamble and file meta information (PS3.10 7.1) for the data set that follows."""
    meta = struct.pack("<HH2s2xL2s", 2, 1, b"OB", 2, b"\0\1")
    meta += _meta(0x0002, b"UI", command.sop_class_uid)
    meta += _meta(0x0003, b"UI", command.sop_instance_uid)
    meta += _meta(0x0010, b"UI", transfer_syntax)
    meta += _meta(0x0012, b"UI", IMPLEMENTATION_CLASS_UID)
    meta += _meta(0x0013, b"SH", IMPLEMENTATION_VERSION)
    meta += _meta(0x0016, b"AE", calling_title)
    return b"\0" * 128 + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(meta)) + meta


def _meta(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


def _element(element: int, value: bytes, pad: bytes = b"\0") -> bytes:
    value += pad * (len(value) % 2)
    return _ELEMENT.pack(0, element, len(value)) + value


def _uid(elements: dict[int, bytes], element: int) -> UID:
    return parse_uid(elements.get(element, b"").decode("latin-1"))
