"""A clinic in miniature for tests of the queue: stored objects, configured receivers, workers in this process."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydicom import Dataset, dcmread

from aegate_core.database import Database, DatabaseClock, open_database
from aegate_core.decisions.moving import NotMovingCode
from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.arrival_ids import new_arrival_id
from aegate_core.dicom.identifiers import ArrivalId, ResourceKey
from aegate_core.dicom.part10 import read_file_meta
from aegate_core.resources.values import ApplicationEntity, Level, Metadata
from aegate_core.services import deliveries
from aegate_core.services.deliveries import NewDelivery, enqueue
from aegate_core.services.entities import apply_configuration
from aegate_core.settings import Bucket, DataFolder
from aegate_core.stores.blobs import open_blobs
from aegate_scu.metrics import WorkerMetrics
from aegate_scu.settings import WorkerSettings
from aegate_scu.worker import Worker
from tests.dicom import write
from tests.integration.waiting import eventually_async

CT1 = ResourceKey("default", "ct1")
PACS = ResourceKey("default", "pacs")


def entity(port: int, *, name: str = "pacs", title: str = "SINK", **fields: object) -> ApplicationEntity:
    """Return a receiver on this machine."""
    key = ResourceKey("default", name)
    plain = ApplicationEntity(Metadata(key), AETitle(title), "127.0.0.1", port)
    return replace(plain, **fields)  # type: ignore[arg-type] # the fields are named by the test


@dataclass
class Clinic:
    """A database and a data folder, filled by the test."""

    db: Database
    data: DataFolder
    url: str
    studies: int = 0
    stored: dict[ArrivalId, Path] = field(default_factory=dict)

    async def configure(self, *entities: ApplicationEntity) -> None:
        """Make exactly these AEs the configuration in force."""
        await apply_configuration(self.db, entities, now=datetime.now(UTC))

    async def store(self, *objects: Dataset | Path) -> tuple[ArrivalId, ...]:
        """Put objects where an indexer would have put them."""
        return tuple([await self._store_one(o) for o in objects])

    async def _store_one(self, given: Dataset | Path) -> ArrivalId:
        arrival = new_arrival_id()
        self.data.root.mkdir(exist_ok=True)
        path = given if isinstance(given, Path) else write(given, self.data.root / f"{arrival}.dcm")
        key = open_blobs(self.data).put(arrival, path)
        with path.open("rb") as file:
            meta = read_file_meta(file)
        ds = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"], stop_before_pixels=True)
        now = datetime.now(UTC)
        await self.db.execute(
            "INSERT INTO arrival (id, ae, calling_title, called_title, peer_address, received_at, indexed_at, "
            "transfer_syntax_uid, sop_class_uid, sop_instance_uid, size_bytes, sha256, blob_key, header, outcome, "
            "routable) VALUES ($1, $2, 'CT1', 'AEGATE', '127.0.0.1', $3, $3, $4, $5, $6, $7, $8, $9, '{}', 'NEW', "
            "true)",
            arrival,
            str(CT1),
            now,
            str(meta.transfer_syntax_uid),
            str(ds.SOPClassUID),
            str(ds.SOPInstanceUID),
            path.stat().st_size,
            data_digest(path),
            key,
        )
        self.stored[arrival] = path
        return arrival

    async def enqueue(self, *arrivals: ArrivalId, to: ResourceKey = PACS, **fields: object) -> int:
        """Enqueue one delivery of a study of its own; return its id."""
        self.studies += 1
        new = NewDelivery(
            destination=to,
            level=Level.STUDY,
            study_id=self.studies,
            unit_uid=f"2.25.{self.studies}",
            source_ae=CT1,
            partition=PACS,
            arrival_ids=arrivals,
            requested_by="close",
            dedup_key=f"test:{self.studies}:{to}",
        )
        new = replace(new, **fields)  # type: ignore[arg-type] # the fields are named by the test
        async with self.db.transaction() as tx:
            assert await enqueue(tx, [new], now=datetime.now(UTC)) == 1
        return int(await self.db.fetch_value("SELECT id FROM delivery WHERE dedup_key = $1", new.dedup_key))

    async def states(self) -> dict[int, str]:
        """Return the state of every delivery."""
        return {int(r["id"]): str(r["state"]) for r in await self.db.fetch("SELECT id, state FROM delivery")}

    async def delivery(self, delivery_id: int) -> Mapping[str, object]:
        """Return a delivery's row."""
        row = await self.db.fetch_one("SELECT * FROM delivery WHERE id = $1", delivery_id)
        assert row is not None
        return row

    async def instances(self, delivery_id: int) -> list[tuple[str, int | None, str | None]]:
        """Return state, status and error of each instance of a delivery."""
        rows = await self.db.fetch(
            "SELECT state, status, error_code FROM delivery_instance WHERE delivery_id = $1 ORDER BY id",
            delivery_id,
        )
        return [(r["state"], r["status"], r["error_code"]) for r in rows]

    async def stored_count(self) -> int:
        """Return how many instances are recorded as stored."""
        return int(await self.db.fetch_value("SELECT count(*) FROM delivery_instance WHERE state = 'STORED'"))

    async def history(self, delivery_id: int) -> list[str]:
        """Return the states that a delivery went through."""
        rows = await self.db.fetch(
            "SELECT to_state FROM delivery_event WHERE delivery_id = $1 ORDER BY id", delivery_id
        )
        return [str(r["to_state"]) for r in rows]

    async def destination(self, name: ResourceKey = PACS) -> Mapping[str, object]:
        """Return a destination's row."""
        row = await self.db.fetch_one("SELECT * FROM destination WHERE ae = $1", str(name))
        assert row is not None
        return row

    async def probe_now(self) -> None:
        """Make the next probe due: tests do not wait out backoffs."""
        await self.db.execute(
            "UPDATE destination SET next_probe_at = $1 WHERE next_probe_at IS NOT NULL", datetime.now(UTC)
        )

    async def retry_now(self) -> None:
        """Make all backoffs end now."""
        past = datetime.now(UTC) - timedelta(seconds=1)
        await self.db.execute("UPDATE delivery SET available_at = $1 WHERE state = 'RETRY'", past)
        await self.db.execute("UPDATE delivery_instance SET available_at = $1 WHERE state = 'PENDING'", past)

    def settings(self, name: str = "w1", **fields: object) -> WorkerSettings:
        """Return a worker's settings with a short lease."""
        settings = WorkerSettings(
            self.data, self.url, name, lease=timedelta(seconds=3), heartbeat=timedelta(seconds=1)
        )
        return replace(settings, **fields)  # type: ignore[arg-type] # the fields are named by the test

    @asynccontextmanager
    async def worker(
        self, name: str = "w1", *, clock: DatabaseClock | None = None, **fields: object
    ) -> AsyncIterator[Worker]:
        """Run a worker in this event loop, with a connection of its own, until the end of the block."""
        started: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            async with open_database(self.url) as db:
                worker = Worker(db, self.settings(name, **fields), WorkerMetrics(), clock)
                started.set_result(worker)
                await worker.run()

        task = asyncio.create_task(work())
        worker = await started
        try:
            yield worker
        finally:
            worker.stop()
            await asyncio.wait_for(task, 20)


