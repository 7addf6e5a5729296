"""`aegate up` on PostgreSQL: several workers, and a database that goes and comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.integration.cli.installations import QUICK, ROUTE, device, installation, send_study, states
from tests.integration.peers import store_scp
from tests.integration.postgres import PostgresServer, postgres_server
from tests.integration.waiting import eventually

PROCESSES = ("listener", "indexer", "worker-1", "worker-2", "worker-3", "api")


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that the test may stop."""
    with postgres_server() as server:
        yield server


def test_several_workers_push_and_one_that_is_killed_holds_up_nothing(
    tmp_path: Path, own_postgres: PostgresServer
) -> None:
    with store_scp(tmp_path, title="PACS") as pacs:
        manifests = {
            "ct1.yaml": device("ct1", more=QUICK),
            "pacs.yaml": device("pacs", pacs.port),
            "r.yaml": ROUTE,
        }
        more = ("--database", own_postgres.create("hospital"), "--workers", "3")
        with installation(tmp_path, manifests, more=more) as up:
            pids = {name: up.pid_of(name) for name in PROCESSES}
            sent = [uid for n in range(6) for uid in send_study(up, tmp_path, f"study {n}", 2)]
            os.kill(pids["worker-2"], signal.SIGKILL)
            eventually(lambda: states(up) == ["COMPLETED"] * 6, deadline_s=60)
            eventually(lambda: up.pid_of("worker-2") != pids["worker-2"], deadline_s=20)
            received = {str(dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in pacs.received()}
            assert received == set(sent)
            assert [e["process"] for e in up.events("child.exited")] == ["worker-2"]
        assert up.child.returncode == 0


def test_a_database_that_comes_back_finds_everything_still_there(
    tmp_path: Path, own_postgres: PostgresServer
) -> None:
    with store_scp(tmp_path, title="PACS") as pacs:
        manifests = {
            "ct1.yaml": device("ct1", more=QUICK),
            "pacs.yaml": device("pacs", pacs.port),
            "r.yaml": ROUTE,
        }
        with installation(tmp_path, manifests, more=("--database", own_postgres.create("hospital"))) as up:
            sent = send_study(up, tmp_path, "before", 3)
            eventually(lambda: states(up) == ["COMPLETED"], deadline_s=40)
            own_postgres.stop()
            sent |= send_study(up, tmp_path, "meanwhile", 5)
            (up.folder / "ct2.yaml").write_text(device("ct2"))
            eventually(
                lambda: "up" in {e["component"] for e in up.events("database.away")},
                deadline_s=40,
            )
            own_postgres.start()
            eventually(lambda: "up" in {e["component"] for e in up.events("database.back")}, deadline_s=40)
            eventually(lambda: states(up) == ["COMPLETED"] * 2, deadline_s=60)
            received = {str(dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in pacs.received()}
            assert received == sent
            names = "{ applicationEntities { nodes { name } } }"
            eventually(
                lambda: (
                    {n["name"] for n in up.ask(names)["applicationEntities"]["nodes"]}
                    == {"ct1", "ct2", "pacs"}
                ),
                deadline_s=20,
            )
            assert up.events("child.exited") == []
        assert up.child.returncode == 0


@pytest.fixture
def recovering_postgres(own_postgres: PostgresServer) -> PostgresServer:
    """A server as it is for minutes after a power cut."""
    own_postgres.create("hospital")
    own_postgres.stop()
    own_postgres.start_recovering()
    return own_postgres


def test_a_database_that_still_recovers_is_waited_for_at_the_start(
    tmp_path: Path, recovering_postgres: PostgresServer
) -> None:
    more = ("--database", recovering_postgres.url("hospital"))
    with installation(tmp_path, {"ct1.yaml": device("ct1")}, more=more, wait=False) as up:
        eventually(lambda: up.events("database.away"), deadline_s=60, what="aegate up says what it waits for")
        assert "is starting or stopping" in up.events("database.away")[0]["error"]
        recovering_postgres.recover()
        eventually(up.is_ready, deadline_s=60, what="aegate up is ready")
        assert len(up.events("database.away")) == 1
    assert up.child.returncode == 0


def test_who_waits_for_a_database_at_the_start_can_be_stopped(
    tmp_path: Path, recovering_postgres: PostgresServer
) -> None:
    more = ("--database", recovering_postgres.url("hospital"))
    with installation(tmp_path, {"ct1.yaml": device("ct1")}, more=more, wait=False) as up:
        eventually(lambda: up.events("database.away"), deadline_s=60, what="aegate up says what it waits for")
        up.child.send_signal(signal.SIGTERM)
        assert up.child.wait(20) == 0
    assert not up.events("process.ready")
    assert [e["process"] for e in up.events("process.stopped")] == ["up"]
