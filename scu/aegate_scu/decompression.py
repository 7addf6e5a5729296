"""Compressed pixel data of a file in a file of its own, decompressed, with the elements that describe it then."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

from aegate_scu.decoders import Order, decode, seconds_for
from aegate_scu.reencoding import PIXEL_DATA, Value


@contextmanager
def decompressed(
    file: BinaryIO, offset: int, transfer_syntax: str, scratch: Path
) -> Iterator[dict[int, Value | None]]:
    """Give the elements that take the place of those of the compressed object; none when it has no pixel data.

    The object stays the same SOP instance: only its encoding changes (PS3.5 10.1). Raises CannotConvert, DecoderLost;
    OSError where a file cannot be read or written.
    """
    with tempfile.TemporaryFile(dir=scratch) as made:
        order = Order(offset, transfer_syntax, seconds_for(os.fstat(file.fileno()).st_size))
        said = decode(order, file, cast("BinaryIO", made))
        instead: dict[int, Value | None] = {}
        for tag, vr, value in said["elements"]:
            content = None if value is None else bytes.fromhex(value)
            instead[tag] = None if content is None else Value(vr.encode(), BytesIO(content), len(content))
        if said["pixels"] is not None:
            length = os.fstat(made.fileno()).st_size
            instead[PIXEL_DATA] = Value(said["pixels"].encode(), made, length)
        yield instead
