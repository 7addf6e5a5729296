"""Decoders in processes of their own: they are C and C++, and one damaged byte of an image makes them crash or go on.

The surprise: what dies over such an image is a decoder process, so its object is refused, and no other notices. They
are kept for the next object; one that is idle ends when its worker does, one at work when its time is up.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from aegate_core.errors import AegateError
from aegate_scu.reencoding import CannotConvert, TooLargeToConvert

LEAST_SECONDS = 20
SECONDS_A_MIB = 5
"""Of processor time for one object. By feel: a hundred times what JPEG 2000 takes."""

WALL_SHARE = 10
"""So many times as long it may take on a machine that is busy."""

IDLE = 2
"""How many are kept. By feel: each holds 50 MB, and to start one takes half a second."""

MOST_REPLY_BYTES = 64 * 1024

_TIME_IS_UP = frozenset((signal.SIGPROF, signal.SIGALRM))
_CRASHES = frozenset((signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL))
"""How a process ends over what it decodes. Any other signal comes from somebody else."""


class DecoderLost(AegateError):
    """A decoder process was killed, or could not be started: that says nothing of the object."""

    code = "DECODER_LOST"


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be decoded: the pixel data of a file that is given as a descriptor."""

    offset: int
    """Of the data set."""
    transfer_syntax: str
    seconds: int
    """Of processor time."""


def seconds_for(size_bytes: int) -> int:
    """Return how long an object of this size may be decoded."""
    return LEAST_SECONDS + SECONDS_A_MIB * (size_bytes >> 20)


def decode(order: Order, file: BinaryIO, made: BinaryIO) -> Mapping[str, Any]:
    """Let the frames of ``file`` be written to ``made``, and return what `decoding.decode` says of them. Blocks.

    Raises CannotConvert, DecoderLost; OSError where a file cannot be read or written.
    """
    process = _take()
    try:
        said = process.ask(order, file, made)
    except BaseException:
        process.end()
        raise
    if said is None:
        raise process.why_ended(order)
    if "errno" not in said and "refused" not in said:
        _give_back(process)
        return said
    process.end()  # what an image that cannot be decoded did to it, nobody knows
    if "errno" in said:
        raise OSError(said["errno"], os.strerror(said["errno"]))
    raise (TooLargeToConvert if said["too_large"] else CannotConvert)(said["refused"])


class _Process:
    """One decoder process; it serves one order at a time."""

    def __init__(self) -> None:
        try:
            self._ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise _not_started(error) from error
        with its:
            try:
                # What libraries print is lost on purpose: they quote what they cannot read.
                self._child = subprocess.Popen(
                    [sys.executable, "-m", "aegate_scu.decoder"],
                    stdin=its.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            except OSError as error:
                self._ours.close()
                raise _not_started(error) from error

    @property
    def is_alive(self) -> bool:
        return self._child.poll() is None

    def ask(self, order: Order, file: BinaryIO, made: BinaryIO) -> dict[str, Any] | None:
        """Return its answer; None when it ended over it."""
        try:
            socket.send_fds(self._ours, [json.dumps(asdict(order)).encode()], [file.fileno(), made.fileno()])
            said = self._ours.recv(MOST_REPLY_BYTES)
        except (BrokenPipeError, ConnectionResetError):
            return None
        answer: dict[str, Any] | None = json.loads(said) if said else None
        return answer

    def end(self) -> int:
        """End it at once, whatever it does; return its exit code."""
        self._child.kill()
        self._ours.close()
        return self._child.wait()

    def why_ended(self, order: Order) -> AegateError:
        """Return what its end says of the object."""
        self._ours.close()
        code = self._child.wait()
        if -code in _TIME_IS_UP:
            return TooLargeToConvert(f"pixel data takes longer than {order.seconds} s to decode")
        if -code in _CRASHES:
            return CannotConvert(
                f"pixel data cannot be decoded: its decoder ended with {signal.Signals(-code).name}"
            )
        return DecoderLost(f"a decoder must live until it has answered, got exit code {code}: try again")


def _not_started(error: OSError) -> DecoderLost:
    return DecoderLost(
        f"a decoder must be started, got {error.strerror}: look at memory, descriptors and files"
    )


_lock = threading.Lock()
_idle: list[_Process] = []


def _take() -> _Process:
    """Return one that waits for an order; a new one where none does."""
    while True:
        with _lock:
            process = _idle.pop() if _idle else None
        if process is None:
            return _Process()
        if process.is_alive:
            return process
        process.end()


def _give_back(process: _Process) -> None:
    with _lock:
        if len(_idle) < IDLE:
            _idle.append(process)
            return
    process.end()


@atexit.register
def _end_idle() -> None:
    while _idle:
        _idle.pop().end()
