"""Clocks that are stepped by an hour while images come: of a whole machine, and of each process in turn.

Every study arrives once and whole, some seconds after its quiet period, not an hour later; nothing waits for the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
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
PATIENCE_S = 120
"""Far less than an hour."""
STUDY = f"  study: {{quietPeriodSeconds: {QUIET_S}, maxAgeSeconds: 600}}\n"
ITEMS = "{ queueItems(first: 100) { nodes { state instancesTotal instancesDone attempts } } }"


def manifests(sink: Sink) -> dict[str, str]:
    return {
        "ct1.yaml": device("ct1", more=STUDY),
        "pacs.yaml": device("sink", sink.port),
        "route.yaml": ROUTE.replace("[pacs]", "[sink]"),
    }


@dataclass
class CT1:
    """A device, and what it has sent: all of it acknowledged."""

    up: Up
    images: int = 0
    studies: int = 0
    interrupted: int = 0
    """Studies that a busy machine kept waiting for so long that they may be taken for two."""

    def send(self, name: str, count: int, before: Callable[[int], object]) -> None:
        """Send a study over one association; ``before`` is called with the number of each image, from 0."""
        association = associate(self.up.dicom_port, (CTImageStorage, [ExplicitVRLittleEndian]))
        longest_s, last = 0.0, time.monotonic()
        for number, ds in enumerate(dicom.ct_study(name, count)):
            before(number)
            assert association.send_c_store(ds).Status == 0
            longest_s, last = max(longest_s, time.monotonic() - last), time.monotonic()
        association.release()
        self.images += count
        self.studies += 1
        self.interrupted += longest_s > QUIET_S - 1

    def send_over_a_step(self, name: str, clock: SteppedClock, offset_s: int, *pids: int) -> None:
        """Send half a study, step the clock, send the other half."""
        self.send(name, 6, lambda n: clock.step(offset_s, *pids) if n == 3 else None)

    def send_slowly(self, name: str) -> None:
        """Send each image of a study when the one before is in the index."""

        def is_indexed(number: int) -> None:
            wanted = self.images + number
            eventually(lambda: indexed(self.up) == wanted, deadline_s=PATIENCE_S, what="it is indexed")

        self.send(name, 10, is_indexed)


def indexed(up: Up) -> int:
    """Return how many images are in the index."""
    studies = up.ask("{ studies(first: 100) { nodes { instanceCount } } }")["studies"]["nodes"]
    return sum(study["instanceCount"] for study in studies)


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
            ct1 = CT1(up)
            for number, offset_s in enumerate((HOUR_S, 0)):
                ct1.send_over_a_step(f"study {number}", clock, offset_s)
                with recovery(f"clock of the machine stepped to {offset_s:+} s"):
                    has_come(sink, ct1.images)
            items = eventually(lambda: finished(up, ct1.images), deadline_s=PATIENCE_S)
            # Stepped ahead, the first half of a study may look quiet.
            assert len(items) <= ct1.studies + 1 + ct1.interrupted
            assert up.events("child.exited") == []
        assert len({r.sop_instance_uid for r in sink.received}) == len(sink.received) == ct1.images
        assert up.child.returncode == 0


def has_come(sink: Sink, count: int) -> None:
    """Wait until the receiver has so many images."""
    eventually(lambda: len(sink.received) >= count, deadline_s=PATIENCE_S, what="all came")


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
            ct1 = CT1(up)
            for process, wrong_s in (("listener", -HOUR_S), ("indexer", HOUR_S), ("worker", HOUR_S)):
                for offset_s in (wrong_s, 0):
                    name, pid = f"{process} {offset_s}", up.pid_of(process)
                    ct1.send_over_a_step(name, clock, offset_s, pid)
                    ct1.send_slowly(f"{name} afterwards")
                    with recovery(f"clock of the {process} stepped to {offset_s:+} s"):
                        has_come(sink, ct1.images)
            items = eventually(lambda: finished(up, ct1.images), deadline_s=PATIENCE_S)
            assert ct1.studies <= len(items) <= ct1.studies + ct1.interrupted
        assert len({r.sop_instance_uid for r in sink.received}) == len(sink.received) == ct1.images
    postgres.drop("clock_of_a_process")


DESTINATION = "{ destinations { nodes { id ae } } }"
PROBE = "mutation ($id: ID!) { retryDestination(id: $id) { ... on DestinationChanged { changed } } }"


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
            assert up.ask(PROBE, id=node["id"]) == {"retryDestination": {"changed": True}}
            state = "SELECT breaker FROM destination WHERE ae = 'default/sink'"
            eventually(lambda: postgres.run(state, database="clock_of_the_api") == "TRIAL", deadline_s=60)
            clock.step(0, up.pid_of("api"))
            assert brief.ask(DESTINATION)["destinations"]["nodes"]
    postgres.drop("clock_of_the_api")
