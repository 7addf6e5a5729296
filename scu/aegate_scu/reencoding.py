"""A data set written anew in Explicit or Implicit VR Little Endian, element by element, in bounded memory.

Nothing is decoded: values are copied from file to file, words of Big Endian swapped on the way; only the heads of the
elements are made anew. Every sequence and item goes out with undefined length, so nothing has to be known before it is
written. What a device left open or cut off is closed properly.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO

from pydicom.datadict import dictionary_VR, private_dictionary_VR

from aegate_core.dicom.top_level import (
    ITEM,
    ITEM_END,
    LONG_VRS,
    SEQUENCE_END,
    UNDEFINED,
    Encoding,
    Head,
    Reader,
    is_implicit,
)
from aegate_core.errors import AegateError

MAX_ELEMENTS = 1_000_000
"""Of all levels. By feel: 10,000 frames described by 100 elements each are a million; that costs five seconds."""
CHUNK_BYTES = 1 << 20
_LET_GO_BYTES = 32 << 20
"""So much of the mapped source may count as our memory."""
_SHORT_VR_MOST_BYTES = 0xFFFF

PIXEL_DATA = 0x7FE00010
_BITS_ALLOCATED, _PIXEL_REPRESENTATION = 0x00280100, 0x00280103
_WORDS = {
    **dict.fromkeys((b"AT", b"OW", b"SS", b"US"), 2),
    **dict.fromkeys((b"FL", b"OF", b"OL", b"SL", b"UL"), 4),
    **dict.fromkeys((b"FD", b"OD", b"OV", b"SV", b"UV"), 8),
}


class CannotConvert(AegateError):
    """An object cannot be brought into a transfer syntax that the peer takes; the text holds no value of it."""

    code = "TRANSCODING_FAILED"


class TooLargeToConvert(CannotConvert):
    """It could be, but not within the memory and time that one object may cost."""

    code = "TOO_LARGE"


@dataclass(frozen=True, slots=True)
class Source:
    """A data set in a file, in a native transfer syntax; or in a compressed one, whose pixel data is replaced."""

    file: IO[bytes]
    offset: int
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class Value:
    """A value to be written in place of an outermost element's, from the beginning of a file."""

    vr: bytes
    file: IO[bytes]
    length: int


@dataclass(slots=True)
class _Known:
    """What decides about other elements of a data set and of the items in it."""

    is_signed: bool = False
    bits_allocated: int = 16
    creators: dict[int, str] = field(default_factory=dict)
    """Private block (group and first two digits) → who reserved it; of this data set alone (PS3.5 7.8.1)."""


@dataclass(frozen=True, slots=True)
class _Level:
    """A data set, an item or a sequence that is being read."""

    end: int
    is_open: bool
    """Of undefined length: it ends at its delimitation item, at ``end`` at the latest."""
    holds_items: bool
    is_implicit: bool
    known: _Known


def reencode(
    source: Source, target: IO[bytes], *, implicit: bool, instead: Mapping[int, Value | None] | None = None
) -> str:
    """Write the data set of ``source`` to ``target`` and return the SHA-256 of what was written.

    ``instead`` replaces outermost elements by tag, or leaves them out (None). Raises CannotConvert.
    """
    size = os.fstat(source.file.fileno()).st_size
    writer = _Writer(target, implicit=implicit)
    if size > source.offset:
        with mmap.mmap(source.file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _Reencoding(source, data, writer, dict(instead or {})).run()
    return writer.sha256.hexdigest()


class _Writer:
    """Writes heads in the encoding of the target, and values as they are."""

    def __init__(self, file: IO[bytes], *, implicit: bool) -> None:
        self._file = file
        self._implicit = implicit
        self.sha256 = hashlib.sha256()

    def write(self, content: bytes | memoryview) -> None:
        self._file.write(content)
        self.sha256.update(content)

    def head(self, tag: int, vr: bytes, length: int) -> None:
        group, element = tag >> 16, tag & 0xFFFF
        if self._implicit:
            self.write(struct.pack("<HHL", group, element, length))
        elif vr in LONG_VRS:
            self.write(struct.pack("<HH2sHL", group, element, vr, 0, length))
        elif length > _SHORT_VR_MOST_BYTES:
            self.write(struct.pack("<HH2sHL", group, element, b"UN", 0, length))  # PS3.5 6.2.2
        else:
            self.write(struct.pack("<HH2sH", group, element, vr, length))

    def mark(self, tag: int, length: int = 0) -> None:
        """Write the head of an item or a delimitation item, which has no VR."""
        self.write(struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length))


