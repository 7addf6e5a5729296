"""Look at every file and every row, and yield what is not as it must be. Nothing is changed.

It may run beside a working system: rows are asked one statement an invariant, and what lies between a file and its row
is looked at a second time before it counts, because an indexer may be at work on just that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from aegate_core.database import Database
from aegate_core.decisions.retry import Tally, final_state
from aegate_core.dicom.digest import digest_data_set
from aegate_core.dicom.identifiers import ArrivalId
from aegate_core.dicom.part10 import read_file_meta
from aegate_core.errors import InvalidValue, NotDICOM
from aegate_core.services.fsck.findings import Finding, Kind
from aegate_core.settings import DataFolder
from aegate_core.stores import spool
from aegate_core.stores.blobs import BlobStore, blob_key, open_blobs, parse_blob_key
from aegate_core.stores.index import checking as index
from aegate_core.stores.index.checking import ArrivalBlob
from aegate_core.stores.queue import checking as queue

PAGE = 500


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the check is, in bytes of blobs; the rest takes no time beside them."""

    done_bytes: int
    total_bytes: int


@dataclass(slots=True)
class Summary:
    """What was looked at; filled while `check` runs."""

    arrivals: int = 0
    size_bytes: int = 0
    blobs: int = 0
    spooled: int = 0
    """Acknowledged and not indexed yet: the indexer takes them. No damage."""
    left_over: int = 0
    """Files of listeners that died before they acknowledged: the next sweep removes them. No damage."""
    unsettled: int = 0
    """Blobs that were put a moment ago and have no row yet: an indexer may be about to write it. No damage."""
    to_delete: int = 0
    """Files of images that retention removed, and was ended before it deleted them: the next run does. No damage."""


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Look:
    """How closely it is looked."""

    digests: bool = True
    """False: sizes are compared, and bytes not read."""
    settled_after: timedelta = timedelta(0)
    """How long a blob without a row is left alone, where indexers run whose spools are not here."""


EVERYTHING = Look()


async def check(
    db: Database,
    data: DataFolder,
    summary: Summary,
    *,
    look: Look = EVERYTHING,
    report: Report | None = None,
) -> AsyncIterator[Finding]:
    """Yield everything that is wrong.

    Raises DatabaseUnavailable.
    """
    for step in (_rows(db), _spool(data, summary)):
        async for finding in step:
            yield finding
    blobs = open_blobs(data)
    async for finding in _arrivals(db, blobs, summary, digests=look.digests, report=report):
        yield finding
    async for finding in _blobs(db, data, blobs, summary, look.settled_after):
        yield finding


async def _rows(db: Database) -> AsyncIterator[Finding]:
    for row in await index.wrong_series(db):
        yield Finding(Kind.SERIES_COUNTS, f"series {row.id}", _counts("instances, bytes", row), row)
    for row in await index.wrong_studies(db):
        yield Finding(Kind.STUDY_COUNTS, f"study {row.id}", _counts("series, instances, bytes", row), row)
    for what, subject in await index.loose_rows(db):
        yield Finding(Kind.LOOSE_ROW, subject, f"{what}: restore the index from a backup")
    for arrival in await index.unlisted_quarantine(db):
        yield Finding(Kind.QUARANTINE_UNLISTED, arrival, "quarantined, and on no list that people see")
    for unit in await index.units_never_due(db):
        message = "holds images that nothing will ever route: it is open and has no time to close at"
        yield Finding(Kind.UNIT_NEVER_DUE, f"close unit {unit}", message, unit)
    async for finding in _queue(db):
        yield finding


async def _queue(db: Database) -> AsyncIterator[Finding]:
    for row in await queue.wrong_deliveries(db):
        yield Finding(Kind.DELIVERY_COUNTS, f"delivery {row.id}", _counts("total, done, failed", row), row)
    for delivery in await queue.finished(db):
        if _is_wrong(delivery):
            states = ", ".join(f"{n} {state}" for state, n in sorted(delivery.instances.items()))
            message = f"is {delivery.state}, and its instances say otherwise: {states}"
            yield Finding(Kind.DELIVERY_STATE, f"delivery {delivery.id}", message, delivery)
    for delivery_id, arrival in await queue.without_arrival(db):
        message = (
            f"is to send the arrival {arrival}, which is not in the index: cancel it, or restore a backup"
        )
        yield Finding(Kind.DELIVERY_WITHOUT_ARRIVAL, f"delivery {delivery_id}", message)
    for slot, worker in await queue.endless_leases(db, now=await db.time()):
        message = (
            f"taken by {worker} with a lease that does not run out: its destination lacks one association"
        )
        yield Finding(Kind.LEASE_ENDLESS, f"slot {slot}", message, slot)


def _counts(names: str, row: index.WrongCount | queue.WrongDelivery) -> str:
    return f"{names} must be {row.counted}, and the row says {row.said}"


def _is_wrong(delivery: queue.FinishedDelivery) -> bool:
    """Say whether a finished delivery contradicts its instances. What a person cancelled may hold any that are over."""
    tally = Tally(**{state.lower(): n for state, n in delivery.instances.items()})
    if tally.pending or delivery.state == "CANCELED":
        return bool(tally.pending)
    return final_state(tally) != delivery.state


