"""The entrance: accept, TLS handshake and the whole A-ASSOCIATE-RQ of every connection, in one thread, without waiting.

A silent client costs a descriptor for ten seconds, never a thread and never another client's time. Only a connection
whose request is whole is shown to the host, which takes it over or names the PDU to send it away with.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Generator
from typing import Protocol

from aegate_core.events import CONNECTION_REFUSED, PROCESS_FAILED, Log
from aegate_scp.metrics import ListenerMetrics

REQUEST_TIMEOUT_S = 10.0
MAX_REQUEST_BYTES = 256 * 1024
"""128 contexts with each of the 45 transfer syntaxes that pynetdicom knows make 158 kB; memory comes as bytes come."""
MAX_PENDING_PER_ADDRESS = 16
MAX_PENDING = 256
"""Of all addresses; chosen by feel, well below the usual 1,024 descriptors."""

_FAREWELL_TIMEOUT_S = 3.0
_MIN_REQUEST_BYTES = 68
_PDU = struct.Struct(">BBL")
_A_ASSOCIATE_RQ = 0x01
_A_ABORT, _ABORT_BYTES = 0x07, 4
_UNEXPECTED_PDU = bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 2))
"""A-ABORT by the service provider: unexpected PDU (PS3.8 9.3.8)."""

_Steps = Generator[int, None, None]


class Host(Protocol):
    """Who decides behind the entrance."""

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        """For connections from now on; None: plain."""

    def greet(self, sock: socket.socket, request: bytes, remote: tuple[str, int]) -> bytes | None:
        """Take the connection over and return None, or return the PDU to send it away with. Must not block."""

    def note_refused(self, address: str, reason: str) -> None:
        """Hear of a connection that ended before its request was whole. Must not block."""


class _Refused(Exception):
    """The connection ends before an association; the text is a fixed word for log and metric."""


class _Connection:
    """One connection until its request is whole: where it stands in its reception, and until when it may take."""

    def __init__(self, sock: socket.socket, remote: tuple[str, int], deadline_s: float) -> None:
        self.sock = sock
        self.remote = remote
        self.deadline_s = deadline_s
        self.is_taken_over = False
        self.is_leaving = False
        self.steps: _Steps | None = None


class Entrance:
    """Serve one listening socket."""

    def __init__(
        self,
        listening: socket.socket,
        host: Host,
        metrics: ListenerMetrics,
        *,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self._listening = listening
        self._host = host
        self._metrics = metrics
        self._request_timeout_s = request_timeout_s
        self._log = Log("scp")
        self._pending: set[_Connection] = set()
        self._per_address: Counter[str] = Counter()
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_stopping = False
        self.has_failed = False
        self._turned_at_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="entrance", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._listening.setblocking(False)
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread.start()

    def stop(self) -> None:
        """Accept nothing more, close the listening socket and what is not yet an association."""
        if not self._is_stopping:
            self._is_stopping = True
            os.eventfd_write(self._wake, 1)
            self._thread.join(timeout=5)
            # Here, not in the thread: the number of a closed descriptor may belong to an image when it is written to.
            os.close(self._wake)

    def trouble(self) -> str | None:
        """Return why nobody can come in, or None: the loop turns at least once a second."""
        if self._is_stopping:
            return "stopping"
        if not self._thread.is_alive() or time.monotonic() - self._turned_at_s > 30:
            return "the entrance does not turn any more"
        return None

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._turn()
        except Exception as error:
            # The outermost loop of this thread; the process sees `has_failed` and ends, to be started anew.
            self.has_failed = True
            self._log(PROCESS_FAILED, process="entrance", error=type(error).__name__, code="ENTRANCE")
        finally:
            for connection in list(self._pending):
                self._forget(connection)
            self._listening.close()
            self._selector.close()

    def _turn(self) -> None:
        self._turned_at_s = time.monotonic()
        for key, _ in self._selector.select(timeout=1.0 if not self._pending else 0.25):
            if isinstance(key.data, _Connection):
                if key.data not in self._pending or key.data.steps is None:
                    continue  # it had to make room a moment ago
                self._selector.unregister(key.fileobj)
                self._step(key.data, key.data.steps)
            elif key.fileobj is self._listening:
                self._accept()
        now_s = time.monotonic()
        for connection in [c for c in self._pending if c.deadline_s < now_s]:
            if not connection.is_leaving:
                self._refuse(connection, "too_slow")
            self._forget(connection)

    def _accept(self) -> None:
        try:
            sock, remote = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return
        except OSError:
            # Out of descriptors: it stays in the backlog. Without a pause the loop would spin.
            time.sleep(0.05)
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        deadline_s = time.monotonic() + self._request_timeout_s
        connection = _Connection(sock, (str(remote[0]), int(remote[1])), deadline_s)
        address = connection.remote[0]
        self._pending.add(connection)
        self._per_address[address] += 1
        self._metrics.pending_connections.set(len(self._pending))
        if self._per_address[address] > MAX_PENDING_PER_ADDRESS:
            self._refuse(connection, "too_many_pending")
            self._forget(connection)
            return
        if len(self._pending) > MAX_PENDING:
            self._make_room()
        connection.steps = self._receive(connection)
        self._step(connection, connection.steps)

    def _make_room(self) -> None:
        """Send away who has waited longest, of the address with most: a device's request comes within milliseconds."""
        greediest, _ = self._per_address.most_common(1)[0]
        oldest = min((c for c in self._pending if c.remote[0] == greediest), key=lambda c: c.deadline_s)
        self._refuse(oldest, "too_many_pending")
        self._forget(oldest)

    def _step(self, connection: _Connection, steps: _Steps) -> None:
        """Go on with one connection until it has to wait again, or is done."""
        try:
            wanted = next(steps)
        except StopIteration:
            self._forget(connection)
        except _Refused as refusal:
            self._refuse(connection, str(refusal))
            self._forget(connection)
        except (OSError, ValueError):
            if not connection.is_leaving:
                self._refuse(connection, "connection_lost")
            self._forget(connection)
        else:
            self._selector.register(connection.sock, wanted, connection)

    def _receive(self, connection: _Connection) -> _Steps:
        """Handshake, request, answer: each step yields what it waits for."""
        context = self._host.tls_context
        if context is not None:
            yield from _shake_hands(connection, context)
        header = yield from _read(connection.sock, _PDU.size)
        kind, _, length = _PDU.unpack(header)
        if kind == _A_ABORT:
            # Sta2, AA-2 (PS3.8 9.2): who gives up by itself is not told to.
            yield from _read(connection.sock, min(length, _ABORT_BYTES))
            raise _Refused("peer_aborted")
        if kind != _A_ASSOCIATE_RQ or not _MIN_REQUEST_BYTES <= length <= MAX_REQUEST_BYTES:
            self._refuse(connection, "not_an_associate_request")
            yield from _send_away(connection, _UNEXPECTED_PDU)
            return
        request = header + (yield from _read(connection.sock, length))
        farewell = self._host.greet(connection.sock, request, connection.remote)
        if farewell is None:
            connection.is_taken_over = True
        else:
            yield from _send_away(connection, farewell)

    def _refuse(self, connection: _Connection, reason: str) -> None:
        self._metrics.refused_connections.labels(reason).inc()
        self._log(CONNECTION_REFUSED, peer=connection.remote[0], reason=reason)
        self._host.note_refused(connection.remote[0], reason)

    def _forget(self, connection: _Connection) -> None:
        if not connection.is_taken_over:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(connection.sock)
            connection.sock.close()
        if connection.steps is not None:
            connection.steps.close()
        if connection in self._pending:
            self._pending.discard(connection)
            self._per_address[connection.remote[0]] -= 1
            if not self._per_address[connection.remote[0]]:
                del self._per_address[connection.remote[0]]
        self._metrics.pending_connections.set(len(self._pending))


