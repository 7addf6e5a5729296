"""What the tests of intake share: a small hospital, and arrivals put into the spool by the listener's own writer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite

from aegate_core.database import Database
from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.arrival_ids import new_arrival_id
from aegate_core.dicom.identifiers import ArrivalId, ResourceKey, parse_resource_key
from aegate_core.dicom.part10 import PREAMBLE_BYTES, read_file_meta
from aegate_core.errors import NotDICOM
from aegate_core.resources.values import (
    ApplicationEntity,
    ImageRoute,
    Level,
    Metadata,
    PatientPartition,
    Push,
    RouteFrom,
    StudyTimes,
)
from aegate_core.services.entities import apply_configuration
from aegate_core.services.intake import BatchResult, index_batch
from aegate_core.settings import Bucket, DataFolder
from aegate_core.stores.blobs import BlobStore, open_blobs
from aegate_core.stores.spool import SideRecord, SpooledArrival, SpoolFolder, scan

T0 = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def key(name: str) -> ResourceKey:
    return parse_resource_key(name) if "/" in name else ResourceKey("default", name)


def entity(name: str, level: Level = Level.STUDY, **values: object) -> ApplicationEntity:
    settings: dict[str, object] = {"study": StudyTimes(quiet_period_s=60, max_age_s=600)} | values
    return ApplicationEntity(
        Metadata(key(name)),
        AETitle(name.upper()),
        "127.0.0.1",
        104,
        route_level=level,
        **settings,  # type: ignore[arg-type]  # fields of ApplicationEntity, by name
    )


EVERYTHING = RouteFrom()


def route(name: str, to: Sequence[str], source: RouteFrom = EVERYTHING, **values: object) -> ImageRoute:
    return ImageRoute(Metadata(key(name)), tuple(to), source, **values)  # type: ignore[arg-type]  # by name


HOSPITAL: tuple[ApplicationEntity | ImageRoute | PatientPartition, ...] = (
    entity("ct1"),
    entity("us1", Level.IMAGE),
    entity("pacs", push=Push(priority=70)),
    entity("ws1"),
    route("ct-to-pacs", ["pacs"], RouteFrom(aes=("ct1",))),
    route("us-to-ws", ["ws1"], RouteFrom(aes=("us1",))),
)


@dataclass
class Place:
    """A data folder with a database: arrivals go in by `receive`, and into the index by `index`."""

    db: Database
    root: Path
    spool: SpoolFolder
    bucket: Bucket | None = None
    """Where blobs lie instead of in the folder."""
    blobs: BlobStore = field(init=False)
    _count: int = 0

    def __post_init__(self) -> None:
        self.blobs = open_blobs(self.data)

    @property
    def data(self) -> DataFolder:
        """Where all of it lies."""
        return DataFolder(self.root, self.bucket)

    def receive(self, ds: Dataset | bytes, ae: str = "ct1", when: datetime = T0) -> ArrivalId:
        """Put one object durably into the spool, as a listener does."""
        content = ds if isinstance(ds, bytes) else part10(ds)
        self._count += 1
        arrival = new_arrival_id(int(T0.timestamp() * 1000) + self._count)
        file = self.spool.begin(key(ae), arrival, content)
        file.commit(
            SideRecord(
                arrival_id=arrival,
                ae=key(ae),
                calling_title=ae.upper(),
                called_title="AEGATE",
                peer_address="127.0.0.1",
                received_at=when,
                abstract_syntax="1.2.840.10008.5.1.4.1.1.2",
                transfer_syntax="1.2.840.10008.1.2.1",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
                sop_instance_uid="1.2.3",
                data_offset=data_offset(content),
                size_bytes=len(content),
            )
        )
        return arrival

    def receive_all(
        self, objects: Iterable[Dataset], ae: str = "ct1", when: datetime = T0
    ) -> list[ArrivalId]:
        return [self.receive(ds, ae, when) for ds in objects]

    def spooled(self) -> list[SpooledArrival]:
        return list(scan(self.root / "spool"))

    async def index(self, now: datetime = T0) -> BatchResult:
        return await index_batch(self.db, self.blobs, self.spooled(), now=now)

    async def index_some(
        self, spooled: Sequence[SpooledArrival], now: datetime, *, db: Database | None = None
    ) -> BatchResult:
        return await index_batch(db or self.db, self.blobs, spooled, now=now)

    async def apply(self, *resources: ApplicationEntity | ImageRoute | PatientPartition) -> None:
        await apply_configuration(self.db, resources or HOSPITAL, now=T0)

    async def count(self, table: str, where: str = "1 = 1") -> int:
        return int(await self.db.fetch_value(f"SELECT count(*) FROM {table} WHERE {where}"))

    async def deliveries(self) -> list[dict[str, object]]:
        return await self.db.fetch(
            "SELECT dest.ae AS destination, d.level, d.instances_total, d.priority, d.supplementary, d.state, "
            "d.hold_code, d.requested_by, d.id FROM delivery d JOIN destination dest ON dest.id = d.destination_id "
            "ORDER BY d.id"
        )


def data_offset(content: bytes) -> int:
    """Return where the data set begins; right after the preamble where there is no file meta to read."""
    try:
        return read_file_meta(BytesIO(content)).data_offset
    except NotDICOM:
        return PREAMBLE_BYTES


def part10(ds: Dataset) -> bytes:
    buffer = DicomBytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


@contextmanager
def spool_folder(root: Path) -> Iterator[SpoolFolder]:
    folder = SpoolFolder(root)
    try:
        yield folder
    finally:
        folder.close()
