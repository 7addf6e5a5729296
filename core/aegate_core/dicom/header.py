"""The header of a received object: what the index stores in columns, and the rest as DICOM JSON.

Read up to the pixel data, in bounded memory and time however large the object is or claims to be. Everything comes
out clean: no NUL, no control characters, no value longer than its column, so that nothing a device sends
can make the database refuse it. What cannot be parsed raises NotDICOM with a reason that names elements and
never carries a value.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from aegate_core.dicom.elements import texts_of_entry
from aegate_core.dicom.identifiers import UID, parse_uid
from aegate_core.dicom.json_model import JSON, PERSON_NAME_GROUPS, UNPARSABLE, header_json, sequence_texts
from aegate_core.dicom.part10 import FileMeta, read_file_meta
from aegate_core.dicom.top_level import Encoding, top_level
from aegate_core.errors import InvalidValue, NotDICOM

MAX_INFLATED_BYTES = 32 << 20
"""Of a deflated data set, which can only be read from its beginning; what is behind is not looked at."""
_CHUNK_BYTES = 64 * 1024
_INFLATED_CHUNK_BYTES = 1 << 20

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
DEFLATED_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"

_UNPARSABLE = (*UNPARSABLE, zlib.error, RecursionError)
"""OSError and MemoryError are no fault of the object."""

_SERIES_INSTANCE_UID = 0x0020000E
_ORIGINAL_ATTRIBUTES = 0x04000561
_MODIFYING_SYSTEM = 0x04000563

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


def _read_elements(file: BinaryIO, meta: FileMeta) -> Dataset:
    syntax = meta.transfer_syntax_uid
    encoding = Encoding(syntax == IMPLICIT_LITTLE_ENDIAN, syntax != EXPLICIT_BIG_ENDIAN)
    if syntax == DEFLATED_LITTLE_ENDIAN:
        file.seek(meta.data_offset)
        inflated = _inflate(file)
        ds = _data_set(top_level(inflated, 0, encoding))
        if len(inflated) == MAX_INFLATED_BYTES and _SERIES_INSTANCE_UID not in ds:
            raise NotDICOM(
                f"the header of the deflated data set is longer than {MAX_INFLATED_BYTES >> 20} MiB"
            )
        return ds
    if file.seek(0, 2) <= meta.data_offset:
        raise NotDICOM("there is no data set behind the File Meta Information")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return _data_set(top_level(view, meta.data_offset, encoding))


def _data_set(elements: Iterable[RawDataElement]) -> Dataset:
    return Dataset({element.tag: element for element in elements})


def _inflate(file: BinaryIO) -> bytearray:
    """Return what the rest of ``file`` inflates to, up to `MAX_INFLATED_BYTES`."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = bytearray()
    while len(inflated) < MAX_INFLATED_BYTES and not inflate.eof:
        deflated = inflate.unconsumed_tail or file.read(_CHUNK_BYTES)
        if not deflated:
            break
        room = min(_INFLATED_CHUNK_BYTES, MAX_INFLATED_BYTES - len(inflated))
        inflated += inflate.decompress(deflated, room)
    return inflated


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
    return tuple(clean(text, 64) for text in sequence_texts(ds, _ORIGINAL_ATTRIBUTES, _MODIFYING_SYSTEM))


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
