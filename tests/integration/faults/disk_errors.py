"""A disk that fails when a test says so: which calls, on which paths, with which error, from when until when.

The calls fail in errors.c, below Python, SQLite and PostgreSQL; rules stand in a file that all processes map, so a
fault begins and ends while they work.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

from tests.integration.shims import build_shim

_RULES = 8
_RULE = struct.Struct("=iiqqqqq464s")
_IS_ON = struct.Struct("=i")
_COUNTS = struct.Struct("=qq")
_COUNTS_AT = 32


class Call(IntFlag):
    """Kinds of calls, as errors.c numbers them."""

    OPEN = 1
    CREATE = 2
    READ = 4
    WRITE = 8
    FSYNC = 16
    RENAME = 32
    LINK = 64
    UNLINK = 128
    MKDIR = 256
    TRUNCATE = 512
    LIST = 1024
    STAT = 2048
    ROOM = 4096
    """No call fails: the file system says that it has no byte left."""
    INODES = 8192
    """Likewise, no inode."""


CHANGES = Call.CREATE | Call.WRITE | Call.RENAME | Call.LINK | Call.UNLINK | Call.MKDIR | Call.TRUNCATE
"""What a read-only file system refuses."""
GROWS = Call.CREATE | Call.WRITE | Call.LINK | Call.MKDIR | Call.RENAME
"""What a full one refuses."""
EVERYTHING = CHANGES | Call.OPEN | Call.READ | Call.FSYNC | Call.LIST | Call.STAT


@dataclass(frozen=True)
class Fault:
    """One rule in force."""

    _rules: mmap.mmap
    _at: int

    @property
    def seen(self) -> int:
        """How many calls it looked at, over all processes."""
        return int(_COUNTS.unpack_from(self._rules, self._at + _COUNTS_AT)[0])

    @property
    def failed(self) -> int:
        """How many it let fail: a fault that met nothing proves nothing."""
        return int(_COUNTS.unpack_from(self._rules, self._at + _COUNTS_AT)[1])


class FaultyDisk:
    """The rules of a run, in a file that is there. `environ` is for the processes that shall meet them."""

    def __init__(self, rules: Path, shim: Path) -> None:
        self._file = rules
        self._shim = shim
        with rules.open("r+b") as file:
            self._rules = mmap.mmap(file.fileno(), 0)

    @classmethod
    def make(cls, folder: Path) -> FaultyDisk:
        """Build the layer in ``folder``, with no rule in force."""
        rules = folder / "errors.rules"
        rules.write_bytes(bytes(_RULES * _RULE.size))
        rules.chmod(0o666)  # PostgreSQL runs as somebody else where the tests run as root
        return cls(rules, build_shim(Path(__file__).with_name("errors.c"), folder))

    @classmethod
    def under_us(cls) -> FaultyDisk:
        """Return the one on which this process runs."""
        return cls(Path(os.environ["AEGATE_ERRORS"]), Path(os.environ["LD_PRELOAD"]))

    @property
    def environ(self) -> dict[str, str]:
        """Return what stands in the environment of a process on this disk."""
        return {"LD_PRELOAD": str(self._shim), "AEGATE_ERRORS": str(self._file)}

    @contextmanager
    def failing(
        self, error: int, calls: Call, glob: str | Path, *, first: int = 1, last: int = 0
    ) -> Iterator[Fault]:
        """Let calls on paths that match ``glob`` fail with ``error`` until the end of the block.

        Of the calls that match, counted from 1, only those from ``first`` to ``last`` (0: and all that follow).
        """
        at = next(n for n in range(0, len(self._rules), _RULE.size) if not self._is_on(n))
        _RULE.pack_into(self._rules, at, 0, error, calls, first, last, 0, 0, str(glob).encode())
        _IS_ON.pack_into(self._rules, at, 1)
        try:
            yield Fault(self._rules, at)
        finally:
            _IS_ON.pack_into(self._rules, at, 0)

    def _is_on(self, at: int) -> bool:
        return bool(_IS_ON.unpack_from(self._rules, at)[0])
