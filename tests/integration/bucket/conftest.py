"""A bucket on a server of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aegate_core.stores.blobs.bucket import BucketStore
from tests.integration.backup.conftest import empty_database
from tests.integration.bucket_server import BucketServer, bucket_server
from tests.integration.faults.conftest import recovery

__all__ = ["empty_database", "recovery", "server", "store"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BucketServer]:
    """A server that verifies signatures and digests, with an empty bucket."""
    with bucket_server(tmp_path / "s3") as running:
        yield running


@pytest.fixture
def store(server: BucketServer, tmp_path: Path) -> BucketStore:
    """Our side of it."""
    return BucketStore(server.bucket, tmp_path / "scratch")
