"""Where the data set begins in a Part 10 file, and in which transfer syntax (PS3.10 7.1).

The File Meta Information is always Explicit VR Little Endian, whatever comes after it. We read it
ourselves: two values and an offset are needed, and a hostile length must not cost memory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from aegate_core.dicom.identifiers import UID, parse_uid
from aegate_core.errors import InvalidValue, NotDICOM

PREAMBLE_BYTES = 132
MAX_META_BYTES = 64 * 1024
"""Real ones have 200 to 400 bytes; private information (0002,0102) may add some."""

_LONG_VRS = frozenset(
    (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV")
)
_TRANSFER_SYNTAX = 0x0010


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What must be known before the data set can be read."""

    data_offset: int
    transfer_syntax_uid: UID


def read_file_meta(file: BinaryIO) -> FileMeta:
    """Return where the data set begins and its transfer syntax; ``file`` stands at its beginning.

    Raises NotDICOM when there is no File Meta Information or no transfer syntax in it.
    """
    head = file.read(PREAMBLE_BYTES + MAX_META_BYTES)
    if head[128:132] != b"DICM":
        raise NotDICOM("expected DICM at byte 128 (PS3.10 7.1), got something else: this is no Part 10 file")
    offset, syntax = PREAMBLE_BYTES, b""
    while offset + 8 <= len(head):
        group, element, vr, length = struct.unpack_from("<HH2sH", head, offset)
        if group != 2:
            break
        offset += 8
        if vr in _LONG_VRS:
            if offset + 4 > len(head):
                raise NotDICOM("the File Meta Information ends in the middle of an element")
            (length,) = struct.unpack_from("<L", head, offset)
            offset += 4
        if element == _TRANSFER_SYNTAX:
            syntax = head[offset : offset + length]
        offset += length
        if offset > len(head):
            raise NotDICOM(
                f"the File Meta Information is longer than {MAX_META_BYTES} bytes, or ends too early"
            )
    try:
        return FileMeta(offset, parse_uid(syntax.decode("latin-1")))
    except InvalidValue as error:
        raise NotDICOM("the File Meta Information has no usable TransferSyntaxUID (0002,0010)") from error
