"""Compressed pixel data of a file decoded frame by frame into a file: one frame stands in memory at a time."""

from __future__ import annotations

import mmap
from typing import Any, BinaryIO

from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID

from aegate_core.dicom.top_level import UNDEFINED, Encoding, Reader, is_implicit, top_level
from aegate_scu.reencoding import PIXEL_DATA, TooLargeToConvert

MAX_FRAME_BYTES = 64 << 20
"""Of one frame, as it comes and decompressed. A decoder holds it several times: mammograms have 50 MB."""
MAX_PIXEL_DATA_BYTES = (1 << 32) - 2
"""PS3.5 8.1.1: an explicit length has 32 bits."""

_PHOTOMETRIC, _PLANAR, _FRAMES = 0x00280004, 0x00280006, 0x00280008
_OFFSET_TABLE, _OFFSET_TABLE_LENGTHS = 0x7FE00001, 0x7FE00002
"""The Extended Offset Table says where fragments lie: native pixel data has none."""


def decode(file: BinaryIO, offset: int, transfer_syntax: str, made: BinaryIO) -> dict[str, Any]:
    """Write the frames of a compressed object to ``made``; return what describes them, as JSON has it.

    ``pixels`` is the VR, None where the object has no pixel data; ``elements`` are those that take the place of its
    own: tag, VR and value in hex, or None for one that goes. Raises CannotConvert, and whatever pydicom and its plugins
    raise for what they cannot decode: in a decoder process, where they may crash or never return.
    """
    found = _find(file, offset)
    if found is None:
        return {"pixels": None, "elements": []}
    described, at = found
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
    return {
        "pixels": "OB" if described.BitsAllocated <= 8 else "OW",
        "elements": _instead(described, properties, frames),
    }


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
    described: Dataset, properties: dict[str, str | int], frames: int
) -> list[tuple[int, str, str | None]]:
    instead = [
        (_OFFSET_TABLE, "OV", None),
        (_OFFSET_TABLE_LENGTHS, "OV", None),
        _value(_PHOTOMETRIC, "CS", str(properties["photometric_interpretation"]).encode()),
    ]
    if int(properties["samples_per_pixel"]) > 1:
        planar = int(properties["planar_configuration"]).to_bytes(2, "little")
        instead.append(_value(_PLANAR, "US", planar))
    if "NumberOfFrames" in described or frames > 1:
        instead.append(_value(_FRAMES, "IS", str(frames).encode()))
    return instead


def _value(tag: int, vr: str, content: bytes) -> tuple[int, str, str | None]:
    return tag, vr, (content + b" " * (len(content) % 2)).hex()
