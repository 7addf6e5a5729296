"""The one place where the bytes that go out are made, from what arrived and what the destination takes.

What the peer takes as it is goes as it is: the stored bytes, never decoded. Otherwise the data set is written
anew: Explicit and Implicit VR into each other, Big Endian and Deflated into Little Endian, compressed pixel data
decompressed.
Text elements keep their bytes, whatever their character set: decoding a wrong one would lose what it cannot read.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import config, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag

from aegate_core.decisions.contexts import IMPLICIT_LE, NATIVE
from aegate_core.dicom.digest import digest_data_set
from aegate_core.dicom.header import DEFLATED_LITTLE_ENDIAN
from aegate_core.dicom.part10 import read_file_meta
from aegate_core.errors import AegateError, StorageError

config.settings.reading_validation_mode = config.IGNORE
config.settings.writing_validation_mode = config.IGNORE
# What arrived goes on as it is; pydicom's warnings about it would put values of it into a log.

_AS_THEY_ARE = frozenset(
    [
        "AE",
        "AS",
        "CS",
        "DA",
        "DS",
        "DT",
        "IS",
        "LO",
        "LT",
        "OB",
        "PN",
        "SH",
        "ST",
        "TM",
        "UC",
        "UI",
        "UN",
        "UR",
        "UT",
    ]
)
"""VRs whose bytes are the same in every native transfer syntax (PS3.5 7.3)."""

MAX_INFLATED_BYTES = 512 << 20
"""Of a deflated object that has to be converted, in memory. By feel: those are reports; a bomb of 2 MB makes 2 GiB."""
_CHUNK_BYTES = 1 << 20

_WORDS = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}
_ITEM, _ITEM_END, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"
_UNDEFINED = b"\xff\xff\xff\xff"


class CannotConvert(AegateError):
    """An object cannot be brought into a transfer syntax that the peer takes; the text holds no value of it."""

    code = "TRANSCODING_FAILED"


class BlobDamaged(StorageError):
    """What our storage gives is not what arrived: it is not sent."""

    code = "BLOB_DAMAGED"


@dataclass(frozen=True, slots=True)
class Stored:
    """An arrival as it lies in our storage."""

    path: Path
    transfer_syntax: str
    sha256: str
    """Of its data set, taken when it arrived."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What goes out: a part of a stored file, or bytes made for this destination."""

    path: Path | None
    offset: int
    data: bytes = b""
    sha256: str | None = None
    """Digest of ``data``; None where the stored bytes go."""


def outgoing(arrival: Stored, target_syntax: str) -> Outgoing:
    """Return the data set's bytes of ``arrival`` for ``target_syntax``, whose source is read once before, as a check.

    Raises CannotConvert; OSError where the file is not readable; BlobDamaged or NotDICOM where it is not what arrived.
    """
    with arrival.path.open("rb") as file:
        offset = read_file_meta(file).data_offset
    if digest_data_set(arrival.path, offset) != arrival.sha256:
        raise BlobDamaged(
            "a stored object must have the digest it arrived with, got another: restore the blob"
        )
    if arrival.transfer_syntax == target_syntax:
        return Outgoing(arrival.path, offset)
    data = _converted(arrival, implicit=target_syntax == IMPLICIT_LE)
    return Outgoing(None, 0, data, hashlib.sha256(data).hexdigest())


def _converted(arrival: Stored, *, implicit: bool) -> bytes:
    if arrival.transfer_syntax == DEFLATED_LITTLE_ENDIAN:
        _check_inflated_size(arrival.path)
    try:
        dataset = dcmread(arrival.path)
        if arrival.transfer_syntax not in NATIVE and "PixelData" in dataset:
            # The object stays the same SOP instance: only its encoding changes (PS3.5 10.1).
            dataset.decompress(generate_instance_uid=False)
        return _encoded(dataset, implicit=implicit)
    except (
        ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, NotImplementedError, OverflowError,
        EOFError, OSError, InvalidDicomError, struct.error, zlib.error,
    ) as error:  # fmt: skip # pydicom and its plugins raise all of these for objects that they cannot decode
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the object
        raise CannotConvert(
            f"object cannot be converted from {arrival.transfer_syntax} ({type(error).__name__}): the peer takes no "
            "syntax of it"
        ) from error


