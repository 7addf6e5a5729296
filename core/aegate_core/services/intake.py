"""From the spool into the index: a batch of arrivals becomes blobs, rows and close units, and leaves the spool.

The order is the promise (design: intake): blobs durable, rows committed, conflicts with what others committed meanwhile
raised, and only then is a file taken out of the spool. Killed between any two steps, the next run does the rest; what
was done already changes nothing. An object that nobody can parse, or that the database refuses, is quarantined alone;
the rest of its batch goes on.
"""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from aegate_core.database import Database
from aegate_core.decisions.duplicates import Outcome
from aegate_core.dicom.digest import digest_data_set
from aegate_core.dicom.header import read_header
from aegate_core.dicom.identifiers import ArrivalId
from aegate_core.errors import NotDICOM
from aegate_core.events import ARRIVAL_LEFT, INSTANCE_QUARANTINED, Log
from aegate_core.services.conflicts import raise_missed_conflicts
from aegate_core.services.entities import Configuration, load_configuration
from aegate_core.services.indexing import Prepared, write_batch
from aegate_core.steps import Step, reached
from aegate_core.stores.blobs import BlobStore
from aegate_core.stores.index.receiving import REFUSED
from aegate_core.stores.spool import SpooledArrival, remove

_OURS = (errno.EMFILE, errno.ENFILE)
"""What this process or machine lacks when a file cannot be opened: it says nothing of the object."""

log = Log("intake")


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of a batch. Arrivals that were indexed before count nowhere."""

    new: int = 0
    duplicates: int = 0
    conflicts: int = 0
    quarantined: int = 0
    left: tuple[ArrivalId, ...] = ()
    """Could not be read from the disk now: they stay in the spool."""

    def __add__(self, other: BatchResult) -> BatchResult:
        return BatchResult(
            self.new + other.new,
            self.duplicates + other.duplicates,
            self.conflicts + other.conflicts,
            self.quarantined + other.quarantined,
            self.left + other.left,
        )

    @property
    def arrivals(self) -> int:
        """How many arrivals came into the index."""
        return self.new + self.duplicates + self.conflicts + self.quarantined


async def index_batch(
    db: Database,
    blobs: BlobStore,
    spooled: Sequence[SpooledArrival],
    *,
    now: datetime,
    configuration: Configuration | None = None,
) -> BatchResult:
    """Index arrivals and take them out of the spool. Safe to repeat, and for two at once.

    ``configuration``: what was last loaded; it is looked at again when something was written since. Raises
    DatabaseUnavailable, StorageError, StorageFull, MemoryError: nothing is lost then, and the same batch may be given
    again.
    """
    known = await load_configuration(db, configuration)
    reached(Step.BATCH_TAKEN)
    prepared, left = await asyncio.to_thread(prepare, blobs, spooled)
    counts = await write(db, prepared, known, now)
    reached(Step.COMMITTED)
    await raise_missed_conflicts(db, [p.header.sop_instance_uid for p in prepared if p.header], now=now)
    await asyncio.to_thread(_clear, spooled, {p.side.arrival_id for p in prepared})
    return BatchResult(
        new=counts[Outcome.NEW],
        duplicates=counts[Outcome.DUPLICATE],
        conflicts=counts[Outcome.CONFLICT],
        quarantined=counts[Outcome.QUARANTINED],
        left=left,
    )


def prepare(
    blobs: BlobStore, spooled: Sequence[SpooledArrival]
) -> tuple[list[Prepared], tuple[ArrivalId, ...]]:
    """Read headers and digests and make the blobs durable; return them, and what cannot be read now.

    What another indexer took out of the spool meanwhile is passed over: its rows are committed.
    """
    read: list[tuple[SpooledArrival, Prepared]] = []
    left: list[ArrivalId] = []
    for arrival in spooled:
        try:
            read.append((arrival, _read(arrival)))
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError from error
            if error.errno in _OURS:
                raise
            reason = f"it cannot be read ({errno.errorcode.get(error.errno or 0, 'unknown')})"
            log(ARRIVAL_LEFT, arrival=arrival.side.arrival_id, error=reason)
            left.append(arrival.side.arrival_id)
    placed = _place(blobs, [arrival for arrival, _ in read])
    done = [replace(p, blob_key=placed[p.side.arrival_id]) for _, p in read if p.side.arrival_id in placed]
    return done, tuple(left)


def _read(arrival: SpooledArrival) -> Prepared:
    # The digest first: a bad sector is an error here, under the file that the header maps it would end the process.
    digest = digest_data_set(arrival.path, arrival.side.data_offset)
    try:
        return Prepared(arrival.side, "", digest, read_header(arrival.path))
    except NotDICOM as refusal:
        return Prepared(arrival.side, "", digest, None, refusal.message)


def _place(blobs: BlobStore, arrivals: Sequence[SpooledArrival]) -> dict[ArrivalId, str]:
    """Put all into the blob store; one by one where another indexer takes them away under us."""
    try:
        keys = blobs.put_many([(a.side.arrival_id, a.path) for a in arrivals])
    except FileNotFoundError:
        if len(arrivals) == 1:
            return {}
        return {k: v for a in arrivals for k, v in _place(blobs, [a]).items()}
    return {a.side.arrival_id: key for a, key in zip(arrivals, keys, strict=True)}


async def write(
    db: Database, prepared: Sequence[Prepared], configuration: Configuration, now: datetime
) -> Counter[Outcome]:
    """Write the rows; halve the batch until an object that the database refuses stands alone, and quarantine that."""
    if not prepared:
        return Counter()
    try:
        counts = await db.atomically(lambda tx: write_batch(tx, prepared, configuration, now=now))
    except REFUSED as refusal:
        if len(prepared) > 1:
            half = len(prepared) // 2
            first = await write(db, prepared[:half], configuration, now)
            return first + await write(db, prepared[half:], configuration, now)
        if prepared[0].header is None:
            raise
        reason = f"the database refused its header ({type(refusal).__name__})"
        return await write(db, [replace(prepared[0], header=None, reason=reason)], configuration, now)
    for p in prepared if counts[Outcome.QUARANTINED] else ():
        if p.header is None:
            log(INSTANCE_QUARANTINED, arrival=p.side.arrival_id, ae=str(p.side.ae), reason=p.reason)
    return counts


def _clear(spooled: Sequence[SpooledArrival], indexed: set[ArrivalId]) -> None:
    for arrival in spooled:
        if arrival.side.arrival_id in indexed:
            remove(arrival)
