"""An SQLite file that another process locks, or whose log another process keeps from being written back."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from aegate_core.database.connection import BUSY_TIMEOUT_MS
from tests.integration.faults.conftest import Recovery
from tests.integration.faults.hospital import HOLD, hospital
from tests.integration.waiting import eventually

pytestmark = pytest.mark.timeout(300)
LOCKED = "is locked by another process: find it with fuser, and end it"


@contextmanager
def foreign_transaction(path: Path, *statements: str) -> Iterator[None]:
    """Hold a transaction that begins with ``statements`` until the end of the block."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as foreign:
        for statement in statements:
            foreign.execute(statement).fetchall()
        yield
        foreign.execute("ROLLBACK")


def log_frames(path: Path) -> tuple[int, int]:
    """Write back what can be of the write-ahead log; return how many frames it has, and how many are written back."""
    with closing(sqlite3.connect(path, timeout=30)) as foreign:
        _, frames, written = foreign.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return int(frames), int(written)


def test_a_locked_file_is_waited_for_and_said(tmp_path: Path, recovery: Recovery) -> None:
    path = tmp_path / "index.sqlite3"
    with hospital(tmp_path, f"sqlite://{path}") as here:
        with foreign_transaction(path, "BEGIN", "SELECT count(*) FROM fencing"):
            here.send()
            here.until_delivered()
            frames, written = log_frames(path)
            assert written < frames
        eventually(lambda: len(set(log_frames(path))) == 1, what="the log is written back")

        with foreign_transaction(path, "BEGIN EXCLUSIVE"):
            here.send()
            here.echo()
            for process in ("indexer", "worker"):
                here.until_said(process, LOCKED)
            assert here.says("scu", "database.away", LOCKED)
            assert here.says("indexer", "database.away", LOCKED)
            began = time.monotonic()
            problem = here.post(HOLD)["data"]["holdDestination"]
            assert (problem["code"], LOCKED in problem["message"]) == ("UNAVAILABLE", True)
            assert time.monotonic() - began < 2 * BUSY_TIMEOUT_MS / 1000
            assert here.readiness("api") == (200, "ok")  # it reads beside the lock
            assert len(here.sink.received) == 4
        with recovery("SQLite locked by another process"):
            here.until_well()
            here.until_delivered()
        assert here.sent_twice() == []
