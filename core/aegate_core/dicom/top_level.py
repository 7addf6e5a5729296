"""The outermost elements of a data set, read without parsing what stands inside of them.

An undefined length (PS3.5 7.5.2) is walked over, not parsed: that takes no memory, a microsecond an element, and no
stack however deep a device nests its sequences. pydicom parses as it goes: 64 MiB of empty items are minutes and
gigabytes to it. A value that the end of the data cuts off is left out: half a UID would be another one.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from aegate_core.errors import NotDICOM

DEFER_BYTES = 16 * 1024
"""A longer value is skipped, not read."""
MAX_VALUES_BYTES = 32 << 20
"""Of all values that are read: what they hold in memory. By feel: real headers have well under one MiB."""
MAX_ELEMENTS = 100_000
"""Of the outermost level. By feel: real headers have under 5,000; so many cost half a second to read."""
MAX_INNER_ELEMENTS = 1_000_000
"""In all sequences of undefined length, over all levels: 10,000 frames of 100 elements. They cost a second to walk
over.
"""

Buffer = mmap.mmap | bytearray

_PIXEL_DATA_GROUP = 0x7FE00000
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_BYTES_VRS = frozenset((b"OB", b"OW"))


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a data set is written (PS3.5 Annex A)."""

    is_implicit: bool
    is_little_endian: bool


class Head(NamedTuple):
    """What stands before a value; ``vr`` is None where the stream gives none."""

    tag: int
    vr: bytes | None
    length: int
    value_at: int


def top_level(data: Buffer, start: int, encoding: Encoding) -> Iterator[RawDataElement]:
    """Yield the elements from ``start`` to the pixel data or the end of ``data``.

    A value that is too long to be read is None, with its length; a sequence of undefined length comes as one of a
    length. Raises NotDICOM for what is damaged or hostile.
    """
    reader = Reader(data, encoding, is_implicit=is_implicit(data, start, encoding))
    at, count, values_bytes = start, 0, 0
    while (head := reader.head(at)) is not None and head.tag < _PIXEL_DATA_GROUP:
        count += 1
        if count > MAX_ELEMENTS:
            raise NotDICOM(f"the header has more than {MAX_ELEMENTS} elements: it is damaged or hostile")
        at = reader.end_of_value(head)
        if at > len(data):
            return
        element = reader.element(head, at - head.value_at)
        values_bytes += len(element.value or b"")
        if values_bytes > MAX_VALUES_BYTES:
            raise NotDICOM(f"the header has more than {MAX_VALUES_BYTES >> 20} MiB of values: is it damaged?")
        yield element


def is_implicit(data: Buffer, start: int, encoding: Encoding) -> bool:
    """Believe the first element rather than the transfer syntax: devices confuse the two."""
    vr = bytes(data[start + 4 : start + 6])
    return encoding.is_implicit if len(vr) < 2 else not _is_vr(vr)


def _is_vr(text: bytes) -> bool:
    return b"AA" <= text <= b"ZZ" and text[1] in range(0x41, 0x5B)


class Reader:
    """Reads at any place of the data."""

    def __init__(self, data: Buffer, encoding: Encoding, *, is_implicit: bool) -> None:
        self._data = data
        self._size = len(data)
        self._is_little_endian = encoding.is_little_endian
        self._is_implicit = is_implicit
        order = "<" if encoding.is_little_endian else ">"
        self._explicit_head = struct.Struct(order + "HH2sH").unpack_from
        self._implicit_head = struct.Struct(order + "HHL").unpack_from
        self._long = struct.Struct(order + "L").unpack_from
        self._sequence_end = struct.pack(order + "HH", 0xFFFE, 0xE0DD)
        self._inner_elements = 0

    def head(self, at: int, *, is_implicit: bool = False) -> Head | None:
        """Return what stands at ``at``; None when it does not fit before the end."""
        if at + 8 > self._size:
            return None
        if not (self._is_implicit or is_implicit):
            group, element, vr, length = self._explicit_head(self._data, at)
            if vr in LONG_VRS:
                if at + 12 > self._size:
                    return None
                return Head(group << 16 | element, vr, self._long(self._data, at + 8)[0], at + 12)
            if _is_vr(vr):
                return Head(group << 16 | element, vr, length, at + 8)
            # Items and their ends have no VR; and some devices write single elements as Implicit VR.
        group, element, length = self._implicit_head(self._data, at)
        return Head(group << 16 | element, None, length, at + 8)

    def element(self, head: Head, length: int) -> RawDataElement:
        """Return the element of ``head``, whose value is ``length`` bytes long, as pydicom keeps it."""
        vr = None if head.vr is None else head.vr.decode("ascii")
        if head.length == UNDEFINED and head.vr not in _BYTES_VRS:
            vr = "SQ"
        value = self._data[head.value_at : head.value_at + length] if length <= DEFER_BYTES else None
        return RawDataElement(
            BaseTag(head.tag),
            vr,
            length,
            None if value is None else bytes(value),
            head.value_at,
            self._is_implicit or head.vr is None,
            self._is_little_endian,
        )

    def end_of_value(self, head: Head) -> int:
        """Return where the value of ``head`` ends, its delimitation item included; behind the end if it is cut off."""
        if head.length != UNDEFINED:
            return head.value_at + head.length
        first = self.head(head.value_at)
        if first is None or first.tag in (ITEM, SEQUENCE_END):
            return self._end_of_items(head)
        # Neither items nor fragments, as some devices write it: it ends where a delimitation item comes.
        found = self._data.find(self._sequence_end, head.value_at)
        return found + 8 if found >= 0 else self._size + 1

    def _end_of_items(self, sequence: Head) -> int:
        """Walk over items or fragments, however deep; what is in an element of VR UN is Implicit VR (PS3.5 6.2.2)."""
        at, depth = sequence.value_at, 1
        implicit_from = 1 if sequence.vr == b"UN" else None
        while depth:
            head = self.head(at, is_implicit=implicit_from is not None)
            if head is None:
                raise NotDICOM("the data set cannot be parsed: a sequence is cut off")
            self._inner_elements += 1
            if self._inner_elements > MAX_INNER_ELEMENTS:
                raise NotDICOM(
                    f"the sequences have more than {MAX_INNER_ELEMENTS} elements: are they damaged or hostile?"
                )
            at = head.value_at
            if head.tag in (ITEM_END, SEQUENCE_END):
                depth -= 1
                implicit_from = None if implicit_from is not None and depth < implicit_from else implicit_from
            elif head.length == UNDEFINED:
                depth += 1
                implicit_from = depth if implicit_from is None and head.vr == b"UN" else implicit_from
            else:
                at += head.length
        return at
