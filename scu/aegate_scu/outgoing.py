"""The one place where the bytes that go out are made, from what arrived and what the destination takes.

What the peer takes as it is goes as it is: the stored bytes, never decoded. Otherwise the data set is written
anew into a file without a name: Explicit and Implicit VR into each other, Big Endian and Deflated into Little Endian,
compressed pixel data decompressed frame by frame. However large an object is, it stands in memory nowhere.
Text elements keep their bytes, whatever their character set: decoding a wrong one would lose what it cannot read.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from pydicom import config
from pydicom.errors import InvalidDicomError

from aegate_core.decisions.contexts import DEFLATED_LE, EXPLICIT_BE, IMPLICIT_LE, NATIVE
from aegate_core.dicom.digest import digest_data_set
from aegate_core.dicom.part10 import read_file_meta
from aegate_core.dicom.top_level import Encoding
from aegate_core.errors import NotDICOM, StorageError
from aegate_scu.decompression import decompressed
from aegate_scu.reencoding import (
    CHUNK_BYTES,
    CannotConvert,
    Source,
    TooLargeToConvert,
    Value,
    reencode,
)

config.settings.reading_validation_mode = config.IGNORE
config.settings.writing_validation_mode = config.IGNORE
# What arrived goes on as it is; pydicom's warnings about it would put values of it into a log.

MAX_INFLATED_BYTES = 512 << 20
"""Of a deflated object that has to be converted, on the disk. By feel: reports; a bomb of 2 MB makes 2 GiB."""


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
    """What goes out: a file from an offset on, there as long as the block of `outgoing` lasts."""

    path: Path
    offset: int
    sha256: str | None = None
    """Digest of what was made for this destination; None where the stored bytes go."""


@contextmanager
def outgoing(arrival: Stored, target_syntax: str, scratch: Path) -> Iterator[Outgoing]:
    """Give the data set's bytes of ``arrival`` for ``target_syntax``, whose source is read once before, as a check.

    What has to be converted takes room in the folder ``scratch`` meanwhile. Raises CannotConvert, DecoderLost; OSError
    where the file is not readable; BlobDamaged or NotDICOM where it is not what arrived.
    """
    with arrival.path.open("rb") as file:
        offset = read_file_meta(file).data_offset
        if digest_data_set(arrival.path, offset) != arrival.sha256:
            raise BlobDamaged(
                "a stored object must have the digest it arrived with, got another: restore the blob"
            )
        if arrival.transfer_syntax == target_syntax:
            yield Outgoing(arrival.path, offset)
            return
        with tempfile.TemporaryFile(dir=scratch) as made:
            source = _Opened(arrival.transfer_syntax, file, offset, scratch)
            sha256 = _converted(source, made, implicit=target_syntax == IMPLICIT_LE)
            made.flush()
            # It has no other name, so nothing of it can be left over.
            yield Outgoing(Path(f"/dev/fd/{made.fileno()}"), 0, sha256)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A stored object that has to be converted, and where that may take room."""

    syntax: str
    file: BinaryIO
    offset: int
    scratch: Path


def _converted(opened: _Opened, made: IO[bytes], *, implicit: bool) -> str:
    """Write the data set anew into ``made`` and return its digest. Raises CannotConvert, OSError."""
    syntax, file, offset = opened.syntax, opened.file, opened.offset
    try:
        with ExitStack() as stack:
            instead: dict[int, Value | None] = {}
            if syntax == DEFLATED_LE:
                file, offset = stack.enter_context(_inflated(file, offset, opened.scratch)), 0
            elif syntax not in NATIVE:
                instead = stack.enter_context(decompressed(file, offset, syntax, opened.scratch))
            encoding = Encoding(is_implicit=syntax == IMPLICIT_LE, is_little_endian=syntax != EXPLICIT_BE)
            return reencode(Source(file, offset, encoding), made, implicit=implicit, instead=instead)
    except CannotConvert:
        raise
    except (
        ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, NotImplementedError, OverflowError,
        EOFError, OSError, InvalidDicomError, NotDICOM, struct.error, zlib.error,
    ) as error:  # fmt: skip # pydicom and its plugins raise all of these for objects that they cannot decode
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the object
        raise CannotConvert(
            f"object cannot be converted from {syntax} ({type(error).__name__}): the peer takes no "
            "syntax of it"
        ) from error


@contextmanager
def _inflated(file: BinaryIO, offset: int, scratch: Path) -> Iterator[BinaryIO]:
    """Give the inflated data set as a file without a name. Raises CannotConvert, zlib.error."""
    inflate, size_bytes = zlib.decompressobj(-zlib.MAX_WBITS), 0
    file.seek(offset)
    with tempfile.TemporaryFile(dir=scratch) as made:
        while not inflate.eof and (deflated := inflate.unconsumed_tail or file.read(CHUNK_BYTES)):
            content = inflate.decompress(deflated, CHUNK_BYTES)
            size_bytes += len(content)
            if size_bytes > MAX_INFLATED_BYTES:
                raise TooLargeToConvert(
                    f"deflated object inflates to more than {MAX_INFLATED_BYTES >> 20} MiB: it is sent only to a peer "
                    "that takes the Deflated transfer syntax"
                )
            made.write(content)
        made.flush()
        yield made
