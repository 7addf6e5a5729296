"""Mend what can be mended without losing anything; every deed is an audit row in the same transaction.

What cannot be explained goes into quarantine, where people see it: nothing is ever deleted here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from aegate_core.database import Database
from aegate_core.decisions.retry import Tally, final_state
from aegate_core.dicom.digest import digest_data_set
from aegate_core.dicom.identifiers import ArrivalId, ResourceKey, parse_arrival_id
from aegate_core.dicom.part10 import read_file_meta
from aegate_core.errors import NotDICOM
from aegate_core.services import audit
from aegate_core.services.audit import Deed
from aegate_core.services.entities import load_configuration
from aegate_core.services.fsck.findings import Finding, Kind
from aegate_core.services.indexing import Prepared, write_batch
from aegate_core.services.ownership import must_be_ours
from aegate_core.settings import DataFolder
from aegate_core.stores import spool
from aegate_core.stores.blobs import open_blobs, parse_blob_key
from aegate_core.stores.index import checking as index
from aegate_core.stores.index.found import UNKNOWN_SENDER
from aegate_core.stores.queue import checking as queue
from aegate_core.stores.queue import outcomes
from aegate_core.stores.queue.history import Note, Transition, transition
from aegate_core.stores.spool import SideRecord

ACTOR = "aegate fsck"


async def repair(db: Database, data: DataFolder, finding: Finding, *, now: datetime) -> bool:
    """Mend one finding that is repairable, and record it; False: it is right by now. Safe to repeat.

    Raises StorageError, DatabaseUnavailable: it stands as it was then.
    """
    if finding.kind is Kind.SPOOL_UNREADABLE:
        return await _quarantine_spooled(db, data, finding, now)
    if finding.kind is Kind.BLOB_UNKNOWN:
        return await _quarantine_blob(db, data, finding, now)

    async def work(tx: Database) -> bool:
        if await _MEND[finding.kind](tx, finding, now) is False:
            return False
        await _record(tx, finding, now)
        return True

    return await db.atomically(work)


async def _record(tx: Database, finding: Finding, now: datetime) -> None:
    deed = Deed(ACTOR, "repair", finding.subject, detail={"kind": finding.kind.value}, area=audit.Area.IMAGES)
    await audit.record(tx, deed, now=now)


async def _quarantine_spooled(db: Database, data: DataFolder, finding: Finding, now: datetime) -> bool:
    """Make a file of the spool a quarantined blob; it leaves the spool last."""
    path = cast(Path, finding.row)
    if await asyncio.to_thread(spool.is_readable, path):
        return False
    arrival = parse_arrival_id(path.name.removesuffix(".dcm"))
    ae = ResourceKey(*path.relative_to(data.spool).parts[:2])
    blobs = open_blobs(data)
    await must_be_ours(db, blobs)
    key = await asyncio.to_thread(blobs.put, arrival, path)
    prepared = await asyncio.to_thread(_prepared, path, arrival, ae, finding.message)
    is_new = await _quarantine(db, finding, replace(prepared, blob_key=key), now)
    await asyncio.to_thread(spool.take_out, path)
    return is_new


async def _quarantine_blob(db: Database, data: DataFolder, finding: Finding, now: datetime) -> bool:
    """Give a blob a row among the quarantined."""
    key, arrival = parse_blob_key(cast(str, finding.row))
    blobs = open_blobs(data)
    await must_be_ours(db, blobs)

    def prepare() -> Prepared:
        with blobs.local(key) as path:
            return _prepared(path, arrival, UNKNOWN_SENDER, finding.message)

    prepared = await asyncio.to_thread(prepare)
    return await _quarantine(db, finding, replace(prepared, blob_key=key), now)


async def _quarantine(db: Database, finding: Finding, prepared: Prepared, now: datetime) -> bool:
    """List it, unless its row was committed since it was found."""

    async def work(tx: Database) -> bool:
        is_new = bool(await write_batch(tx, [prepared], await load_configuration(tx), now=now))
        if is_new:
            await _record(tx, finding, now)
        return is_new

    return await db.atomically(work)


def _prepared(path: Path, arrival: ArrivalId, ae: ResourceKey, reason: str) -> Prepared:
    try:
        with path.open("rb") as file:
            meta = read_file_meta(file)
        offset, syntax = meta.data_offset, str(meta.transfer_syntax_uid)
    except NotDICOM:
        offset, syntax = 0, ""
    side = SideRecord(
        arrival_id=arrival,
        ae=ae,
        calling_title="",
        called_title="",
        peer_address="",
        received_at=datetime.fromtimestamp(int(arrival[:12], 16) / 1000, UTC),
        abstract_syntax="",
        transfer_syntax=syntax,
        sop_class_uid="",
        sop_instance_uid="",
        data_offset=offset,
        size_bytes=path.stat().st_size,
    )
    return Prepared(side, "", digest_data_set(path, offset), None, f"aegate fsck: {reason}")


Mend = Callable[[Database, Finding, datetime], Awaitable[bool | None]]
"""False: nothing is wrong any more."""


async def _recount_series(tx: Database, finding: Finding, now: datetime) -> bool:
    return await index.recount_series(tx, cast(index.WrongCount, finding.row).id)


async def _recount_study(tx: Database, finding: Finding, now: datetime) -> bool:
    return await index.recount_study(tx, cast(index.WrongCount, finding.row).id)


async def _list(tx: Database, finding: Finding, now: datetime) -> None:
    await index.list_quarantined(tx, finding.subject, "aegate fsck: was quarantined and on no list", now=now)


async def _make_due(tx: Database, finding: Finding, now: datetime) -> None:
    await index.make_due(tx, cast(int, finding.row))


async def _recount_delivery(tx: Database, finding: Finding, now: datetime) -> None:
    await queue.recount(tx, cast(queue.WrongDelivery, finding.row))


async def _end_lease(tx: Database, finding: Finding, now: datetime) -> None:
    await queue.end_lease(tx, cast(int, finding.row), now=now)


async def _restate(tx: Database, finding: Finding, now: datetime) -> None:
    """Let a delivery that says it is over, and is not, go on; give others the state that their instances say."""
    delivery = cast(queue.FinishedDelivery, finding.row)
    tally = Tally(**{state.lower(): n for state, n in delivery.instances.items()})
    note = Note(ACTOR, now, "REPAIRED", finding.message)
    if delivery.state == "CANCELED":
        await outcomes.cancel_pending(tx, delivery.id, now=now)
        return
    target = final_state(tally) or "SCHEDULED"
    columns: dict[str, object] = {"available_at": now, "finished_at": None if target == "SCHEDULED" else now}
    await transition(tx, [delivery.id], Transition(delivery.state, target, note, columns))


_MEND: dict[Kind, Mend] = {
    Kind.SERIES_COUNTS: _recount_series,
    Kind.STUDY_COUNTS: _recount_study,
    Kind.QUARANTINE_UNLISTED: _list,
    Kind.UNIT_NEVER_DUE: _make_due,
    Kind.DELIVERY_COUNTS: _recount_delivery,
    Kind.DELIVERY_STATE: _restate,
    Kind.LEASE_ENDLESS: _end_lease,
}