class _Reencoding:
    """One pass over a data set."""

    def __init__(
        self, source: Source, data: mmap.mmap, writer: _Writer, instead: dict[int, Value | None]
    ) -> None:
        self._fd = source.file.fileno()
        self._data = data
        self._writer = writer
        self._instead = instead
        self._is_little_endian = source.encoding.is_little_endian
        implicit = is_implicit(data, source.offset, source.encoding)
        self._reader = Reader(data, source.encoding, is_implicit=implicit)
        self._at = source.offset
        self._let_go = source.offset
        self._elements = 0
        known = _Known(is_signed=self._is_signed())
        self._levels = [_Level(len(data), False, False, implicit, known)]

    def run(self) -> None:
        """Go on until the end of the data."""
        while self._levels:
            level = self._levels[-1]
            head = None if self._at >= level.end else self._head(level)
            if head is None:
                self._at = level.end
                self._close()
            elif head.tag in (ITEM_END, SEQUENCE_END):
                self._at = head.value_at
                self._delimit(head.tag)
            elif level.holds_items:
                self._begin_item(head, level)
            else:
                self._element(head, level)

    def _head(self, level: _Level) -> Head | None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise TooLargeToConvert(f"the object has more than {MAX_ELEMENTS} elements: it is not converted")
        if self._at - self._let_go > _LET_GO_BYTES:
            self._data.madvise(mmap.MADV_DONTNEED)
            self._let_go = self._at
        return self._reader.head(self._at, is_implicit=level.is_implicit)

    def _is_signed(self) -> bool:
        """Look for the outermost Pixel Representation: elements before it may depend on it."""
        at = self._at
        for _ in range(MAX_ELEMENTS):
            head = self._reader.head(at)
            if head is None or head.tag > _PIXEL_REPRESENTATION:
                return False
            if head.tag == _PIXEL_REPRESENTATION:
                return self._number(head) == 1
            at = self._reader.end_of_value(head)
        return False

    def _number(self, head: Head) -> int:
        content = self._data[head.value_at : head.value_at + min(head.length, 2)]
        return int.from_bytes(content, "little" if self._is_little_endian else "big")

    def _close(self) -> None:
        """End the innermost level, as undefined length wants it."""
        level = self._levels.pop()
        if self._levels:
            self._writer.mark(SEQUENCE_END if level.holds_items else ITEM_END)
        else:
            self._write_instead(before=1 << 32)

    def _delimit(self, tag: int) -> None:
        """Close what a delimitation item ends, what was left open in it included; one too many is left out."""
        holds_items = tag == SEQUENCE_END
        ends = next(
            (n for n in range(len(self._levels) - 1, 0, -1) if self._levels[n].holds_items is holds_items), 0
        )
        if ends and self._levels[ends].is_open and (holds_items or ends == len(self._levels) - 1):
            while len(self._levels) > ends:
                self._close()

    def _begin_item(self, head: Head, level: _Level) -> None:
        if head.tag != ITEM:
            raise CannotConvert(f"a sequence must hold items, got {head.tag:08X}: the object is damaged")
        known = _Known(level.known.is_signed, level.known.bits_allocated)
        self._writer.mark(ITEM, UNDEFINED)
        self._begin(head, _Level(0, False, False, level.is_implicit, known), level)

    def _begin(self, head: Head, inner: _Level, outer: _Level) -> None:
        is_open = head.length == UNDEFINED
        end = outer.end if is_open else min(head.value_at + head.length, outer.end)
        self._levels.append(_Level(end, is_open, inner.holds_items, inner.is_implicit, inner.known))
        self._at = head.value_at

    def _element(self, head: Head, level: _Level) -> None:
        group, element = head.tag >> 16, head.tag & 0xFFFF
        if len(self._levels) == 1:
            self._write_instead(before=head.tag)
        if len(self._levels) == 1 and head.tag in self._instead:
            self._at = self._reader.end_of_value(head)
            self._write_one_instead(head.tag)
        elif head.tag == ITEM:
            raise CannotConvert("an item stands outside of a sequence: the object is damaged")
        elif head.length == UNDEFINED and (head.tag == PIXEL_DATA or head.vr in (b"OB", b"OW")):
            self._at = min(self._reader.end_of_value(head), level.end)
            self._writer.head(head.tag, head.vr or b"OB", UNDEFINED)
            self._copy(head.value_at, self._at)
        elif head.length == UNDEFINED or (vr := _vr_of(head, level.known)) == b"SQ":
            self._writer.head(head.tag, b"SQ", UNDEFINED)
            self._begin(
                head, _Level(0, False, True, level.is_implicit or head.vr == b"UN", level.known), level
            )
        else:
            self._at = min(head.value_at + head.length, level.end)
            if element == 0 and group > 6:
                return  # a retired group length (PS3.5 7.2)
            self._learn(head, level.known)
            self._writer.head(head.tag, vr, self._at - head.value_at)
            self._copy(head.value_at, self._at, word_bytes=self._word_bytes(head.tag, vr, level.known))

    def _learn(self, head: Head, known: _Known) -> None:
        """Keep what other elements of this data set depend on."""
        if head.tag == _PIXEL_REPRESENTATION:
            known.is_signed = self._number(head) == 1
        elif head.tag == _BITS_ALLOCATED:
            known.bits_allocated = self._number(head)
        elif head.tag & 0x10000 and 0x10 <= head.tag & 0xFFFF <= 0xFF and head.length <= 64:
            creator = self._data[head.value_at : head.value_at + head.length].decode("latin-1")
            known.creators[head.tag >> 16 << 8 | head.tag & 0xFF] = creator.strip(" \0")

    def _word_bytes(self, tag: int, vr: bytes, known: _Known) -> int:
        """Return the size of the words to be swapped; pixels of 32 bits are swapped whole, as their senders do."""
        if self._is_little_endian:
            return 1
        if tag == PIXEL_DATA and vr == b"OW":
            return max(2, known.bits_allocated // 8)
        return _WORDS.get(vr, 1)

    def _write_instead(self, *, before: int) -> None:
        for tag in sorted(t for t in self._instead if t < before):
            self._write_one_instead(tag)

    def _write_one_instead(self, tag: int) -> None:
        value = self._instead.pop(tag)
        if value is None:
            return
        self._writer.head(tag, value.vr, value.length)
        value.file.seek(0)
        while content := value.file.read(CHUNK_BYTES):
            self._writer.write(content)

    def _copy(self, start: int, end: int, *, word_bytes: int = 1) -> None:
        """Copy a part of the source; what is large is read, for what is mapped counts as our memory."""
        if end - start <= mmap.PAGESIZE and word_bytes == 1:
            self._writer.write(self._data[start:end])
            return
        while start < end:
            content = os.pread(self._fd, min(CHUNK_BYTES, end - start), start)
            if not content:
                raise OSError("the object's file became shorter while it was read")
            self._writer.write(_swapped(content, word_bytes) if word_bytes > 1 else content)
            start += len(content)


def _vr_of(head: Head, known: _Known) -> bytes:
    """Return the VR of an element: the one it has, or the dictionary's (PS3.6), or that of its private creator."""
    if head.vr is not None:
        return head.vr
    group, element = head.tag >> 16, head.tag & 0xFFFF
    try:
        if not group & 1:
            vr = "UL" if element == 0 else dictionary_VR(head.tag)
        elif element <= 0xFF:
            vr = "UL" if element == 0 else "LO"
        else:
            vr = private_dictionary_VR(head.tag, known.creators[group << 8 | element >> 8])
    except KeyError:
        return b"UN"
    if " or " not in vr:
        return vr.encode()
    # In Implicit VR what may be OW is OW (PS3.5 A.1).
    return b"OW" if "OW" in vr else b"SS" if known.is_signed else b"US"


_UNSIGNED = {array(code).itemsize: code for code in "HILQ"}
"""Type codes by length in bytes."""


def _swapped(content: bytes, word_bytes: int) -> bytes:
    """Return big-endian words as little-endian ones; a tail shorter than a word stays."""
    whole = len(content) - len(content) % word_bytes
    words = array(_UNSIGNED[word_bytes], content[:whole])
    words.byteswap()
    return words.tobytes() + content[whole:]