def _check_inflated_size(path: Path) -> None:
    """Inflate without keeping it, for pydicom would keep all. Raises CannotConvert when it is too much."""
    inflate, size_bytes = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(read_file_meta(file).data_offset)
        while not inflate.eof and (deflated := inflate.unconsumed_tail or file.read(_CHUNK_BYTES)):
            try:
                size_bytes += len(inflate.decompress(deflated, _CHUNK_BYTES))
            except zlib.error:
                return  # pydicom will say so
            if size_bytes > MAX_INFLATED_BYTES:
                raise CannotConvert(
                    f"deflated object inflates to more than {MAX_INFLATED_BYTES >> 20} MiB: it is sent only to a peer "
                    "that takes the Deflated transfer syntax"
                )


def _encoded(dataset: Dataset, *, implicit: bool) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian = True
    buffer.is_implicit_VR = implicit
    _write(buffer, dataset)
    return bytes(buffer.getvalue())


def _write(buffer: DicomBytesIO, dataset: Dataset) -> None:
    """Write all elements but retired group lengths (PS3.5 7.2), in the order of their tags."""
    for tag in sorted(dataset.keys()):
        if tag.element == 0 and tag.group > 6:
            continue
        raw = dataset.get_item(tag)
        vr = _vr_of(raw, dataset)
        if isinstance(raw, RawDataElement) and vr in _AS_THEY_ARE:
            write_data_element(buffer, raw._replace(VR=vr))
            continue
        big = isinstance(raw, RawDataElement) and not raw.is_little_endian
        element = dataset[tag]
        if element.VR == "SQ":
            _write_sequence(buffer, element)
            continue
        if big and element.VR in _WORDS and isinstance(element.value, bytes):
            element.value = _swapped(element.value, _word_bytes(element, dataset))
        write_data_element(buffer, element, dataset._character_set)


def _vr_of(raw: RawDataElement | DataElement, dataset: Dataset) -> str | None:
    if raw.VR is not None:
        return str(raw.VR)
    if raw.tag.is_private:
        return str(dataset[raw.tag].VR)
    try:
        return dictionary_VR(raw.tag)
    except KeyError:
        return "UN"


def _write_sequence(buffer: DicomBytesIO, element: DataElement) -> None:
    """Write a sequence and its items with undefined lengths: no second pass, and right for any size."""
    _write_header(buffer, element.tag)
    for item in element.value:
        buffer.write(_ITEM + _UNDEFINED)
        _write(buffer, item)
        buffer.write(_ITEM_END + bytes(4))
    buffer.write(_SEQUENCE_END + bytes(4))


def _write_header(buffer: DicomBytesIO, tag: BaseTag) -> None:
    buffer.write_tag(tag)
    if not buffer.is_implicit_VR:
        buffer.write(b"SQ\0\0")
    buffer.write(_UNDEFINED)


def _word_bytes(element: DataElement, dataset: Dataset) -> int:
    """Return the size of the words of an element; pixels of 32 bits are swapped whole, as senders of them do."""
    if element.keyword == "PixelData":
        return max(2, int(dataset.get("BitsAllocated", 16)) // 8)
    return _WORDS[element.VR]


def _swapped(value: bytes, word_bytes: int) -> bytes:
    """Return big-endian words as little-endian ones; a tail shorter than a word stays."""
    whole = len(value) - len(value) % word_bytes
    swapped = np.frombuffer(value[:whole], dtype=f">u{word_bytes}").astype(f"<u{word_bytes}").tobytes()
    return swapped + value[whole:]
