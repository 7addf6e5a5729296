"""The header of a received object: what the index stores in columns, and the rest as DICOM JSON.

Read up to the pixel data and from at most 64 MiB of the file, however large the object. Everything comes
out clean: no NUL, no control characters, no value longer than its column, so that nothing a device sends
can make the database refuse it. What cannot be parsed raises NotDICOM with a reason that names elements and
never carries a value.
"""

from __future__ import annotations

import mmap
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag

from aegate_core.dicom.elements import texts_of_entry
from aegate_core.dicom.identifiers import UID, parse_uid
from aegate_core.dicom.json_model import JSON, PERSON_NAME_GROUPS, UNPARSABLE, header_json, sequence_items
from aegate_core.dicom.part10 import FileMeta, read_file_meta
from aegate_core.errors import InvalidValue, NotDICOM

MAX_HEADER_BYTES = 64 << 20
DEFER_BYTES = 16 * 1024
"""A longer value is skipped, not read."""
MAX_ELEMENTS = 100_000
"""Of the outermost level. By feel: real headers have under 5,000; so many cost a quarter of a second to parse."""

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
DEFLATED_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"

_UNPARSABLE = (*UNPARSABLE, zlib.error, RecursionError)
"""OSError and MemoryError are no fault of the object."""

_PIXEL_DATA_GROUP = 0x7FE00000
_ORIGINAL_ATTRIBUTES = 0x04000561
_MODIFYING_SYSTEM = "04000563"

_INDEXED = frozenset(
    (
        *(0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00100010, 0x00100020, 0x00100021, 0x00100030),
        *(0x00100040, 0x00080020, 0x00080030, 0x00080050, 0x00080060, 0x00080090, 0x00081010, 0x00081030),
        *(0x0008103E, 0x00180015, 0x00200010, 0x00200011, 0x00200013, 0x00280008),
    )
)
"""What `Header` holds beside ``elements``: never left out because a device filled its private groups."""


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """What an object says about its patient. ``patient_id`` '' is an unidentified one; ``issuer`` '' names
    none.
    """

    patient_id: str = ""
    issuer: str = ""
    name_alphabetic: str = ""
    name_ideographic: str = ""
    name_phonetic: str = ""
    birth_date: str = ""
    sex: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """One object's header; every text fits its column and '' stands for absent."""

    transfer_syntax_uid: UID
    sop_class_uid: UID
    sop_instance_uid: UID
    study_instance_uid: UID
    series_instance_uid: UID
    patient: PatientIdentity
    accession_number: str = ""
    study_id: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    referring_physician: str = ""
    modality: str = ""
    series_number: str = ""
    series_description: str = ""
    body_part: str = ""
    station_name: str = ""
    instance_number: str = ""
    number_of_frames: int = 1
    modifying_systems: tuple[str, ...] = ()
    """Who changed the object on its way, from the Original Attributes Sequence (0400,0561)."""
    elements: JSON = field(default_factory=dict)


def read_header(path: Path) -> Header:
    """Return the header of the Part 10 file at ``path``.

    Raises NotDICOM when it cannot be parsed or lacks a UID that the index needs; OSError when it cannot be
    read.
    """
    with path.open("rb") as file:
        meta = read_file_meta(file)
        file.seek(0)
        try:
            ds = _read_elements(file, meta)
            return _header(ds, meta)
        except NotDICOM:
            raise
        except _UNPARSABLE as error:
            raise NotDICOM(f"the data set cannot be parsed ({type(error).__name__})") from error
        except OSError as error:
            if error.errno is not None:
                raise
            # pydicom raises it without a number for a sequence that is cut off; the kernel's errors have one.
            raise NotDICOM("the data set cannot be parsed: a sequence is cut off") from error


def _read_elements(file: BinaryIO, meta: FileMeta) -> Dataset:
    syntax = meta.transfer_syntax_uid
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if syntax == DEFLATED_LITTLE_ENDIAN:
            file.seek(meta.data_offset)
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            return _read(BytesIO(inflate.decompress(file.read(MAX_HEADER_BYTES), MAX_HEADER_BYTES)), syntax)
        window = file.seek(0, 2)
        if window <= meta.data_offset:
            raise NotDICOM("there is no data set behind the File Meta Information")
        with mmap.mmap(file.fileno(), min(window, MAX_HEADER_BYTES), access=mmap.ACCESS_READ) as view:
            view.seek(meta.data_offset)
            return _read(_Window(view), syntax)


