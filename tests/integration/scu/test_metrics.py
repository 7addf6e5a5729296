"""What a worker counts: alerts are made of it, and ask how much came since, so what has not happened yet is 0."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aegate_core.database import migrate
from aegate_core.resources.values import StudyTimes
from aegate_core.stores.spool import SpoolFolder
from aegate_scp.sink import Sink, SinkOptions
from aegate_scu.metrics import WorkerMetrics
from aegate_scu.tls import IDENTITY, identity_expires_at
from tests import dicom
from tests.dicom import ct_study
from tests.integration.identities import Authority
from tests.integration.intake.hospital import Place
from tests.integration.intake.hospital import entity as sender
from tests.integration.processes import free_port
from tests.integration.scu.clinic import breaker_is, clinic, entity, reaches
from tests.integration.waiting import eventually_async

CERTIFICATE = "aegate_client_certificate_not_after_seconds"

IN_TROUBLE, CLOSED, AWAY = (
    "aegate_destination_in_trouble",
    "aegate_units_closed_total",
    "aegate_database_away",
)


def value(metrics: WorkerMetrics, name: str, labels: Mapping[str, str] | None = None) -> float | None:
    return metrics.registry.get_sample_value(name, dict(labels or {}))


async def test_destination_is_in_trouble_until_it_stores_again(database_url: str, tmp_path: Path) -> None:
    port, pacs = free_port(), {"ae": "default/pacs"}
    async with clinic(database_url, tmp_path) as here:
        await here.configure(entity(port))
        deliveries = [await here.enqueue(*await here.store(*ct_study(f"s{n}", 1))) for n in range(4)]
        async with here.worker() as worker:
            await breaker_is(here, "OPEN")
            await eventually_async(
                lambda: value(worker.metrics, IN_TROUBLE, pacs) == 1, what="the trouble is shown"
            )
            with Sink(SinkOptions(tmp_path / "sink", port=port)):
                await here.probe_now()
                for delivery in deliveries:
                    await here.retry_now()
                    await reaches(here, delivery, "COMPLETED", deadline_s=60)
                await eventually_async(lambda: value(worker.metrics, IN_TROUBLE, pacs) is None)


async def test_destination_that_somebody_holds_is_not_called_in_trouble(
    database_url: str, tmp_path: Path
) -> None:
    pacs = {"ae": "default/pacs"}
    async with clinic(database_url, tmp_path) as here:
        await here.configure(entity(free_port()))
        for n in range(4):
            await here.enqueue(*await here.store(*ct_study(f"s{n}", 1)))
        async with here.worker() as worker:
            await eventually_async(lambda: value(worker.metrics, IN_TROUBLE, pacs) == 1)
            await here.db.execute("UPDATE destination SET held_at = $1", datetime.now(UTC))
            await eventually_async(lambda: value(worker.metrics, IN_TROUBLE, pacs) is None)


async def test_closes_are_counted_by_outcome_from_nought_on(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        with contextlib.closing(SpoolFolder(here.data.root / "spool", "pod-1")) as spool:
            place = Place(here.db, here.data.root, spool)
            await place.apply(sender("ct1", study=StudyTimes(quiet_period_s=1, max_age_s=60)))
            async with here.worker() as worker:
                for outcome in ("ROUTED", "NO_ROUTE", "STORED"):
                    assert value(worker.metrics, CLOSED, {"outcome": outcome}) == 0
                at = datetime.now(UTC) - timedelta(seconds=30)
                place.receive(dicom.ct(), when=at)
                await place.index(at)
                await eventually_async(
                    lambda: value(worker.metrics, CLOSED, {"outcome": "NO_ROUTE"}) == 1, deadline_s=60
                )


async def test_database_that_is_away_is_said(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path / 'later' / 'aegate.sqlite3'}"
    async with clinic(url, tmp_path) as here, here.worker() as worker:
        await eventually_async(lambda: value(worker.metrics, AWAY) == 1)
        (tmp_path / "later").mkdir()
        await migrate(url)
        await eventually_async(lambda: value(worker.metrics, AWAY) == 0)


def test_database_is_there_until_it_is_not() -> None:
    assert value(WorkerMetrics(), AWAY) == 0


async def test_a_worker_tells_when_its_certificate_ends(database_url: str, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    authority = Authority.make(tmp_path / "authority")
    authority.issue(secrets / IDENTITY, days=30)
    async with clinic(database_url, tmp_path) as here, here.worker(secrets=secrets) as worker:
        told = await eventually_async(lambda: value(worker.metrics, CERTIFICATE, {"file": "tls.crt"}))
        assert told is not None
        left = datetime.fromtimestamp(told, UTC) - datetime.now(UTC)
        assert timedelta(days=29) < left <= timedelta(days=30)


async def test_without_a_certificate_none_is_told(database_url: str, tmp_path: Path) -> None:
    (tmp_path / IDENTITY).mkdir()
    (tmp_path / IDENTITY / "tls.crt").write_text("not PEM")
    assert identity_expires_at(None) is identity_expires_at(tmp_path) is None
    async with clinic(database_url, tmp_path) as here, here.worker(secrets=tmp_path) as worker:
        await eventually_async(lambda: value(worker.metrics, AWAY) == 0)
        assert value(worker.metrics, CERTIFICATE, {"file": "tls.crt"}) is None
