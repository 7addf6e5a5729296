"""A connection read through one preallocated buffer, and waited for together with a wake-up descriptor.

Nothing is allocated by a length that a peer names. Sending stays with pynetdicom.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable

BUFFER_BYTES = 256 * 1024
"""More than two PDUs of the size we negotiate; one an association."""

QUICKACK = getattr(socket, "TCP_QUICKACK", None)
"""Linux: a sender with Nagle on waits for our delayed ACK, 40 ms an instance; asked for anew after each read."""


class ConnectionLost(Exception):
    """The peer closed, or the connection broke."""


class Interrupted(Exception):
    """We were woken to abort while in the middle of a PDU."""


class Wire:
    """Read from ``sock`` in one thread; `wake` from any."""

    def __init__(
        self, sock: socket.socket, *, is_interrupted: Callable[[], bool], on_data: Callable[[], None]
    ) -> None:
        """``is_interrupted`` is asked after each wake-up, ``on_data`` called after each read."""
        self._socket = sock
        self._is_interrupted = is_interrupted
        self._on_data = on_data
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._low = self._high = 0
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wake_lock = threading.Lock()
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._poll.register(sock, select.POLLIN)

    @property
    def has_data(self) -> bool:
        """Say whether bytes were read that nobody has taken."""
        return self._high > self._low

    def wake(self) -> None:
        """Let a waiting reader look around. Harmless after `close`."""
        with self._wake_lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for data, a wake-up or the time; return whether the socket can be read."""
        if self._is_pending():
            return True
        ready = self._poll.poll(None if timeout_s is None else max(0, int(timeout_s * 1000) + 1))
        descriptors = {descriptor for descriptor, _ in ready}
        if self._wake in descriptors:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
        return bool(descriptors - {self._wake})

    def take(self, count: int) -> bytes:
        """Return exactly ``count`` bytes, at most the buffer's size. Raises ConnectionLost, Interrupted."""
        while self._high - self._low < count:
            self._fill()
        self._low += count
        return bytes(self._buffer[self._low - count : self._low])

    def some(self, limit: int) -> memoryview:
        """Return 1 to ``limit`` bytes, valid until the next call. Raises ConnectionLost, Interrupted."""
        if not self.has_data:
            self._fill()
        end = min(self._high, self._low + limit)
        data = self._buffer[self._low : end]
        self._low = end
        return data

    def discard(self) -> bool:
        """Read and forget what has come; return False at the connection's end. Call after `wait` said True."""
        self._low = self._high = 0
        try:
            return self._socket.recv_into(self._buffer) > 0
        except (OSError, ValueError):
            return False

    def close(self) -> None:
        """Give descriptor and buffer back; a late `wake` must not write into a file that got the number."""
        with self._wake_lock:
            os.close(self._wake)
            self._wake = -1
        self._buffer = memoryview(bytearray())

    def _fill(self) -> None:
        if self._low == self._high:
            self._low = self._high = 0
        elif self._low:
            count = self._high - self._low
            self._buffer[:count] = bytes(self._buffer[self._low : self._high])
            self._low, self._high = 0, count
        while not self.wait(None):
            if self._is_interrupted():
                raise Interrupted
        try:
            count = self._socket.recv_into(self._buffer[self._high :])
            if QUICKACK is not None:
                self._socket.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except (OSError, ValueError) as error:
            raise ConnectionLost from error
        if not count:
            raise ConnectionLost
        self._high += count
        self._on_data()

    def _is_pending(self) -> bool:
        """Say whether TLS has decrypted data that the socket's descriptor does not show."""
        try:
            return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0
        except (OSError, ValueError):
            return False