def _shake_hands(connection: _Connection, context: ssl.SSLContext) -> _Steps:
    connection.sock = sock = context.wrap_socket(
        connection.sock, server_side=True, do_handshake_on_connect=False
    )
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            yield selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            yield selectors.EVENT_WRITE
        except ssl.SSLError as error:
            raise _Refused("tls_handshake_failed") from error
        else:
            return


def _read(sock: socket.socket, count: int) -> Generator[int, None, bytes]:
    """Read exactly ``count`` bytes: what follows the request is for the association."""
    received = bytearray()
    while len(received) < count:
        try:
            data = sock.recv(count - len(received))
        except (BlockingIOError, ssl.SSLWantReadError):
            yield selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            yield selectors.EVENT_WRITE
        else:
            if not data:
                raise _Refused("closed_by_peer")
            received += data
    return bytes(received)


def _send_away(connection: _Connection, farewell: bytes) -> _Steps:
    """Send the last PDU, then wait until the peer has read it: a close with unread data would reset the connection.

    One read a turn: a peer that sends on and on must not have the thread for itself.
    """
    connection.is_leaving = True
    connection.deadline_s = time.monotonic() + _FAREWELL_TIMEOUT_S
    connection.sock.send(farewell)
    connection.sock.shutdown(socket.SHUT_WR)
    is_open = True
    while is_open:
        yield selectors.EVENT_READ
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            is_open = bool(connection.sock.recv(MAX_REQUEST_BYTES))
