"""Remove by age what nobody wants any more: first what is in the database alone, whatever the store of images says,
such as finished queue items; then images, first in their rows, then in their files.

Each study is one transaction that locks it, asks again, and writes the tombstones with their audit row; only after its
commit the files go, by their exact keys. Ended anywhere it can be run again, and two at once do no harm: files that
no row wants any more are found by their rows, before other files. A dry run asks the same questions in the same order.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

from aegate_core.database import Database
from aegate_core.decisions.retention import (
    Keep,
    StudyFacts,
    deliveries_due_before,
    images_due_before,
    why_kept,
)
from aegate_core.dicom.identifiers import ResourceKey, parse_resource_key
from aegate_core.resources.values import Retention
from aegate_core.services import audit
from aegate_core.services.audit import Deed
from aegate_core.services.entities import Configuration, load_configuration
from aegate_core.services.ownership import must_be_ours
from aegate_core.settings import DataFolder
from aegate_core.steps import Step, reached
from aegate_core.stores.blobs import BlobStore, open_blobs
from aegate_core.stores.changes import feed
from aegate_core.stores.index import retention as index
from aegate_core.stores.index.retention import OldStudy
from aegate_core.stores.queue import retention as queue

ACTOR = "aegate retention"
FILES_AT_ONCE = 500
CHANGES_KEPT = timedelta(days=7)
"""How long a follower of the feed of changes may be away and still go on where it was."""


@dataclass(slots=True)
class Removed:
    """What went from a partition, or would go; and what stays though its time has come."""

    studies: int = 0
    images: int = 0
    size_bytes: int = 0
    deliveries: int = 0
    kept: Counter[Keep] = field(default_factory=Counter)
    """Studies by why they keep their images."""


@dataclass(slots=True)
class Report:
    """What a run did, or what the next run would do."""

    partitions: dict[str, Removed] = field(default_factory=dict)
    """By key; those of which nothing is old enough are not in it."""
    left_over: int = 0
    """Files that an earlier run, ended in the middle, had left."""
    audit_days: tuple[str, ...] = ()
    """Partitions that wish audit rows to go, which are append-only: they stay."""

    def of(self, partition: str) -> Removed:
        """Return the partition's entry."""
        return self.partitions.setdefault(partition, Removed())


@dataclass(frozen=True, slots=True)
class _Run:
    db: Database
    blobs: BlobStore
    configuration: Configuration
    report: Report
    now: datetime
    is_dry: bool
    is_stopped: Callable[[], bool]

    def rules(self, partition: str) -> Retention:
        known = self.configuration.partitions.get(parse_resource_key(partition))
        return known.retention if known else Retention()


