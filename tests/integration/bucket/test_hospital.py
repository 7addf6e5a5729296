"""The whole way with images in a bucket: device, listener, indexer, worker, receiver; and the bucket goes away."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.bucket_server import BucketServer
from tests.integration.faults.conftest import Recovery
from tests.integration.faults.hospital import hospital

pytestmark = pytest.mark.timeout(300)


def test_images_go_the_whole_way_and_wait_while_the_bucket_is_away(
    database_url: str,
    tmp_path: Path,
    server: BucketServer,
    recovery: Recovery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
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
