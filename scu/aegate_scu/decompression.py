"""Compressed pixel data of a file decompressed frame by frame into a file: one frame stands in memory at a time."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID

from aegate_core.dicom.top_level import UNDEFINED, Encoding, Reader, is_implicit, top_level
from aegate_scu.reencoding import PIXEL_DATA, TooLargeToConvert, Value

MAX_FRAME_BYTES = 64 << 20
"""Of one frame, as it comes and decompressed. A decoder holds it several times: mammograms have 50 MB."""
MAX_PIXEL_DATA_BYTES = (1 << 32) - 2
"""PS3.5 8.1.1: an explicit length has 32 bits."""

_PHOTOMETRIC, _PLANAR, _FRAMES = 0x00280004, 0x00280006, 0x00280008
_OFFSET_TABLE, _OFFSET_TABLE_LENGTHS = 0x7FE00001, 0x7FE00002
"""The Extended Offset Table says where fragments lie: native pixel data has none."""


@contextmanager
def decompressed(
    file: BinaryIO, offset: int, transfer_syntax: str, scratch: Path
) -> Iterator[dict[int, Value | None]]:
    """Give the elements that take the place of those of the compressed object; none when it has no pixel data.

    The object stays the same SOP instance: only its encoding changes (PS3.5 10.1). Raises CannotConvert, and whatever
    pydicom and its plugins raise for what they cannot decode.
    """
    found = _find(file, offset)
    if found is None:
        yield {}
        return
    described, at = found
    with tempfile.TemporaryFile(dir=scratch) as made:
        properties: dict[str, str | int] = {}
        frames, length = 0, 0
        options = as_pixel_options(described, pixel_keyword="PixelData", pixel_vr="OB")
        options["transfer_syntax_uid"] = UID(transfer_syntax)
        file.seek(at)
        for frame, said in get_decoder(UID(transfer_syntax)).iter_array(file, **options):
            frames, length, properties = frames + 1, length + frame.nbytes, said
            if length > MAX_PIXEL_DATA_BYTES:
                raise TooLargeToConvert("decompressed pixel data would be longer than PS3.5 allows")
            made.write(frame.tobytes())
        made.write(bytes(length % 2))
        made.flush()
        pixels = Value(b"OB" if described.BitsAllocated <= 8 else b"OW", made, length + length % 2)
        yield _instead(described, pixels, properties, frames)


def _find(file: BinaryIO, offset: int) -> tuple[Dataset, int] | None:
    """Return what describes the pixels, and where the fragments begin. Raises TooLargeToConvert."""
    encoding = Encoding(is_implicit=False, is_little_endian=True)
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        described, at = Dataset(), offset
        for element in top_level(data, offset, encoding):
            if element.tag.group == 0x0028:
                described[element.tag] = element
        reader = Reader(data, encoding, is_implicit=is_implicit(data, offset, encoding))
        while (head := reader.head(at)) is not None and head.tag != PIXEL_DATA:
            at = reader.end_of_value(head)
        if head is None:
            return None
        _check_frames(described, head.value_at, reader)
        return described, head.value_at


def _check_frames(described: Dataset, at: int, reader: Reader) -> None:
    """Raise TooLargeToConvert where a frame would cost too much memory, compressed or not."""
    pixels = int(described.Rows) * int(described.Columns) * int(described.get("SamplesPerPixel", 1))
    longest = total = 0
    while (head := reader.head(at)) is not None and head.length != UNDEFINED and head.tag == 0xFFFEE000:
        longest, total, at = max(longest, head.length), total + head.length, head.value_at + head.length
    frames = max(int(described.get("NumberOfFrames") or 1), 1)
    if max(pixels * (int(described.BitsAllocated) // 8 or 1), longest, total // frames) > MAX_FRAME_BYTES:
        raise TooLargeToConvert(
            f"a frame of more than {MAX_FRAME_BYTES >> 20} MiB is not decompressed: the object is sent only to a peer "
            "that takes it as it is"
        )


def _instead(
    described: Dataset, pixels: Value, properties: dict[str, str | int], frames: int
) -> dict[int, Value | None]:
    instead: dict[int, Value | None] = {
        PIXEL_DATA: pixels,
        _OFFSET_TABLE: None,
        _OFFSET_TABLE_LENGTHS: None,
        _PHOTOMETRIC: _value(b"CS", str(properties["photometric_interpretation"]).encode()),
    }
    if int(properties["samples_per_pixel"]) > 1:
        instead[_PLANAR] = _value(b"US", int(properties["planar_configuration"]).to_bytes(2, "little"))
    if "NumberOfFrames" in described or frames > 1:
        instead[_FRAMES] = _value(b"IS", str(frames).encode())
    return instead


def _value(vr: bytes, content: bytes) -> Value:
    padded = content + b" " * (len(content) % 2)
    return Value(vr, BytesIO(padded), len(padded))
