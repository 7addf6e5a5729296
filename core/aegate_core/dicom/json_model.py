"""The header as DICOM JSON (PS3.18 F.2), without bulk data and of bounded size: what routing, search and
the API read.

Numbers sent as text (DS, IS) stay the text that was sent, which PS3.18 F.2.3.1 allows: a route compares
what a person sees at the device. Values are decoded here and not by pydicom: its checks raise, warn with
values in the text, and cost ten times as much; an odd value is still worth indexing.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from typing import cast

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_sequence

from aegate_core.dicom.charset import decode, python_encodings
from aegate_core.dicom.elements import texts_of_entry

MAX_VALUE_BYTES = 4 * 1024
"""A longer value is bulk data for us: it stays in the blob."""
MAX_JSON_CHARACTERS = 64 * 1024
"""Of one header. Sequences that do not fit are left out whole; by feel: most headers have 3 to 10 thousand.
"""
MAX_RAW_BYTES = 256 * 1024
"""Of values that are decoded, sequences included, to fill so many characters: it bounds the time."""
MAX_ELEMENTS = 4_000
"""Items of sequences count as well."""
MAX_DEPTH = 8

PERSON_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
CHARACTER_SET = 0x00080005

_DECODED = frozenset(("SH", "LO", "ST", "LT", "UC", "UT", "PN"))
_SINGLE = frozenset(("ST", "LT", "UT", "UR"))
_ASCII = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"))
_NUMBERS = {
    "US": "H",
    "SS": "h",
    "UL": "L",
    "SL": "l",
    "UV": "Q",
    "SV": "q",
    "FL": "f",
    "FD": "d",
    "AT": "HH",
}
"""The codes of `struct` by VR."""

UNPARSABLE = (
    *(ValueError, TypeError, LookupError, EOFError, AttributeError, ArithmeticError, AssertionError),
    *(struct.error, NotImplementedError, BytesLengthException, InvalidDicomError),
)
"""What pydicom raises on broken data sets."""

JSON = dict[str, object]
Raw = RawDataElement | DataElement


class _TooLarge(Exception):
    """What is being written would not fit any more."""


@dataclass(slots=True)
class _Budget:
    """What may still be written."""

    characters: int = MAX_JSON_CHARACTERS
    elements: int = MAX_ELEMENTS
    raw_bytes: int = MAX_RAW_BYTES

    def take_raw(self, value: object) -> None:
        """Count in what is to be decoded. Raises _TooLarge."""
        size_bytes = len(value) if isinstance(value, bytes) else 0
        if size_bytes > self.raw_bytes:
            raise _TooLarge
        self.raw_bytes -= size_bytes

    def take(self, characters: int) -> None:
        """Count one element or item in. Raises _TooLarge."""
        self.characters -= characters + 32
        self.elements -= 1
        if self.characters < 0 or self.elements < 0:
            raise _TooLarge


def header_json(ds: Dataset, *, first: Container[int] = ()) -> JSON:
    """Return the elements of ``ds`` as DICOM JSON, in the order of their tags; bulk data and oversized
    values are left out.

    Where not all fits, the tags in ``first`` have the room, then those of the Standard, then private ones.
    """
    budget = _Budget()
    encodings = _encodings(ds, None)
    found: JSON = {}
    sequences: list[Raw] = []
    for element in sorted(ds.values(), key=lambda e: (e.tag not in first, e.tag.is_private)):
        vr = _vr(element)
        if vr == "SQ":
            sequences.append(element)
        else:
            with suppress(_TooLarge):
                _add(found, element, vr, encodings, budget)
    for element in sequences:
        before = replace(budget)
        try:
            found[_key(element)] = {"vr": "SQ", "Value": list(_items(element, encodings, budget, 1))}
        except (_TooLarge, RecursionError):
            budget = replace(before, raw_bytes=budget.raw_bytes)
    return dict(sorted(found.items()))


def _add(found: JSON, element: Raw, vr: str, encodings: Sequence[str], budget: _Budget) -> None:
    budget.take_raw(element.value)
    if (entry := _entry(element, vr, encodings)) is not None:
        budget.take(_size(entry))
        found[_key(element)] = entry


def _items(element: Raw, encodings: Sequence[str], budget: _Budget, depth: int) -> Iterator[JSON]:
    """Yield the items of a sequence; all of it or _TooLarge."""
    if depth > MAX_DEPTH:
        raise _TooLarge
    budget.take_raw(element.value)
    for item in _sequence(element):
        budget.take(0)
        own = _encodings(item, encodings)
        written: JSON = {}
        for inner in item.values():
            vr = _vr(inner)
            if vr == "SQ":
                budget.take(0)
                written[_key(inner)] = {
                    "vr": "SQ",
                    "Value": list(_items(inner, own, budget, depth + 1)),
                }
            elif (entry := _entry(inner, vr, own)) is not None:
                budget.take(_size(entry))
                written[_key(inner)] = entry
        yield written


def _sequence(element: Raw) -> Iterable[Dataset]:
    """Return the items of a sequence that may not have been parsed yet; what cannot be parsed has none.

    Raises _TooLarge for one that was too long to be read.
    """
    value = element.value
    if isinstance(element, DataElement):
        return cast("Iterable[Dataset]", value or ())
    if value is None and element.length:
        raise _TooLarge
    raw = value or b""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read_sequence(
                BytesIO(raw), element.is_implicit_VR, element.is_little_endian, len(raw), "iso8859"
            )
        except (*UNPARSABLE, OSError):
            # OSError: pydicom's for a sequence that is cut off.
            return ()


def sequence_texts(ds: Dataset, sequence_tag: int, tag: int) -> Iterator[str]:
    """Yield the values of the text ``tag`` in the items of a sequence of ``ds``; none where it is absent, too
    large or broken.
    """
    encodings = _encodings(ds, None)
    for element in ds.values():
        if element.tag == sequence_tag and _vr(element) == "SQ":
            with suppress(_TooLarge, RecursionError):
                for item in _sequence(element):
                    own = _encodings(item, encodings)
                    for inner in item.values():
                        if inner.tag == tag:
                            yield from texts_of_entry(_entry(inner, _vr(inner), own))


def _key(element: Raw) -> str:
    return f"{int(element.tag):08X}"


def _vr(element: Raw) -> str:
    """Return the VR of an element; the dictionary's where the stream gives none (Implicit VR) or UN."""
    vr = element.VR
    if vr is None or vr == "UN":
        try:
            vr = dictionary_VR(element.tag)
        except KeyError:
            vr = "UN"
    text = str(vr)
    return "US" if text in ("US or SS", "US or OW", "US or SS or OW") else text


