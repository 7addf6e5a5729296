"""A way to a receiver that comes and goes: a TCP proxy that passes, refuses, cuts or says nothing, as it is told."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum

from tests.integration.processes import free_port

CUT_AFTER_BYTES = 20_000
"""Of what goes to the receiver: an association is open by then, and an object under way."""
_RESET = struct.pack("ii", 1, 0)


class Mood(Enum):
    """What becomes of a connection."""

    PASSING = "passing"
    REFUSING = "refusing"
    CUTTING = "cutting"
    """It passes, and is reset in the middle of the first object or the next."""
    SILENT = "silent"
    """It is taken, and nothing is ever read from it."""


class Way:
    """A port of the loopback that leads to another one, while it is in the mood for it."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.mood = Mood.REFUSING
        self._target = ("127.0.0.1", target_port)
        self._server: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    def be(self, mood: Mood) -> None:
        """Change the mood; what is open breaks."""
        if self._server is not None:
            with suppress(OSError):
                self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
            self._server = None
        self.mood = mood
        with self._lock:
            for connection in self._open:
                _break(connection)
        if mood is not Mood.REFUSING:
            self._server = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self._server, mood), daemon=True).start()

    def _accept(self, server: socket.socket, mood: Mood) -> None:
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near, mood), daemon=True).start()

    def _serve(self, near: socket.socket, mood: Mood) -> None:
        with near:
            with self._lock:
                self._open.add(near)
            try:
                if mood is not self.mood:
                    _break(near)
                elif mood is Mood.SILENT:
                    _until_broken(near)
                else:
                    self._carry(near, CUT_AFTER_BYTES if mood is Mood.CUTTING else None)
            finally:
                with self._lock:
                    self._open.discard(near)

    def _carry(self, near: socket.socket, most_bytes: int | None) -> None:
        """Pass bytes both ways until either side ends, or so many have gone to the receiver."""
        carried = 0
        with suppress(OSError), socket.create_connection(self._target) as far:
            while True:
                for source in select.select([near, far], [], [])[0]:
                    content = source.recv(65536)
                    carried += len(content) if source is near else 0
                    if not content or (most_bytes is not None and carried > most_bytes):
                        _break(near)
                        return
                    (far if source is near else near).sendall(content)


def _break(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.shutdown(socket.SHUT_RDWR)


def _until_broken(connection: socket.socket) -> None:
    """Wait until this side was shut down, whatever the other side sends."""
    poller = select.poll()
    poller.register(connection, 0)
    poller.poll()


@contextmanager
def flapping_way(target_port: int) -> Iterator[Way]:
    """Lay a way, passing at first; nobody uses it afterwards."""
    way = Way(target_port)
    way.be(Mood.PASSING)
    try:
        yield way
    finally:
        way.be(Mood.REFUSING)
