"""A hospital of two patient partitions, with the same things in both, and a caller for each."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aegate_core.resources.values import (
    ApplicationEntity,
    ImageRoute,
    Metadata,
    PatientPartition,
    RouteFrom,
)
from aegate_core.services import operations
from aegate_core.services.audit import Area, Deed, record
from aegate_core.services.operations import Wanted
from aegate_core.services.studies import close_due
from aegate_core.services.worklist import Wished, create
from aegate_core.stores.scope import ALL_ROWS
from aegate_graphql_api.reach import Reach
from aegate_graphql_api.schema.nodes import KINDS
from aegate_graphql_api.tokens import create_token
from tests.dicom import ct_study
from tests.integration.api.clients import API, BEFORE, connect
from tests.integration.api.recording import RecordingDatabase
from tests.integration.intake.hospital import Place, entity, key, route

NORTH, SOUTH = "north/main", "south/main"
STEP: dict[str, object] = {
    "patient_name": "Somebody^Scheduled",
    "patient_id": "4711",
    "scheduled_station_ae_title": ["CT1"],
    "scheduled_procedure_step_start_date": "20260131",
    "scheduled_procedure_step_start_time": "0930",
    "modality": "CT",
    "scheduled_procedure_step_description": "CT Thorax",
}


@dataclass(frozen=True)
class TwoPartitions:
    """What a test asks: as ``north`` or ``south``, who see one partition each, or as ``everybody``."""

    api: API
    recorder: RecordingDatabase
    north: str
    south: str
    everybody: str

    async def ids(self, part: str) -> dict[str, str]:
        """Return one global id of each kind of row, of the partition ``part`` (north or south)."""
        asked = {
            "Study": "SELECT id FROM study WHERE partition = $1",
            "Series": "SELECT r.id FROM series r JOIN study s ON s.id = r.study_id WHERE s.partition = $1",
            "Instance": "SELECT i.id FROM instance i JOIN series r ON r.id = i.series_id "
            "JOIN study s ON s.id = r.study_id WHERE s.partition = $1",
            "CloseUnit": "SELECT u.id FROM close_unit u JOIN study s ON s.id = u.study_id WHERE s.partition = $1",
            "QueueItem": "SELECT id FROM delivery WHERE partition = $1",
            "Conflict": "SELECT c.id FROM conflict c JOIN study s ON s.id = c.study_id WHERE s.partition = $1",
            "QuarantinedObject": "SELECT o.arrival_id FROM quarantined_object o WHERE o.ae = "
            "replace($1, '/main', '/ct')",
            "Operation": "SELECT operation_id FROM operation_partition WHERE partition = $1",
            "AuditEvent": "SELECT id FROM audit_event WHERE partition = $1",
            "WorklistItem": "SELECT id FROM worklist_item WHERE partition = $1",
        }
        found = {kind: await self.api.db.fetch_value(sql, f"{part}/main") for kind, sql in asked.items()}
        found |= {
            "Destination": f"{part}/pacs",
            "PatientPartition": f"{part}/main",
            "ApplicationEntity": f"{part}/ct",
            "ImageRoute": f"{part}/to-pacs",
        }
        assert None not in found.values(), found
        return {kind: encoded(kind, key) for kind, key in found.items()}


def encoded(kind: str, key: object) -> str:
    return base64.urlsafe_b64encode(f"{kind}:{key}".encode()).decode().rstrip("=")


def kinds_of(path: str) -> list[str]:
    """Return the kinds of ids that an argument may take: by its name such as ``input.studyIds``, else each in turn."""
    name = path.rpartition(".")[2].removesuffix("s").removesuffix("Id")
    named = name[:1].upper() + name[1:]
    return [named] if named in KINDS else list(KINDS)


ABSENT = {
    "QuarantinedObject": "f" * 32,
    "Destination": "default/nobody",
    "PatientPartition": "default/nobody",
    "ApplicationEntity": "default/nobody",
    "ImageRoute": "default/nobody",
}


def absent(kind: str) -> str:
    """Return an id of ``kind`` that nothing has."""
    return encoded(kind, ABSENT.get(kind, 99_999_999))


async def two_partitions(place: Place, tmp_path: Path) -> TwoPartitions:
    """Receive, index, close and route a study in each; a broken object and a conflict, too."""
    parts = [part.partition("/")[0] for part in (NORTH, SOUTH)]
    resources: list[ApplicationEntity | ImageRoute | PatientPartition] = []
    for part in parts:
        resources += [
            PatientPartition(Metadata(key(f"{part}/main"))),
            entity(f"{part}/ct", patient_partition="main"),
            entity(f"{part}/pacs", patient_partition="main"),
            route(f"{part}/to-pacs", ["pacs"], RouteFrom(aes=("ct",))),
        ]
    await place.apply(*resources)
    for part in parts:
        place.receive_all(ct_study(part, 2), f"{part}/ct", BEFORE)
        place.receive(b"no DICOM at all", f"{part}/ct", BEFORE)
    await place.index(BEFORE)
    await place.db.execute("UPDATE indexer_state SET scanned_at = $1", datetime.now(UTC))
    await close_due(place.db, now=BEFORE + timedelta(minutes=30))
    for part in parts:
        place.receive_all(ct_study(f"late-{part}", 1), f"{part}/ct", datetime.now(UTC))
    await place.index(datetime.now(UTC))
    await place.db.execute(
        "INSERT INTO conflict (kind, arrival_id, other_arrival_id, study_id, created_at) "
        "SELECT 'PATIENT_MISMATCH', min(a.id), '', s.id, $1::timestamptz FROM study s "
        "JOIN arrival a ON a.study_id = s.id GROUP BY s.id",
        BEFORE,
    )
    for part in parts:
        await place.db.execute(
            "INSERT INTO spool_backlog (process, ae, oldest_received_at, arrivals) VALUES ('indexer', $1, $2, 7)",
            f"{part}/ct",
            BEFORE,
        )
        await record(
            place.db, Deed("test", "test", "test", area=Area.QUEUE, partition=f"{part}/main"), now=BEFORE
        )
        items = await place.db.fetch("SELECT id FROM delivery WHERE partition = $1", f"{part}/main")
        await create(place.db, Wished(f"{part}/main", STEP, "test"), ALL_ROWS, now=BEFORE)
        begun = await operations.begin(place.db, Wanted("holdQueueItems", "test"), part, None, now=BEFORE)
        await operations.about(place.db, begun.id, [int(row["id"]) for row in items])
    recorder = RecordingDatabase(place.db)
    api = connect(place, tmp_path, db=recorder)
    both = ["DICOM_QUEUE", "AE_EDITOR"]

    def token(name: str, *partitions: str) -> str:
        reach = Reach(frozenset(partitions), frozenset(p.partition("/")[0] for p in partitions))
        return create_token(api.tokens, name, both, reach=reach)

    return TwoPartitions(
        api, recorder, token("north", NORTH), token("south", SOUTH), token("everybody", NORTH, SOUTH)
    )
