"""Index a quarantined object that a person released, by the way that any arrival goes.

Its blob is there already; only its rows are made. An object of which the reason still holds is in quarantine again, and
its row says why. The rows, the list of quarantined objects and the audit are one transaction: `indexing.write_batch`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

from aegate_core.database import Database
from aegate_core.dicom.digest import digest_data_set
from aegate_core.dicom.header import read_header
from aegate_core.dicom.identifiers import parse_arrival_id, parse_resource_key
from aegate_core.dicom.part10 import read_file_meta
from aegate_core.errors import InvalidValue, NotDICOM, StorageError
from aegate_core.events import ARRIVAL_LEFT, QUARANTINE_INDEXED, Log
from aegate_core.services import audit
from aegate_core.services.conflicts import raise_missed_conflicts
from aegate_core.services.entities import Configuration
from aegate_core.services.indexing import Prepared
from aegate_core.services.intake import write
from aegate_core.steps import Step, reached
from aegate_core.stores.blobs import BlobStore
from aegate_core.stores.index import releasing
from aegate_core.stores.index.releasing import ReleasedArrival
from aegate_core.stores.spool import SideRecord

MOST_ATTEMPTS = 3
"""So often a worker may end over one object before it counts as the object's fault."""

log = Log("intake")


async def index_released(
    db: Database, blobs: BlobStore, configuration: Configuration, *, lease: timedelta, now: datetime
) -> bool:
    """Index the released object that waited longest; False: none waits. Safe to repeat, and for two at once.

    Raises DatabaseUnavailable. A store of images that is away is waited for, as long as the lease each time.
    """
    taken = await releasing.take(db, lease, now=now)
    if taken is None:
        return False
    reached(Step.RELEASE_TAKEN)
    if taken.attempts > MOST_ATTEMPTS:
        reason = f"indexing it ended a worker {MOST_ATTEMPTS} times: look for process.failed in the logs of workers"
        await _refuse(db, taken, reason, now)
        return True
    try:
        prepared = await asyncio.to_thread(_prepared, blobs, taken)
    except (FileNotFoundError, InvalidValue):
        await _refuse(
            db, taken, "its file is not in the store of images any more: restore it from a backup", now
        )
        return True
    except (OSError, StorageError) as error:
        log(ARRIVAL_LEFT, arrival=taken.id, error=f"its file cannot be read now ({type(error).__name__})")
        await releasing.let_wait(db, taken.id)
        return True
    await write(db, [prepared], configuration, now)
    reached(Step.COMMITTED)
    if prepared.header is not None:
        await raise_missed_conflicts(db, [prepared.header.sop_instance_uid], now=now)
        log(QUARANTINE_INDEXED, arrival=taken.id, ae=taken.ae)
    return True


async def _refuse(db: Database, taken: ReleasedArrival, reason: str, now: datetime) -> None:
    async def work(tx: Database) -> None:
        await audit.record_released(tx, await releasing.settle(tx, {taken.id: reason}, now=now), now=now)

    await db.atomically(work)


def _prepared(blobs: BlobStore, taken: ReleasedArrival) -> Prepared:
    """Read the blob as an indexer reads a file of the spool. Raises FileNotFoundError, OSError, StorageError."""
    with blobs.local(taken.blob_key) as path:
        side = _side(taken, 0)
        try:
            with path.open("rb") as file:
                side = replace(side, data_offset=read_file_meta(file).data_offset)
            digest = digest_data_set(path, side.data_offset)
            if (digest, path.stat().st_size) != (taken.sha256, taken.size_bytes):
                changed = "its file is not what was received: restore it from a backup"
                return Prepared(side, taken.blob_key, taken.sha256, None, changed)
            return Prepared(side, taken.blob_key, digest, read_header(path))
        except NotDICOM as refusal:
            return Prepared(side, taken.blob_key, taken.sha256, None, refusal.message)


def _side(taken: ReleasedArrival, data_offset: int) -> SideRecord:
    return SideRecord(
        arrival_id=parse_arrival_id(taken.id),
        ae=parse_resource_key(taken.ae),
        calling_title=taken.calling_title,
        called_title=taken.called_title,
        peer_address=taken.peer_address,
        received_at=taken.received_at,
        abstract_syntax="",
        transfer_syntax=taken.transfer_syntax_uid,
        sop_class_uid=taken.sop_class_uid,
        sop_instance_uid=taken.sop_instance_uid,
        data_offset=data_offset,
        size_bytes=taken.size_bytes,
    )
