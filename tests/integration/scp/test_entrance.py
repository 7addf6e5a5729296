"""The entrance alone, with a host that sends everybody away: what a connection costs until its request is whole."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from aegate_scp.metrics import ListenerMetrics
from aegate_scp.server import Entrance
from tests.integration.scp.wires import associate_rq, connected
from tests.integration.waiting import eventually

REJECTION = bytes((3, 0, 0, 0, 0, 4, 0, 1, 1, 3))


class SendsAway:
    """A host that lets nobody in and remembers what was asked."""

    tls_context: ssl.SSLContext | None = None

    def __init__(self) -> None:
        self.requests: list[bytes] = []

    def note_refused(self, address: str, reason: str) -> None:
        pass

    def greet(self, sock: socket.socket, request: bytes, remote: tuple[str, int]) -> bytes | None:
        self.requests.append(request)
        return REJECTION


class Flooded(socket.socket):
    """A connection whose peer sends faster than it is read, for ever, and no DICOM."""

    reads = 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        self.reads += 1
        assert self.reads < 1000, "nobody else has had a turn"
        return bytes(size)


class FirstFloods(socket.socket):
    """A listening socket whose first connection is `Flooded`."""

    first: Flooded | None = None

    def accept(self) -> tuple[socket.socket, Any]:
        sock, remote = super().accept()
        if self.first is None:
            sock = self.first = Flooded(fileno=sock.detach())
        return sock, remote


@contextmanager
def entrance(
    host: SendsAway, request_timeout_s: float, kind: type[socket.socket] = socket.socket
) -> Iterator[tuple[int, ListenerMetrics, Entrance]]:
    listening = kind(fileno=socket.create_server(("127.0.0.1", 0)).detach())
    metrics = ListenerMetrics()
    served = Entrance(listening, host, metrics, request_timeout_s=request_timeout_s)
    served.start()
    try:
        yield listening.getsockname()[1], metrics, served
    finally:
        served.stop()


def refused(metrics: ListenerMetrics, reason: str) -> float:
    return metrics.registry.get_sample_value("aegate_connections_refused_total", {"reason": reason}) or 0.0


def test_slow_request_is_cut_at_its_deadline_and_others_are_heard_meanwhile() -> None:
    host = SendsAway()
    with entrance(host, request_timeout_s=1.0) as (port, metrics, _), connected(port) as slow:
        slow.send(associate_rq()[:40])
        with connected(port) as other:
            other.send(associate_rq())
            assert other.receive_pdu() == (3, bytes((0, 1, 1, 3)))
        assert slow.seconds_until_closed() < 5

        assert refused(metrics, "too_slow") == 1
        assert host.requests == [associate_rq()]


def test_request_that_comes_byte_by_byte_is_whole_in_the_end() -> None:
    host = SendsAway()
    with entrance(host, request_timeout_s=10.0) as (port, _, _), connected(port) as peer:
        for byte in associate_rq():
            peer.send(bytes((byte,)))

        assert peer.receive_pdu() == (3, bytes((0, 1, 1, 3)))
        assert host.requests == [associate_rq()]


def test_peer_that_sends_on_and_on_after_its_refusal_keeps_nobody_waiting() -> None:
    with entrance(SendsAway(), 10.0, FirstFloods) as (port, metrics, served), connected(port) as flood:
        flood.send(b"GET / HTTP/1.1")
        assert flood.receive_pdu() == (7, bytes((0, 0, 2, 2)))

        with connected(port) as other:
            other.send(associate_rq())
            assert other.receive_pdu() == (3, bytes((0, 1, 1, 3)))

        assert flood.seconds_until_closed() < 10
        assert not served.has_failed
        assert refused(metrics, "not_an_associate_request") == 1


def test_stopping_writes_to_its_own_descriptor_however_fast_the_loop_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A number that was closed already may belong to an image by now."""
    write = os.eventfd_write

    def late(descriptor: int, value: int) -> None:
        eventually(lambda: not any(t.name == "entrance" for t in threading.enumerate()))
        write(descriptor, value)

    with entrance(SendsAway(), request_timeout_s=10.0) as (port, _, served):
        monkeypatch.setattr(os, "eventfd_write", late)

        served.stop()

        with socket.socket() as late_comer:
            assert late_comer.connect_ex(("127.0.0.1", port)) != 0


def test_stopping_closes_what_waits_and_the_port() -> None:
    with entrance(SendsAway(), request_timeout_s=10.0) as (port, metrics, served), connected(port) as peer:
        eventually(lambda: metrics.registry.get_sample_value("aegate_connections_pending") == 1)
        assert served.trouble() is None

        served.stop()

        assert peer.receive_pdu() == (0, b"")
        assert served.trouble() == "stopping"
        with socket.socket() as late:
            assert late.connect_ex(("127.0.0.1", port)) != 0