@asynccontextmanager
async def clinic(url: str, folder: Path, bucket: Bucket | None = None) -> AsyncIterator[Clinic]:
    """Open a clinic on a migrated database, its images in a folder or in a bucket."""
    async with open_database(url) as db:
        yield Clinic(db, DataFolder(folder / "data", bucket), url)


def data_digest(path: Path) -> str:
    """Return SHA-256 of the data set's bytes of a Part 10 file."""
    with path.open("rb") as file:
        offset = read_file_meta(file).data_offset
    return hashlib.sha256(path.read_bytes()[offset:]).hexdigest()


def digests(paths: Sequence[Path]) -> list[str]:
    """Return the digests of files, sorted."""
    return sorted(data_digest(p) for p in paths)


async def reaches(here: Clinic, delivery: int, state: str, deadline_s: float = 15) -> None:
    """Wait until a delivery is in a state."""

    async def there() -> bool:
        return (await here.states())[delivery] == state

    await eventually_async(there, deadline_s=deadline_s, what=f"delivery {delivery} is {state}")


async def breaker_is(here: Clinic, state: str) -> None:
    """Wait until the breaker of the receiver is in a state."""

    async def there() -> bool:
        return (await here.destination())["breaker"] == state

    await eventually_async(there, what=f"breaker is {state}")


async def why(here: Clinic, delivery: int) -> tuple[NotMovingCode, str]:
    """Return why a delivery does not move."""
    answer = (await deliveries.why_not_moving(here.db, [delivery], now=datetime.now(UTC)))[delivery]
    return answer.code, answer.text
