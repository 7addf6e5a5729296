"""The hospital of examples/hospital as docs/api finds it: three devices have sent, nothing has gone on yet."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydicom.dataset import Dataset

from aegate_core.database import Database, open_database
from aegate_core.resources.locations import read_locations
from aegate_core.resources.validation import validate_manifests
from aegate_core.resources.values import ApplicationEntity, Resource
from aegate_core.services.entities import apply_configuration
from aegate_core.services.locations import import_locations
from aegate_core.services.manifests.folder import FolderManifests
from aegate_core.services.studies import close_due
from aegate_core.stores.queue.verifying import finish, take
from aegate_graphql_api.tokens import create_token
from aegate_scu.peer import not_connected
from tests.dicom import Instance, ct, mr, us
from tests.integration.api.clients import connect
from tests.integration.api.serving import Served, served_api
from tests.integration.docs.pages import ROOT
from tests.integration.intake.hospital import Place, spool_folder
from tests.integration.waiting import eventually_async

EXAMPLE = ROOT / "examples" / "hospital"
WORKER = "worker-1"


@asynccontextmanager
async def hospital(database_url: str, root: Path) -> AsyncIterator[tuple[Served, str]]:
    """Serve the API of the filled hospital; yield it with the token of Ann, who may do everything."""
    folder = root / "hospital"
    shutil.copytree(EXAMPLE, folder)
    async with open_database(database_url) as db:
        with spool_folder(root / "spool") as spool:
            place = Place(db, root, spool)
            resources = validate_manifests([str(folder)]).resources
            await import_locations(db, read_locations(folder / "locations.csv").locations)
            await apply_configuration(db, resources, now=datetime.now(UTC))
            await fill(place, resources)
            api = connect(place, root)
            ann = create_token(api.tokens, "ann", ["DICOM_QUEUE", "AE_EDITOR"])
            manifests = FolderManifests(folder, db)
            async with api.client, served_api(api, manifests=manifests) as served:
                working = asyncio.create_task(eventually_async(lambda: work(db), deadline_s=600))
                try:
                    yield served, ann
                finally:
                    working.cancel()
                    await asyncio.wait([working])


async def work(db: Database) -> bool:
    """Be a worker that sends nothing: show that it lives, and say that whichever device is asked answers."""
    now = datetime.now(UTC)
    await db.execute(
        "UPDATE worker_state SET seen_at = $1 WHERE seen_at < $2", now, now - timedelta(seconds=2)
    )
    asked = await take(db, WORKER, now=now)
    if asked is not None:
        await finish(db, asked.id, {"associationMs": 4, "echoMs": 2, "accepted": []})
    return False


async def fill(place: Place, resources: Iterable[Resource]) -> None:
    """Receive a CT, an ultrasound image and an MR of three people, all complete; the workstation is switched off."""
    now = datetime.now(UTC)
    begin = now - timedelta(minutes=30)
    entities = [r for r in resources if isinstance(r, ApplicationEntity)]
    workstation = next(entity for entity in entities if entity.key.name == "ws-read-1")
    for number in (1, 2, 3):
        place.receive(_ct(number), "ct-er", begin)
    place.receive(_us(), "us-cardio", begin)
    place.receive(_mr(), "mr-1", begin)
    await place.index(begin)
    await place.db.execute("UPDATE indexer_state SET scanned_at = $1", now)
    await close_due(place.db, now=now - timedelta(minutes=10))
    await place.db.execute(
        "INSERT INTO worker_state (worker, started_at, seen_at, slots) VALUES ($1, $2, $2, 4)", WORKER, now
    )
    await place.db.execute(
        "UPDATE destination SET breaker = 'OPEN', breaker_since = $1, failures_in_row = 3, next_probe_at = $2, "
        "last_error = $3 WHERE ae = 'default/ws-read-1'",
        begin,
        now + timedelta(minutes=5),
        not_connected(workstation),
    )


def _ct(number: int) -> Dataset:
    ds = ct(Instance(study="thorax", number=number, patient_id="4711", patient_name="Miller^Ann"))
    return _said(ds, "19710314", "A-1001", "CT Thorax", "20261127")


def _us() -> Dataset:
    ds = us()
    ds.PatientName, ds.PatientID, ds.StudyInstanceUID = (
        "Müller^Jörg",
        "4712",
        ct(Instance("echo")).StudyInstanceUID,
    )
    return _said(ds, "19650702", "A-1002", "Echocardiography", "20261127")


def _mr() -> Dataset:
    ds = mr(Instance(study="knee", patient_id="4711", patient_name="Meyer^Otto"))
    ds.BodyPartExamined = "HEAD"
    return _said(ds, "19880120", "A-2001", "MR Head", "20261126")


def _said(ds: Dataset, birth: str, accession: str, description: str, date: str) -> Dataset:
    ds.PatientBirthDate, ds.AccessionNumber, ds.StudyDescription, ds.StudyDate = (
        birth,
        accession,
        description,
        date,
    )
    ds.SeriesDescription = description
    return ds
