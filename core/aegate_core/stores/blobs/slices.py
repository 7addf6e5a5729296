"""A piece of a file as a file of its own, for a client that wants to read, rewind and measure what it sends."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import BinaryIO


class Slice(io.RawIOBase):
    """``size_bytes`` of an open file from ``begin`` on; it has a place of its own, and does not move the file's.

    ``moved`` is called whenever some of it was read: on a slow line that is the only sign of life of a request.
    """

    def __init__(self, file: BinaryIO, begin: int, size_bytes: int, moved: Callable[[], None]) -> None:
        super().__init__()
        self._file = file
        self._begin = begin
        self._size_bytes = size_bytes
        self._at = 0
        self._moved = moved

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be rewound."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # any writable buffer
        """Fill a buffer as far as there is something; return how much."""
        wanted = min(len(buffer), self._size_bytes - self._at)
        if wanted <= 0:
            return 0
        count = os.preadv(self._file.fileno(), [memoryview(buffer)[:wanted]], self._begin + self._at)
        self._at += count
        self._moved()
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place of the slice."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return the place in the slice."""
        return self._at
