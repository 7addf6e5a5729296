"""A DICOM client made of bare bytes, for what no toolkit would send."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(content)) + content


def associate_rq(
    *,
    calling: bytes = b"CT1".ljust(16),
    called: bytes = b"AEGATE".ljust(16),
    abstract_syntax: str = CT,
    extra: bytes = b"",
    contexts: bytes = b"",
) -> bytes:
    """Return an A-ASSOCIATE-RQ with one context, id 1, and more ``contexts``."""
    context = item(0x20, b"\1\0\0\0" + item(0x30, abstract_syntax.encode()) + item(0x40, EXPLICIT.encode()))
    user = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3") + extra)
    body = struct.pack(">HH", 1, 0) + called + calling + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + context + contexts + user
    return pdu(1, body)


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body)) + body


def pdv(control: int, content: bytes, context_id: int = 1) -> bytes:
    return struct.pack(">LBB", len(content) + 2, context_id, control) + content


def element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, number, len(value)) + value


def store_rq(sop_instance_uid: bytes = b"1.2.3.4", data_set_type: int = 1) -> bytes:
    """Return the command set of a C-STORE-RQ."""
    body = element(0x0002, CT.encode()) + element(0x0100, b"\1\0") + element(0x0110, b"\7\0")
    body += element(0x0700, b"\2\0") + element(0x0800, struct.pack("<H", data_set_type))
    body += element(0x1000, sop_instance_uid)
    return element(0, struct.pack("<L", len(body))) + body


RELEASE_RQ = pdu(5, bytes(4))


class Peer:
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def receive_pdu(self) -> tuple[int, bytes]:
        """Return type and body of the next PDU; type 0 at the end of the connection."""
        header = self._exactly(6)
        if len(header) < 6:
            return 0, b""
        kind, _, length = struct.unpack(">BBL", header)
        return kind, self._exactly(length)

    def associate(self, **values: bytes) -> None:
        self.send(associate_rq(**values))  # type: ignore[arg-type]
        kind, _ = self.receive_pdu()
        assert kind == 2, f"expected A-ASSOCIATE-AC, got PDU type {kind}"

    def status(self) -> int:
        """Return the status of the response that comes now."""
        kind, body = self.receive_pdu()
        assert kind == 4, f"expected P-DATA-TF, got PDU type {kind}"
        at = body.index(struct.pack("<HHL", 0, 0x0900, 2)) + 8
        return int(struct.unpack_from("<H", body, at)[0])

    def seconds_until_closed(self) -> float:
        """Read until the other side closes; return how long it took."""
        started = time.monotonic()
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return time.monotonic() - started

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            if not more:
                return data
            data += more
        return data


@contextmanager
def connected(port: int, timeout_s: float = 20) -> Iterator[Peer]:
    """Connect; every wait fails after ``timeout_s``."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as sock:
        yield Peer(sock)
