"""Connections that say nothing, and what a good device sends in a second beside them."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.integration.scp.listeners import RunningListener
from tests.integration.scp.wires import connected, pdu, pdv, store_rq
from tests.integration.waiting import eventually

LEAST_PAIRS, MOST_PAIRS = 3, 15
INSTANCES = 60
LEAST_SHARE = 0.8
OBJECT = pdu(4, pdv(3, store_rq())) + pdu(4, pdv(2, bytes(20_000)))
_OF_AN_ADDRESS = 10
"""A listener lets sixteen of one address wait."""


def share_beside_silence(listener: RunningListener, count: int) -> float:
    """Return which part of its rate a device keeps beside ``count`` silent connections; the best of some runs.

    What else runs on the machine only ever makes a run slower, so it is measured again until that is good, or often.
    """
    most_waiting = min(count, 256)
    _seconds(listener)
    alone: list[float] = []
    beside: list[float] = []
    while len(alone) < LEAST_PAIRS or (min(alone) / min(beside) < LEAST_SHARE and len(alone) < MOST_PAIRS):
        alone.append(_seconds(listener))
        with silent_sockets(listener.port, count):
            eventually(lambda: listener.metric("aegate_connections_pending") >= most_waiting)
            beside.append(_seconds(listener))
        eventually(lambda: listener.metric("aegate_connections_pending") == 0)
    return min(alone) / min(beside)


def _seconds(listener: RunningListener) -> float:
    with connected(listener.port) as good:
        good.associate()
        began = time.monotonic()
        for _ in range(INSTANCES):
            good.send(OBJECT)
            assert good.status() == 0x0000
        return time.monotonic() - began


@contextmanager
def silent_sockets(port: int, count: int) -> Iterator[None]:
    """Hold ``count`` connections that say nothing, ten an address."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(4096, 2 * count)), hard))
    with ExitStack() as stack:
        for n in range(count):
            source = (f"127.0.2.{1 + n // _OF_AN_ADDRESS}", 0)
            stack.enter_context(socket.create_connection(("127.0.0.1", port), source_address=source))
        yield