async def _spool(data: DataFolder, summary: Summary) -> AsyncIterator[Finding]:
    unreadable: list[tuple[Path, str]] = []
    waiting = await asyncio.to_thread(
        lambda: sum(
            1 for _ in spool.scan(data.spool, unreadable=lambda path, why: unreadable.append((path, why)))
        )
    )
    summary.spooled = waiting
    summary.left_over = await asyncio.to_thread(spool.count_left_over, data.spool)
    for path, why in unreadable:
        message = f"acknowledged, and its side record cannot be read ({why}): nobody indexes it"
        yield Finding(Kind.SPOOL_UNREADABLE, str(path.relative_to(data.root)), message, path)


async def _arrivals(
    db: Database, blobs: BlobStore, summary: Summary, *, digests: bool, report: Report | None
) -> AsyncIterator[Finding]:
    """Compare every arrival's row with its blob."""
    _, total = await index.totals(db)
    last = ""
    while page := await index.arrivals_after(db, last, PAGE):
        last = page[-1].arrival_id
        for arrival in page:
            finding = await asyncio.to_thread(_compare, blobs, arrival, digests)
            if finding is not None and await _is_still_wanted(db, arrival.arrival_id):
                yield finding
            summary.arrivals += 1
            summary.size_bytes += arrival.size_bytes
            if report:
                report(Progress(summary.size_bytes, max(total, summary.size_bytes)))


async def _is_still_wanted(db: Database, arrival: str) -> bool:
    """Look again: retention may have removed it since its row was read."""
    return bool(await index.known_of(db, [arrival])) and not await index.removed_of(db, [arrival])


def _compare(blobs: BlobStore, arrival: ArrivalBlob, digests: bool) -> Finding | None:
    def found(kind: Kind, message: str) -> Finding:
        return Finding(kind, arrival.arrival_id, f"{message}: restore it from a backup, or send it again")

    try:
        size = blobs.size_bytes(arrival.blob_key)
        if size != arrival.size_bytes:
            return found(Kind.BLOB_CHANGED, f"blob must have {arrival.size_bytes} bytes, got {size}")
        if digests and _digest(blobs, arrival.blob_key) != arrival.sha256:
            return found(Kind.BLOB_CHANGED, "blob does not have the digest that it had when it was indexed")
    except (FileNotFoundError, InvalidValue):
        return found(
            Kind.BLOB_MISSING, f"the row says that a blob lies at {arrival.blob_key}, and none is there"
        )
    except NotDICOM:
        return found(Kind.BLOB_CHANGED, "blob is no Part 10 file any more")
    except OSError as error:
        return found(Kind.BLOB_UNREADABLE, f"blob cannot be read ({error.strerror}): look at disk and rights")
    return None


def _digest(blobs: BlobStore, key: str) -> str:
    with blobs.local(key) as path:
        with path.open("rb") as file:
            offset = read_file_meta(file).data_offset
        return digest_data_set(path, offset)


async def _blobs(
    db: Database, data: DataFolder, blobs: BlobStore, summary: Summary, settled_after: timedelta
) -> AsyncIterator[Finding]:
    """Find what lies in the blob store and no row knows."""
    pages = blobs.listing()
    while (
        page := await asyncio.to_thread(next, pages, None)
    ) is not None:  # an emptied folder is a page, too
        named = {arrival: name for name in page if (arrival := _arrival_of(name)) is not None}
        summary.blobs += len(named)
        summary.to_delete += len(await index.removed_of(db, sorted(named)))
        for name in page:
            if _arrival_of(name) is None:
                message = "is no blob by its name: nobody reads it; move it away when you know what it is"
                yield Finding(Kind.FOREIGN_FILE, f"blobs/{name}", message)
        for arrival in sorted(named.keys() - await index.known_of(db, sorted(named))):
            if await asyncio.to_thread(_is_young, blobs, named[arrival], settled_after):
                summary.unsettled += not await index.known_of(db, [arrival])
            elif await _belongs_to_nobody(db, data, blobs, arrival):
                message = "a blob that no row knows: its index was lost, or is another one (--database)"
                yield Finding(Kind.BLOB_UNKNOWN, arrival, message, named[arrival])


def _is_young(blobs: BlobStore, key: str, settled_after: timedelta) -> bool:
    try:
        return settled_after > timedelta(0) and blobs.age(key) < settled_after
    except FileNotFoundError:
        return False


async def _belongs_to_nobody(db: Database, data: DataFolder, blobs: BlobStore, arrival: ArrivalId) -> bool:
    """Look again: what is in the spool is about to be indexed, and by the time it has left it, it has a row."""
    if await asyncio.to_thread(spool.holds, data.spool, arrival):
        return False
    is_there = await asyncio.to_thread(blobs.holds_any, [blob_key(arrival)])
    return is_there and not await index.known_of(db, [arrival])


def _arrival_of(name: str) -> ArrivalId | None:
    try:
        return parse_blob_key(name)[1]
    except InvalidValue:
        return None
