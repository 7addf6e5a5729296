"""The whole way with images in a bucket: device, listener, indexer, worker, receiver; and the bucket goes away."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.bucket_server import BucketServer
from tests.integration.faults.conftest import Recovery
from tests.integration.faults.hospital import hospital
from tests.integration.waiting import eventually

pytestmark = pytest.mark.timeout(300)


def use(server: BucketServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `aegate up`, and the commands that judge it, keep images in the server's bucket."""
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)


def connections(port: int) -> int:
    """Return how many connections to a port of 127.0.0.1 are open (proc_net(5))."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    wanted = f"0100007F:{port:04X}"
    return sum(fields[2] == wanted and fields[3] == "01" for fields in map(str.split, lines))


def test_images_go_the_whole_way_and_wait_while_the_bucket_is_away(
    database_url: str,
    tmp_path: Path,
    server: BucketServer,
    recovery: Recovery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(server, monkeypatch)
    with ExitStack() as until_judged, hospital(tmp_path, database_url) as here:
        here.send(5)
        here.until_delivered()
        assert len(server.names()) == len(here.sent) == 5
        assert server.child is not None

        server.child.kill()
        here.send(5)  # the listener takes them as before
        here.until_said("indexer", "must answer")
        here.until_said("worker", "must answer")
        assert len(list(here.up.data.glob("spool/*/*/*/*.dcm"))) == 5

        until_judged.enter_context(server.running())
        with recovery("bucket away"):
            here.until_well()
            here.until_delivered()
        assert len(server.names()) == 10
        assert [p for p in here.up.data.glob("blobs/**/*") if p.is_file()] == []
    assert here.sent_twice() == []


def test_nobody_waits_for_a_bucket_that_hangs_when_told_to_stop(
    tmp_path: Path, server: BucketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(server, monkeypatch)
    assert server.child is not None
    database_url = f"sqlite://{tmp_path / 'aegate.sqlite3'}"
    with hospital(tmp_path, database_url, is_done=False) as here:
        here.send(1)
        here.until_delivered()
        server.child.send_signal(signal.SIGSTOP)
        here.send(3)
        eventually(lambda: connections(server.port) >= 3, deadline_s=60, what="the indexer puts its blobs")
    # It ended with 0, which `hospital` asserts, and no process of it was killed.
    assert here.up.events("child.killed") == []
    server.child.send_signal(signal.SIGCONT)
    with hospital(tmp_path, database_url, before=here) as again:
        again.until_delivered()