def _encodings(ds: Dataset, inherited: Sequence[str] | None) -> Sequence[str]:
    """Return the codecs of a data set; an item without its own takes those of what surrounds it (PS3.5
    7.5.3).
    """
    for element in ds.values():
        if element.tag == CHARACTER_SET:
            raw = _bytes(element) or b""
            return python_encodings(raw.decode("latin-1").rstrip("\0 ").split("\\"))
        if element.tag > CHARACTER_SET:
            break
    return inherited or python_encodings(())


def _bytes(element: Raw) -> bytes | None:
    """Return the value as it was sent; None when it was too long to be read."""
    value = element.value
    if value is None:
        return None if getattr(element, "length", 0) else b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8")
    return b""


def _entry(element: Raw, vr: str, encodings: Sequence[str]) -> JSON | None:
    """Return the JSON of one element that is no sequence; None for bulk data."""
    raw = _bytes(element)
    if raw is None or len(raw) > MAX_VALUE_BYTES:
        return None
    if vr in _ASCII:
        values: list[object] = list(_texts(raw.decode("latin-1"), vr))
    elif vr in _DECODED:
        text = decode(raw, encodings, is_name=vr == "PN")
        values = [_name(v) if vr == "PN" else v for v in _texts(text, vr)]
    elif vr in _NUMBERS:
        values = _numbers(raw, vr, little_endian=getattr(element, "is_little_endian", True))
    else:
        return None
    if not any(v not in (None, "", {}) for v in values):
        return {"vr": vr}
    return {"vr": vr, "Value": [None if v in ("", {}) else v for v in values]}


def _texts(text: str, vr: str) -> Iterator[str]:
    """Yield the values of a text without padding; NUL never stays, PostgreSQL takes none."""
    plain = text.replace("\0", "")
    if vr in _SINGLE:
        yield plain.rstrip(" ")
        return
    for value in plain.split("\\"):
        yield value.strip(" ")


def _name(text: str) -> dict[str, str]:
    """Return a person's name by its component groups (PS3.5 6.2.1.1)."""
    groups = zip(PERSON_NAME_GROUPS, text.split("="), strict=False)
    return {group: part.rstrip("^ ") for group, part in groups if part.strip("^ ")}


def _numbers(raw: bytes, vr: str, *, little_endian: bool) -> list[object]:
    order = "<" if little_endian else ">"
    count = len(raw) // struct.calcsize(order + _NUMBERS[vr])
    numbers = struct.unpack_from(order + _NUMBERS[vr] * count, raw)
    if vr == "AT":
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        return [f"{group:04X}{element:04X}" for group, element in pairs]
    return [None if isinstance(n, float) and not math.isfinite(n) else n for n in numbers]


def _size(entry: JSON) -> int:
    values = entry.get("Value")
    return sum(len(str(v)) for v in values) if isinstance(values, list) else 0
