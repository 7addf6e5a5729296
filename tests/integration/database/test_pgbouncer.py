"""PgBouncer in transaction mode between aegate and PostgreSQL: all that needs the database works on two connections."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from aegate_core.database import migrate, open_database
from aegate_core.services.studies import close_due
from aegate_scp.sink import Sink, SinkOptions
from tests.dicom import ct_study
from tests.integration.api.clients import BEFORE
from tests.integration.cli.installations import (
    QUICK,
    ROUTE,
    Up,
    device,
    installation,
    send_study,
    states,
)
from tests.integration.intake.hospital import Place, entity, route, spool_folder
from tests.integration.peers import store_scp
from tests.integration.pgbouncer import SERVER_CONNECTIONS, pgbouncer, through
from tests.integration.postgres import PostgresServer
from tests.integration.scu.clinic import clinic, reaches
from tests.integration.scu.clinic import entity as receiver
from tests.integration.waiting import eventually

_numbers = count(1)


@pytest.fixture(scope="module")
def bouncer(postgres: PostgresServer) -> Iterator[Path]:
    with pgbouncer(postgres) as folder:
        yield folder


@pytest.fixture
def pooled_url(postgres: PostgresServer, bouncer: Path) -> str:
    return through(postgres.create(f"pooled_{next(_numbers)}"), bouncer)


async def test_a_study_goes_its_way_from_an_empty_database(pooled_url: str, tmp_path: Path) -> None:
    assert await migrate(pooled_url) != []
    with Sink(SinkOptions(tmp_path / "sink")) as sink, spool_folder(tmp_path / "data/spool") as spool:
        async with clinic(pooled_url, tmp_path) as here, here.worker(), here.worker("w2"):
            place = Place(here.db, tmp_path / "data", spool)
            await place.apply(entity("ct1"), receiver(sink.port), route("all", ["pacs"]))
            place.receive_all(ct_study("one", 20), "ct1", BEFORE)
            await place.index(BEFORE)
            await here.db.execute("UPDATE indexer_state SET scanned_at = $1", datetime.now(UTC))
            await close_due(here.db, now=datetime.now(UTC))
            await reaches(here, 1, "COMPLETED", deadline_s=60)
        assert len(sink.received) == 20


async def test_many_who_ask_share_what_connections_there_are(pooled_url: str) -> None:
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(open_database(pooled_url)) for _ in range(40)]

        async def ask(number: int) -> int:
            async with databases[number].transaction() as tx:
                first = await tx.fetch_value("SELECT txid_current()")
                assert await tx.fetch_value("SELECT txid_current()") == first
                return int(await tx.fetch_value("SELECT pg_backend_pid()"))

        pids = await asyncio.gather(*map(ask, [*range(40), *range(40)]))
    assert 1 <= len(set(pids)) <= SERVER_CONNECTIONS


DESTINATIONS = "{ destinations { nodes { id ae } } }"
WAITING = "{ queueItems { nodes { state } } studies { nodes { instanceCount } } }"
HOLD = "mutation($id: ID!) { holdDestination(id: $id) { __typename } }"
RESUME = "mutation($id: ID!) { resumeDestination(id: $id) { __typename } }"
CHANGED = "DestinationChanged"


def test_listener_indexer_workers_and_api_share_what_connections_there_are(
    postgres: PostgresServer, pooled_url: str, tmp_path: Path
) -> None:
    database = pooled_url.partition("?")[0].rpartition("/")[2]
    with store_scp(tmp_path, title="PACS") as pacs:
        manifests = {
            "ct1.yaml": device("ct1", more=QUICK),
            "pacs.yaml": device("pacs", pacs.port),
            "r.yaml": ROUTE,
        }
        more = ("--database", pooled_url, "--workers", "2")
        with installation(tmp_path, manifests, more=more) as up:
            nodes = up.ask(DESTINATIONS)["destinations"]["nodes"]
            (node,) = [n["id"] for n in nodes if n["ae"] == "default/pacs"]
            assert up.ask(HOLD, id=node) == {"holdDestination": {"__typename": CHANGED}}
            sent = send_study(up, tmp_path, "one", 5)
            waiting = eventually(lambda: has_items(up), deadline_s=120)
            assert waiting["queueItems"]["nodes"] == [{"state": "SCHEDULED"}]
            assert waiting["studies"]["nodes"] == [{"instanceCount": 5}]
            assert pacs.received() == []

            assert up.ask(RESUME, id=node) == {"resumeDestination": {"__typename": CHANGED}}
            eventually(lambda: states(up) == ["COMPLETED"], deadline_s=120)

            held = postgres.run(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'")
            assert up.events("database.away") == []
        assert {str(dcmread(path).SOPInstanceUID) for path in pacs.received()} == sent
    assert 1 <= int(held) <= SERVER_CONNECTIONS


def has_items(up: Up) -> dict[str, Any] | None:
    """Return what the API says when the study is closed."""
    said = up.ask(WAITING)
    return said if said["queueItems"]["nodes"] else None
