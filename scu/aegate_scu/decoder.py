"""``python -m aegate_scu.decoder``: decodes what it is asked to over its standard input, a socket, until that closes.

Whatever an object can do to a process, it does to this one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aegate_core.core_dumps import forbid_core_dumps
from aegate_scu.decoders import MOST_REPLY_BYTES, WALL_SHARE, Order
from aegate_scu.decoding import decode
from aegate_scu.reencoding import CannotConvert, TooLargeToConvert

MOST_MEMORY_BYTES = 4 << 30
"""Of address space. By feel: libraries take half a GiB of it, a frame of 64 MiB some times its size."""


def main() -> None:
    """Serve orders until there are no more."""
    _limit()
    warnings.simplefilter("ignore")  # pydicom's quote values of data sets
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as orders:
        while True:
            asked, descriptors, _, _ = socket.recv_fds(orders, MOST_REPLY_BYTES, 2)
            if not asked:
                return
            with _ending_with_worker(orders):
                answer = _serve(Order(**json.loads(asked)), *descriptors)
            orders.send(json.dumps(answer).encode())


def _limit() -> None:
    """Run out of memory before the worker does, and leave no core: an image would be in it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal sends them to all; the worker finishes its object
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = MOST_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, MOST_MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    forbid_core_dumps()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # Linux: whom to kill first


@contextlib.contextmanager
def _ending_with_worker(orders: socket.socket) -> Iterator[None]:
    """Let SIGIO end this process, in the middle of a decoder as anywhere, when nobody holds the other end any more."""
    fcntl.fcntl(orders, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(orders, fcntl.F_GETFL)
    fcntl.fcntl(orders, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        if select.select([orders], [], [], 0)[0]:
            raise SystemExit  # nothing but its end can have come, just before
        yield
    finally:
        fcntl.fcntl(orders, fcntl.F_SETFL, flags)


def _serve(order: Order, source: int, target: int) -> dict[str, Any]:
    _may_take(order.seconds)
    try:
        # What a disk does not take is written once more when the file is closed, and fails again.
        with os.fdopen(source, "rb") as file, os.fdopen(target, "wb") as made:
            return decode(file, order.offset, order.transfer_syntax, made)
    except CannotConvert as error:
        return {"refused": error.message, "too_large": isinstance(error, TooLargeToConvert)}
    except Exception as error:  # the outermost place: the disk, or this object brought it about
        number = error.errno if isinstance(error, OSError) else None
        too_large = isinstance(error, MemoryError) or number == errno.ENOMEM
        if number is not None and not too_large:
            return {"errno": number}
        refused = f"pixel data cannot be decoded from {order.transfer_syntax} ({type(error).__name__})"
        return {"refused": refused, "too_large": too_large}
    finally:
        _may_take(0)


def _may_take(seconds: int) -> None:
    """Let the kernel end this process when an object has taken so long, in the middle of a decoder as anywhere."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(seconds * WALL_SHARE)


if __name__ == "__main__":
    main()
