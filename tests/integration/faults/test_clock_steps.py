"""Clocks that are stepped by an hour while images come: of a whole machine, and of each process in turn.

Every study arrives once and whole, some seconds after its quiet period, not an hour later; nothing waits for the clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from aegate_cli.demo.graphql import GraphQL
from aegate_core.errors import PeerError
from aegate_graphql_api.tokens import create_token
from aegate_scp.sink import Sink, SinkOptions
from tests import dicom
from tests.integration.cli.installations import ROUTE, Up, device, installation
from tests.integration.faults.conftest import Recovery
from tests.integration.faults.stepped_clock import HOUR_S, SteppedClock
from tests.integration.postgres import PostgresServer
from tests.integration.scp.listeners import associate
from tests.integration.waiting import eventually

QUIET_S = 4
FAR_SOONER_THAN_AN_HOUR_S = 90
STUDY = f"  study: {{quietPeriodSeconds: {QUIET_S}, maxAgeSeconds: 600}}\n"
ITEMS = "{ queueItems { nodes { state instancesTotal instancesDone attempts } } }"


def manifests(sink: Sink) -> dict[str, str]:
    return {
        "ct1.yaml": device("ct1", more=STUDY),
        "pacs.yaml": device("sink", sink.port),
        "route.yaml": ROUTE.replace("[pacs]", "[sink]"),
    }


def send_over_a_step(up: Up, name: str, clock: SteppedClock, offset_s: int, *pids: int) -> int:
    """Send half a study, step the clock, send the other half; return how many images the study has."""
    study = dicom.ct_study(name, 6)
    association = associate(up.dicom_port, (CTImageStorage, [ExplicitVRLittleEndian]))
    for number, ds in enumerate(study):
        if number == len(study) // 2:
            clock.step(offset_s, *pids)
        assert association.send_c_store(ds).Status == 0
    association.release()
    return len(study)


@pytest.fixture
def clock(tmp_path: Path) -> SteppedClock:
    return SteppedClock.build(tmp_path / "clock")


@pytest.mark.timeout(400)
def test_machine_whose_clock_steps_by_an_hour_delivers_all_of_it_once(
    tmp_path: Path, empty_database_url: str, clock: SteppedClock, recovery: Recovery
) -> None:
    with Sink(SinkOptions(tmp_path / "sink", title="SINK")) as sink:
        environ = {**clock.environ, "AEGATE_LEASE_SECONDS": "6"}
        more = ("--database", empty_database_url)
        with installation(tmp_path, manifests(sink), more=more, environ=environ) as up:
            total = 0
            for number, offset_s in enumerate((HOUR_S, 0, -HOUR_S, 0)):
                total += send_over_a_step(up, f"study {number}", clock, offset_s)
                with recovery(f"clock of the machine stepped to {offset_s:+} s"):
                    has_come(sink, total)
            items = eventually(lambda: finished(up, total), deadline_s=FAR_SOONER_THAN_AN_HOUR_S)
            assert len(items) <= 6  # ahead, the first half of a study may have looked quiet
            assert up.events("child.exited") == []
        assert len({r.sop_instance_uid for r in sink.received}) == total
        assert len(sink.received) == total
        assert up.child.returncode == 0


def has_come(sink: Sink, count: int) -> None:
    """Wait until the receiver has so many images."""
    eventually(lambda: len(sink.received) >= count, deadline_s=FAR_SOONER_THAN_AN_HOUR_S, what="all came")


def finished(up: Up, total: int) -> list[dict[str, object]]:
    """Return the queue when all of it is COMPLETED, at the first attempt, and holds so many images."""
    items: list[dict[str, object]] = up.ask(ITEMS)["queueItems"]["nodes"]
    done = sum(int(str(i["instancesDone"])) for i in items if i["state"] == "COMPLETED")
    return items if done == total and all(i["attempts"] == 0 for i in items) else []


@pytest.mark.timeout(400)
def test_process_whose_clock_is_an_hour_off_holds_up_and_splits_nothing(
    tmp_path: Path, postgres: PostgresServer, clock: SteppedClock, recovery: Recovery
) -> None:
    url = postgres.create("clock_of_a_process")
    with Sink(SinkOptions(tmp_path / "sink", title="SINK")) as sink:
        more = ("--database", url)
        with installation(tmp_path, manifests(sink), more=more, environ=clock.environ) as up:
            total = 0
            for process in ("listener", "indexer", "worker"):
                for offset_s in (HOUR_S, -HOUR_S, 0):
                    name, pid = f"{process} {offset_s}", up.pid_of(process)
                    total += send_over_a_step(up, name, clock, offset_s, pid)
                    with recovery(f"clock of the {process} stepped to {offset_s:+} s"):
                        has_come(sink, total)
            items = eventually(lambda: finished(up, total), deadline_s=FAR_SOONER_THAN_AN_HOUR_S)
            assert [i["instancesTotal"] for i in items] == [6] * 9
        assert len({r.sop_instance_uid for r in sink.received}) == len(sink.received) == total
    postgres.drop("clock_of_a_process")


DESTINATION = "{ destinations { nodes { id ae breaker { state } } } }"
PROBE = "mutation ($id: ID!) { retryDestination(id: $id) { __typename } }"


@pytest.mark.timeout(200)
def test_api_whose_clock_is_an_hour_ahead_does_what_people_ask_at_once(
    tmp_path: Path, postgres: PostgresServer, clock: SteppedClock
) -> None:
    postgres.create("clock_of_the_api")
    with Sink(SinkOptions(tmp_path / "sink", title="SINK")) as sink:
        more = ("--database", postgres.url("clock_of_the_api"))
        with installation(tmp_path, manifests(sink), more=more, environ=clock.environ) as up:
            tokens = up.data / "run" / "tokens.json"
            soon = datetime.now(UTC) + timedelta(minutes=30)
            brief = GraphQL(
                f"http://127.0.0.1:{up.http_port}/graphql",
                create_token(tokens, "brief", ["DICOM_QUEUE"], expires_at=soon),
            )
            [node] = [d for d in brief.ask(DESTINATION)["destinations"]["nodes"] if d["ae"] == "default/sink"]
            postgres.run(
                "UPDATE destination SET breaker = 'OPEN', next_probe_at = now() + interval '5 minutes'",
                database="clock_of_the_api",
            )
            clock.step(HOUR_S, up.pid_of("api"))
            with pytest.raises(PeerError, match="401"):
                brief.ask(DESTINATION)
            up.ask(PROBE, id=node["id"])
            state = "SELECT breaker FROM destination WHERE ae = 'default/sink'"
            eventually(lambda: postgres.run(state, database="clock_of_the_api") == "TRIAL", deadline_s=60)
            clock.step(0, up.pid_of("api"))
            assert brief.ask(DESTINATION)["destinations"]["nodes"]
    postgres.drop("clock_of_the_api")
