"""A receiver of plain sockets for tests: it says byte for byte what it is told to, right or wrong.

It takes every presentation context, keeps of each object only its digest, and holds nothing in memory.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.integration.waiting import eventually

_RQ, _DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = 1, 4, 5, 6, 7


@dataclass(frozen=True, slots=True)
class Store:
    """A C-STORE request that came whole."""

    number: int
    """From 1, over all associations."""
    message_id: int
    sop_instance_uid: str
    sha256: str
    """Of the data set's bytes."""


Answer = Callable[[Store], bytes]
"""What is written into the connection when an object is there; empty bytes end the connection instead."""


@dataclass
class RawPeer:
    """What came so far."""

    port: int
    longest_pdu: int
    """Which maximum length it announces; 0: any."""
    stores: list[Store] = field(default_factory=list)
    aborts: int = 0
    longest_seen: int = 0
    """The longest P-DATA-TF."""
    cuts: int = 0
    """How many connections are to be closed in the middle of a data set; each one counts it down."""
    hang_ups: int = 0
    """How many associations are aborted as soon as they are open; each one counts it down."""
    hangs_up_when: Callable[[], bool] = lambda: True
    """When they are: not before."""
    early: bytes = b""
    """What is said of the first object before all of it is there."""


def command(*elements: tuple[int, bytes]) -> bytes:
    """Return a command set (PS3.7 6.3.1) of elements of group 0000, with its length."""
    body = b"".join(struct.pack("<HHL", 0, element, len(value)) + value for element, value in elements)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def response(message_id: int, *status: int, data_set_type: int = 0x0101, field: int = 0x8001) -> bytes:
    """Return a P-DATA-TF with a C-STORE response; without ``status`` it has no (0000,0900)."""
    elements = [(0x0100, struct.pack("<H", field)), (0x0120, struct.pack("<H", message_id))]
    elements.append((0x0800, struct.pack("<H", data_set_type)))
    elements += [(0x0900, struct.pack("<H", s)) for s in status]
    return data(3, command(*elements))


def data(control: int, content: bytes, context_id: int = 1) -> bytes:
    """Return a P-DATA-TF of one PDV (PS3.8 9.3.5)."""
    return pdu(_DATA, struct.pack(">LBB", len(content) + 2, context_id, control) + content)


def pdu(kind: int, body: bytes) -> bytes:
    """Return a PDU."""
    return struct.pack(">BBL", kind, 0, len(body)) + body


@contextmanager
def raw_peer(
    answer: Answer, *, longest_pdu: int = 16384, context: ssl.SSLContext | None = None, early: bytes = b""
) -> Iterator[RawPeer]:
    """Run a receiver until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = RawPeer(server.getsockname()[1], longest_pdu, early=early)
        thread = threading.Thread(target=_accept, args=(server, peer, answer, context), daemon=True)
        thread.start()
        try:
            yield peer
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _accept(server: socket.socket, peer: RawPeer, answer: Answer, context: ssl.SSLContext | None) -> None:
    """Serve associations one after another until the server's socket is shut."""
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with suppress(OSError, struct.error):
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
            with connection:
                _serve(connection, peer, answer)


def _serve(connection: socket.socket, peer: RawPeer, answer: Answer) -> None:
    digest, request = hashlib.sha256(), b""
    while True:
        kind, body = read_pdu(connection)
        if kind == _RQ:
            connection.sendall(accepted(body, peer.longest_pdu))
            if peer.hang_ups:
                peer.hang_ups -= 1
                eventually(peer.hangs_up_when)
                connection.sendall(pdu(_ABORT, bytes(4)))
                return
        elif kind == _RELEASE_RQ:
            connection.sendall(pdu(_RELEASE_RP, bytes(4)))
            return
        elif kind != _DATA:
            peer.aborts += 1
            return
        else:
            peer.longest_seen = max(peer.longest_seen, len(body))
            (length,) = struct.unpack_from(">L", body)
            control, content = body[5], body[6 : length + 4]
            if control & 1:
                request += content
            else:
                digest.update(content)
                said, peer.early = peer.early, b""
                connection.sendall(said)
                if peer.cuts:
                    peer.cuts -= 1
                    return
            if control == 2:
                store = _store(len(peer.stores) + 1, request, digest.hexdigest())
                peer.stores.append(store)
                digest, request = hashlib.sha256(), b""
                said = answer(store)
                if not said:
                    return
                connection.sendall(said)


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Return type and body of the next PDU. Raises OSError at the connection's end."""
    kind, _, length = struct.unpack(">BBL", _exactly(connection, 6))
    return kind, _exactly(connection, length)


def _exactly(connection: socket.socket, size: int) -> bytes:
    """Read ``size`` bytes. Raises OSError where the other side ended before."""
    content = bytearray(size)
    view = memoryview(content)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise ConnectionResetError
        view = view[count:]
    return bytes(content)


def _items(body: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield kind, first and last position of the items of a PDU."""
    while start + 4 <= end:
        kind, _, length = struct.unpack_from(">BBH", body, start)
        yield kind, start + 4, start + 4 + length
        start += 4 + length


def accepted(rq: bytes, longest_pdu: int) -> bytes:
    """Return an A-ASSOCIATE-AC that takes every context in its first transfer syntax (PS3.8 9.3.3)."""
    parts = [rq[:68]]
    for kind, first, last in _items(rq, 68, len(rq)):
        if kind == 0x10:
            parts.append(rq[first - 4 : last])
        elif kind == 0x20:
            syntax = next(rq[a - 4 : b] for k, a, b in _items(rq, first + 4, last) if k == 0x40)
            parts.append(struct.pack(">BBHBBBB", 0x21, 0, 4 + len(syntax), rq[first], 0, 0, 0) + syntax)
    user = struct.pack(">BBHL", 0x51, 0, 4, longest_pdu) + struct.pack(">BBH", 0x52, 0, 7) + b"1.2.3.4"
    parts.append(struct.pack(">BBH", 0x50, 0, len(user)) + user)
    return pdu(2, b"".join(parts))


def _store(number: int, request: bytes, sha256: str) -> Store:
    values, at = {}, 0
    while at + 8 <= len(request):
        _, element, length = struct.unpack_from("<HHL", request, at)
        values[element] = request[at + 8 : at + 8 + length]
        at += 8 + length
    (message_id,) = struct.unpack("<H", values[0x0110])
    return Store(number, message_id, values[0x1000].rstrip(b"\0").decode(), sha256)