class _Window:
    """A mapped file that ends quietly: seeking behind its end is the end of the file, not an error."""

    def __init__(self, view: mmap.mmap) -> None:
        self._view = view
        self._size = len(view)
        self.read = view.read
        self.tell = view.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to ``offset`` or to the end, whichever comes first; return where."""
        base = (0, self._view.tell(), self._size)[whence]
        self._view.seek(max(0, min(base + offset, self._size)))
        return self._view.tell()


class _EndOfHeader:
    """Says where to stop reading; refuses what has more elements than any device writes: each costs time to parse."""

    def __init__(self) -> None:
        self._elements = 0

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise NotDICOM(f"the header has more than {MAX_ELEMENTS} elements: it is damaged or hostile")
        return int(tag) >= _PIXEL_DATA_GROUP


def _read(file: BytesIO | _Window, syntax: str) -> Dataset:
    return read_dataset(
        file,  # type: ignore[arg-type]  # pydicom reads, seeks and tells; _Window does no more than that
        syntax == IMPLICIT_LITTLE_ENDIAN,
        syntax != EXPLICIT_BIG_ENDIAN,
        stop_when=_EndOfHeader(),
        defer_size=DEFER_BYTES,
    )


def _header(ds: Dataset, meta: FileMeta) -> Header:
    elements = header_json(ds, first=_INDEXED)
    return Header(
        transfer_syntax_uid=meta.transfer_syntax_uid,
        sop_class_uid=_uid(elements, "00080016", "SOPClassUID (0008,0016)"),
        sop_instance_uid=_uid(elements, "00080018", "SOPInstanceUID (0008,0018)"),
        study_instance_uid=_uid(elements, "0020000D", "StudyInstanceUID (0020,000D)"),
        series_instance_uid=_uid(elements, "0020000E", "SeriesInstanceUID (0020,000E)"),
        patient=_patient(elements),
        accession_number=_text(elements, "00080050", 64),
        study_id=_text(elements, "00200010", 64),
        study_date=_text(elements, "00080020", 8),
        study_time=_text(elements, "00080030", 16),
        study_description=_text(elements, "00081030", 255),
        referring_physician=_text(elements, "00080090", 324),
        modality=_text(elements, "00080060", 16),
        series_number=_text(elements, "00200011", 16),
        series_description=_text(elements, "0008103E", 255),
        body_part=_text(elements, "00180015", 64),
        station_name=_text(elements, "00081010", 64),
        instance_number=_text(elements, "00200013", 16),
        number_of_frames=_frames(_text(elements, "00280008", 16)),
        modifying_systems=_modifying_systems(ds),
        elements=elements,
    )


def _uid(elements: Mapping[str, object], tag: str, name: str) -> UID:
    values = texts_of_entry(elements.get(tag))
    if not values:
        raise NotDICOM(f"{name} is missing or empty")
    try:
        return parse_uid(values[0])
    except InvalidValue as error:
        raise NotDICOM(f"{name} is no UID (PS3.5 9.1)") from error


def _patient(elements: Mapping[str, object]) -> PatientIdentity:
    name = elements.get("00100010")
    values = name.get("Value") if isinstance(name, Mapping) else None
    groups = values[0] if isinstance(values, list) and isinstance(values[0], Mapping) else {}
    alphabetic, ideographic, phonetic = (clean(str(groups.get(g, "")), 324) for g in PERSON_NAME_GROUPS)
    return PatientIdentity(
        patient_id=_text(elements, "00100020", 64),
        issuer=_text(elements, "00100021", 64),
        name_alphabetic=alphabetic,
        name_ideographic=ideographic,
        name_phonetic=phonetic,
        birth_date=_text(elements, "00100030", 8),
        sex=_text(elements, "00100040", 16),
    )


def _modifying_systems(ds: Dataset) -> tuple[str, ...]:
    found: list[str] = []
    for item in sequence_items(ds, _ORIGINAL_ATTRIBUTES):
        found += texts_of_entry(header_json(item).get(_MODIFYING_SYSTEM))
    return tuple(clean(value, 64) for value in found)


def _text(elements: Mapping[str, object], tag: str, length: int) -> str:
    values = texts_of_entry(elements.get(tag))
    return clean(values[0], length) if values else ""


def clean(text: str, length: int) -> str:
    """Return ``text`` without control characters and lone surrogates, blanks joined, cut to ``length``
    characters.
    """
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:length].rstrip()


def _frames(text: str) -> int:
    """Return the number of frames; 1 for absent or nonsense, and never more than the column takes."""
    return min(max(int(text), 1), 2**31 - 1) if text.isascii() and text.isdigit() else 1
