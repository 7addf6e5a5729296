"""A PostgreSQL that has no connection left, is slow or deaf: what is said, and that all goes on by itself."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from aegate_cli.installation import GRACE_S
from tests.integration.faults.conftest import Recovery
from tests.integration.faults.hospital import HOLD, LEASE_S, QUICKLY, Hospital, hospital
from tests.integration.faults.proxies import PostgresProxy, postgres_proxy
from tests.integration.postgres import USER, PostgresServer, postgres_server
from tests.integration.processes import stop
from tests.integration.waiting import eventually

pytestmark = pytest.mark.timeout(300)


class ForeignSession:
    """A session of somebody else: no more of the protocol than it takes to hold a connection."""

    def __init__(self, server: PostgresServer) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(server.folder / ".s.PGSQL.5432"))
        body = b"\0\3\0\0" + f"user\0{USER}\0database\0hospital\0\0".encode()
        self._socket.sendall((len(body) + 4).to_bytes(4, "big") + body)
        self.is_held = b"Z" in self._answers()

    def run(self, sql: str) -> bytes:
        """Run a statement and return the first row's message."""
        body = sql.encode() + b"\0"
        self._socket.sendall(b"Q" + (len(body) + 4).to_bytes(4, "big") + body)
        return self._answers().get(b"D", b"")

    def _answers(self) -> dict[bytes, bytes]:
        said: dict[bytes, bytes] = {}
        while b"Z" not in said and (head := self._read(5)):
            said.setdefault(head[:1], self._read(int.from_bytes(head[1:], "big") - 4))
        return said

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (more := self._socket.recv(count - len(data))):
            data += more
        return data

    def close(self) -> None:
        """Give the connection back."""
        self._socket.close()


@contextmanager
def all_connections_held(server: PostgresServer) -> Iterator[None]:
    """Hold every connection of a server until the end of the block; who had one is thrown out."""
    with ExitStack() as stack:

        def take() -> ForeignSession:
            session = ForeignSession(server)
            stack.callback(session.close)
            return session

        first = take()
        ours = "FROM pg_stat_activity WHERE application_name = 'aegate'"

        def is_alone() -> bool:
            first.run(f"SELECT pg_terminate_backend(pid, 1000) {ours}")
            while take().is_held:
                pass
            return first.run(f"SELECT count(*) {ours}").endswith(b"\x010")

        eventually(is_alone, deadline_s=60, what="all connections are somebody else's")
        yield


def until_bounded(here: Hospital, within_s: float) -> str:
    """Return the refusal of a query and of a mutation, each given in time."""
    began = time.monotonic()
    said = here.refusal()
    problem = here.post(HOLD)["data"]["holdDestination"]
    assert (problem["__typename"], problem["code"]) == ("UnavailableProblem", "UNAVAILABLE")
    assert time.monotonic() - began < within_s
    return said


def test_a_database_without_connections_deaf_or_slow_is_waited_for(
    tmp_path: Path, recovery: Recovery
) -> None:
    few = {"max_connections": "30", "superuser_reserved_connections": "0", "max_wal_senders": "0"}
    with postgres_server(**few) as server, postgres_proxy(server.folder) as proxy:
        direct = server.create("hospital")
        with hospital(tmp_path, f"{proxy.url('hospital')}?{QUICKLY}", delay_ms=30, judged_url=direct) as here:
            here.send()
            here.until_delivered()
            no_connection_left(here, server, recovery)
            deaf(here, proxy, recovery)
            slow(here, proxy, recovery)


def no_connection_left(here: Hospital, server: PostgresServer, recovery: Recovery) -> None:
    """Let others hold all connections."""
    before = len(here.sink.received)
    with all_connections_held(server):
        here.send()
        here.echo()
        here.until_noticed("has no connection left: end what holds them, or raise max_connections")
        assert len(here.sink.received) == before
    with recovery("PostgreSQL's connections exhausted"):
        here.until_well()
        here.until_delivered()
    assert here.sent_twice() == []


def deaf(here: Hospital, proxy: PostgresProxy, recovery: Recovery) -> None:
    """Let the network swallow everything in the middle of a delivery, and then forget the open connections."""
    before = len(here.sink.received)
    here.send(20)
    eventually(lambda: len(here.sink.received) > before + 2, deadline_s=60, what="a delivery is under way")
    proxy.deafen()
    here.send()
    here.echo()
    assert "did not answer in time: check its load, and the network between" in until_bounded(here, 60)
    here.until_noticed("did not answer")
    proxy.deafen(only_open=True)
    proxy.hear()
    with recovery("PostgreSQL behind a network that swallows packets"):
        here.until_well()
        here.until_delivered()


def slow(here: Hospital, proxy: PostgresProxy, recovery: Recovery) -> None:
    """Let each statement take a fifteenth of a lease: two seconds of thirty."""
    proxy.delay_s = LEASE_S / 15
    here.send(12)
    here.echo()
    here.until_delivered()
    assert here.readiness("api") == (200, "ok")
    proxy.delay_s = 0.0
    with recovery("PostgreSQL answering slowly"):
        here.send()
        here.until_delivered()


def test_a_stop_takes_no_longer_than_the_grace_period_though_the_network_swallows_packets(
    tmp_path: Path, recovery: Recovery
) -> None:
    with postgres_server() as server, postgres_proxy(server.folder) as proxy:
        url = server.create("hospital")
        with hospital(tmp_path, proxy.url("hospital"), is_done=False) as here:
            here.send()
            here.until_delivered()
            proxy.deafen()
            here.send()
            assert stop(here.up.child, timeout_s=GRACE_S + 15) == 0
            assert here.up.events("child.killed") == []
        with hospital(tmp_path, url, before=here) as again, recovery("a stop without a database"):
            again.until_delivered()