async def retain(
    db: Database,
    data: DataFolder,
    *,
    now: datetime,
    dry_run: bool = False,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Report:
    """Remove what may go, and return what that was; with ``dry_run`` return what it would be, and change nothing.

    ``is_stopped`` is asked between two pieces of work. Raises DatabaseUnavailable, StorageError: what went until then
    is whole, the rest goes in the next run.
    """
    configuration, blobs = await load_configuration(db), open_blobs(data)
    run = _Run(db, blobs, configuration, Report(), now, dry_run, is_stopped)
    await _database_alone(run)
    if not dry_run:
        await must_be_ours(db, blobs)
    run.report.audit_days = tuple(
        str(key) for key, p in sorted(configuration.partitions.items()) if p.retention.audit_days is not None
    )
    run.report.left_over = await index.count_to_delete(db)
    if not dry_run:
        await _delete_files(run)
    for key, partition in sorted(configuration.partitions.items()):
        due_before = images_due_before(partition.retention, now=now)
        if due_before is not None:
            await _images(run, key, due_before)
    if not dry_run:
        await asyncio.to_thread(run.blobs.sweep)  # last: what fails here keeps nothing else from going
    return run.report


# Changes of many, and queue items.

OPERATIONS_KEPT = timedelta(days=90)
"""How long one can be asked what became of it, by feel: as long as finished queue items. The audit keeps it."""


async def _database_alone(run: _Run) -> None:
    """Remove what has no files, first of all: it grows with each change, also while the store of images is away."""
    if not run.is_dry:
        await _operations(run)
        await feed.remove_old(run.db, run.now - CHANGES_KEPT)
    await _deliveries(run)


async def _operations(run: _Run) -> None:
    async def some(tx: Database) -> bool:
        return await queue.remove_operations(tx, run.now - OPERATIONS_KEPT) > 0

    while not run.is_stopped() and await run.db.atomically(some):
        pass


async def _deliveries(run: _Run) -> None:
    shortest = min(
        [Retention().finished_deliveries_days]
        + [p.retention.finished_deliveries_days for p in run.configuration.partitions.values()]
    )
    due_before = deliveries_due_before(Retention(finished_deliveries_days=shortest), now=run.now)
    after: tuple[datetime, int] | None = None
    while not run.is_stopped() and (page := await queue.old_deliveries(run.db, due_before, after)):
        after = (page[-1].finished_at, page[-1].id)
        old = [d for d in page if d.finished_at <= deliveries_due_before(run.rules(d.partition), now=run.now)]
        for partition, items in groupby(sorted(old, key=lambda d: d.partition), key=lambda d: d.partition):
            ids = [d.id for d in items]
            run.report.of(partition).deliveries += (
                len(ids) if run.is_dry else await _remove_deliveries(run, partition, ids)
            )


async def _remove_deliveries(run: _Run, partition: str, ids: list[int]) -> int:
    async def work(tx: Database) -> int:
        gone = await queue.remove_deliveries(tx, ids)
        if gone:
            deed = Deed(ACTOR, "remove-queue-items", partition, detail={"items": gone}, partition=partition)
            await audit.record(tx, deed, now=run.now)
        return len(gone)

    return await run.db.atomically(work)


# Images.


async def _images(run: _Run, partition: ResourceKey, due_before: datetime) -> None:
    rules = run.rules(str(partition))
    async for study in _old_studies(run, str(partition), due_before):
        report = run.report.of(str(partition))
        keep = why_kept(_facts(study), rules)
        if keep is None and not await _has_files(run, study.id):
            keep = Keep.BLOBS_NOT_HERE
        if keep is None and not run.is_dry:
            went = await _remove_images(run, study.id, rules, due_before)
            await _delete_files(run)
        else:
            went = study
        if keep is not None:
            report.kept[keep] += 1
        elif went is not None:
            report.studies += 1
            report.images += went.images
            report.size_bytes += went.size_bytes


async def _old_studies(run: _Run, partition: str, due_before: datetime) -> AsyncIterator[OldStudy]:
    after: tuple[datetime, int] | None = None
    while page := await index.old_studies(run.db, partition, due_before, after):
        after = (page[-1].last_arrival_at, page[-1].id)
        for study in page:
            if run.is_stopped():
                return
            yield study


def _facts(study: OldStudy) -> StudyFacts:
    return StudyFacts(
        live_deliveries=study.live_deliveries,
        open_units=study.open_units,
        open_conflicts=study.open_conflicts,
        not_taken=study.not_taken,
        only_here=study.only_here,
    )


async def _has_files(run: _Run, study_id: int) -> bool:
    keys = [image.blob_key for image in await index.images_here(run.db, study_id)]
    return await asyncio.to_thread(run.blobs.holds_any, keys)


async def _remove_images(run: _Run, study_id: int, rules: Retention, due_before: datetime) -> OldStudy | None:
    """Write a study's tombstones, if it may still go; return what went."""

    async def work(tx: Database) -> OldStudy | None:
        await index.lock_studies(tx, [study_id])
        study = await index.old_study(tx, study_id)
        if study is None or study.last_arrival_at > due_before or why_kept(_facts(study), rules) is not None:
            return None
        await index.bury(tx, study_id, now=run.now)
        detail: dict[str, object] = {"images": study.images, "bytes": study.size_bytes}
        deed = Deed(
            ACTOR,
            "remove-images",
            f"Study:{study_id}",
            detail=detail,
            area=audit.Area.IMAGES,
            partition=study.partition,
        )
        await audit.record(tx, deed, now=run.now)
        return study

    return await run.db.atomically(work)


async def _delete_files(run: _Run) -> None:
    """Delete the files of removed images, also what earlier runs left."""
    while files := await index.to_delete(run.db, FILES_AT_ONCE):
        reached(Step.TOMBSTONED)
        await asyncio.to_thread(run.blobs.remove_many, [f.blob_key for f in files])
        reached(Step.BLOB_DELETED)
        await index.forget_files(run.db, [f.arrival_id for f in files])
