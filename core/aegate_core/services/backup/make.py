"""Make a backup beside a running system: first the spool, then the index, then the blobs.

What was acknowledged before it began is in it: an image that left the spool meanwhile is in the index by then. A row's
blob is there before the row, so what the index names can be copied after it; what retention removed meanwhile is
removed in the copy, too. Blobs are never changed: those that the target has from the backup before stay as they are.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from aegate_core.database import Database, open_database
from aegate_core.dicom.identifiers import ArrivalId
from aegate_core.errors import Conflict, InvalidInput, InvalidValue
from aegate_core.services.backup.index_copy import IndexCopy, copy_index, dump_tool
from aegate_core.services.backup.manifest import (
    FORMAT,
    Manifest,
    fsync_folder,
    hold_target,
    read_manifest,
    sha256_of,
)
from aegate_core.settings import DataFolder
from aegate_core.steps import Step, reached
from aegate_core.stores import spool
from aegate_core.stores.blobs import (
    BlobStore,
    FolderStore,
    make_durable,
    open_blobs,
    parse_blob_key,
    place,
    sync_file_system,
)
from aegate_core.stores.index import checking as index
from aegate_core.stores.index import retention
from aegate_core.stores.index.checking import ArrivalBlob

PAGE = 256
PART_BYTES = 64 << 20
"""Copied at once, and durable then; what comes from a bucket takes room meanwhile, and has no less."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a backup holds, and what was done for it."""

    manifest: Manifest
    new_images: int
    """Those that the target did not have yet."""
    dropped: int
    """Those that the target had and no row wants any more."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backup or a restore is."""

    what: str
    """``index`` or ``images``."""
    done_bytes: int
    total_bytes: int | None
    """None: nobody knows before the end."""


Report = Callable[[Progress], None]


@dataclass(slots=True)
class _Copied:
    images: int = 0
    size_bytes: int = 0
    new: int = 0
    missing: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Job:
    """One backup: of what, to where, when."""

    db: Database
    data: DataFolder
    target: Path
    data_format: int
    now: datetime
    report: Report = lambda _: None

    @property
    def stamp(self) -> str:
        """What the names of this backup's own files carry."""
        return self.now.astimezone(UTC).strftime("%Y%m%dT%H%M%S%fZ")


async def make_backup(job: Job) -> Made:
    """Make a backup of index, blobs and spool; the one before stays valid until the end.

    Raises Conflict where the target holds another installation's backup, InvalidInput for a data folder that is not
    the index's, NotFound where PostgreSQL's pg_dump is not there, StorageError, StorageFull.
    """
    db, target = job.db, job.target
    tool = await dump_tool(db)
    with hold_target(target):
        before = read_manifest(target)
        await _must_be_the_same(db, before, target)
        fsync_folder(target)  # the manifest that was read must stay: what it does not tell of goes
        await asyncio.to_thread(_clear, target, before)
        try:
            spooled = await asyncio.to_thread(_copy_spool, job.data, target / f"spool-{job.stamp}")
            reached(Step.SPOOL_COPIED)
            copy = await copy_index(
                db, tool, target, job.stamp, lambda done: job.report(Progress("index", done, None))
            )
            reached(Step.INDEX_COPIED)
            manifest, copied, unwanted = await _copy_images(job, copy, spooled)
            reached(Step.INDEX_FINISHED)
            manifest.write(target)
            reached(Step.MANIFEST_REPLACED)
        except (
            BaseException
        ):  # perhaps after the new manifest came into its place, and before it is durable there
            await asyncio.to_thread(_clear, target, before, read_manifest(target))
            raise
        await asyncio.to_thread(FolderStore(target / "blobs").remove_many, unwanted)
        reached(Step.UNWANTED_REMOVED)
        await asyncio.to_thread(_clear, target, manifest)
    return Made(manifest, copied.new, len(unwanted))


async def _copy_images(job: Job, copy: IndexCopy, spooled: int) -> tuple[Manifest, _Copied, list[str]]:
    """Bring the images of the copied index into the target; return the manifest, and what nobody wants any more."""
    async with open_database(f"sqlite://{copy.arrivals}") as snapshot:
        copied = await _copy_blobs(job, snapshot)
        unwanted = await _unwanted(snapshot, job.target)
    manifest = Manifest(
        format=FORMAT,
        data_format=job.data_format,
        made_at=job.now.astimezone(UTC).isoformat(),
        index=copy.arrivals.name,
        index_sha256=await asyncio.to_thread(_finish, copy.arrivals),
        migrations=copy.migrations,
        spool=f"spool-{job.stamp}",
        spooled=spooled,
        images=copied.images,
        size_bytes=copied.size_bytes,
        missing=tuple(copied.missing),
        first_arrival=copy.first_arrival,
        newest_arrival=copy.newest_arrival,
        database=job.db.dialect,
        dump=copy.dump.name if copy.dump else "",
        dump_sha256=copy.dump_sha256,
        server_major=copy.server_major,
        dump_major=copy.dump_major,
        removed=tuple(copied.removed),
    )
    return manifest, copied, unwanted


async def _must_be_the_same(db: Database, before: Manifest | None, target: Path) -> None:
    """Refuse to replace what this index never held: rows of arrivals stay for ever."""
    anchors = {before.first_arrival, before.newest_arrival} - {""} if before else set()
    lacking = anchors - await index.known_of(db, sorted(anchors))
    if lacking:
        raise Conflict(
            f"the backup in {target} is of another installation, or this index has lost images that it holds: "
            "choose another TARGET"
        )


def _clear(target: Path, *keep: Manifest | None) -> None:
    """Remove indexes and spools that none of the manifests tells of."""
    kept = {name for m in keep if m for name in (*m.files, m.spool)}
    for path in target.iterdir():
        if path.name in kept:
            continue
        if path.name.startswith("index-"):
            path.unlink()
        elif path.name.startswith("spool-"):
            shutil.rmtree(path)


def _copy_spool(data: DataFolder, folder: Path) -> int:
    """Copy what is acknowledged and not indexed yet; what an indexer takes away meanwhile will be in the index.

    Also what has no side record that can be read: it is an image that a device was told is safe.
    """
    folder.mkdir(mode=0o700)
    damaged: list[Path] = []
    readable = (s.path for s in spool.scan(data.spool, unreadable=lambda path, _: damaged.append(path)))
    count = sum(
        _copy_spooled(path, folder / path.relative_to(data.spool)) for path in chain(readable, damaged)
    )
    make_durable(folder, [p for p in folder.rglob("*")] + [folder])
    return count


def _copy_spooled(path: Path, to: Path) -> bool:
    """Copy an object of the spool after its side record; return whether it was still there."""
    to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    side = to.with_suffix(".json")
    try:
        with suppress(FileNotFoundError):
            place(path.with_suffix(".json"), side)
        place(path, to)
    except FileNotFoundError:
        side.unlink(missing_ok=True)
        return False
    return True


async def _copy_blobs(job: Job, snapshot: Database) -> _Copied:
    """Copy what the snapshot's rows name; what retention removed since is written as removed into the snapshot."""
    blobs, into, copied, last = open_blobs(job.data), FolderStore(job.target / "blobs"), _Copied(), ""
    total, total_bytes = await index.totals(snapshot)
    while page := await index.arrivals_after(snapshot, last, PAGE):
        last = page[-1].arrival_id
        lost = await asyncio.to_thread(_copy_page, blobs, into, page, copied)
        removed = await index.removed_of(job.db, lost)
        if removed:
            async with snapshot.transaction() as tx:
                await retention.bury_arrivals(tx, sorted(removed), now=datetime.now(UTC))
        copied.removed += sorted(removed)
        copied.missing += sorted(set(lost) - removed)
        copied.images += len(page) - len(lost)
        copied.size_bytes += sum(a.size_bytes for a in page if a.arrival_id not in lost)
        job.report(Progress("images", copied.size_bytes, total_bytes))
    if copied.missing and not copied.images:
        raise InvalidInput(
            f"none of the {total} images of the index is in {job.data.where}: give the data folder, or "
            "the bucket, that belongs to the database, or see `aegate fsck`"
        )
    return copied


def _copy_page(
    blobs: BlobStore, into: FolderStore, page: Sequence[ArrivalBlob], copied: _Copied
) -> list[str]:
    """Bring a page of blobs into the target; return those that are not there to be copied."""
    lost: list[str] = []
    wanted = [arrival for arrival in page if not _is_there(into, arrival)]
    for part in _by_size(wanted):
        lost += _copy_part(blobs, into, part)
    copied.new += len(wanted) - len(lost)
    return lost


def _is_there(into: FolderStore, arrival: ArrivalBlob) -> bool:
    """Say whether the target has a blob; what is not whole is taken away."""
    there = into.path(arrival.blob_key)
    if there.exists() and there.stat().st_size == arrival.size_bytes:
        return True
    there.unlink(missing_ok=True)
    return False


def _by_size(arrivals: Sequence[ArrivalBlob]) -> Iterator[list[ArrivalBlob]]:
    """Yield them in parts of at most `PART_BYTES`, but always one: those of a bucket take room meanwhile."""
    part: list[ArrivalBlob] = []
    for arrival in arrivals:
        if part and sum(a.size_bytes for a in part) + arrival.size_bytes > PART_BYTES:
            yield part
            part = []
        part.append(arrival)
    if part:
        yield part


def _copy_part(blobs: BlobStore, into: FolderStore, part: Sequence[ArrivalBlob]) -> list[str]:
    found: list[tuple[ArrivalId, Path]] = []
    lost: list[str] = []
    try:
        with ExitStack() as stack:
            for arrival in part:
                try:
                    path = stack.enter_context(blobs.local(arrival.blob_key))
                    path.stat()
                except FileNotFoundError:
                    lost.append(arrival.arrival_id)
                else:
                    found.append((ArrivalId(arrival.arrival_id), path))
            if found:
                into.put_many(found)
    except FileNotFoundError:  # retention removed one just now
        return _copy_part(blobs, into, part)
    return lost


async def _unwanted(snapshot: Database, target: Path) -> list[str]:
    """Return the keys of blobs in the target that no row wants any more."""
    keys = []
    for page in FolderStore(target / "blobs").listing():
        by_arrival = {}
        for name in page:
            with suppress(InvalidValue):
                key, arrival = parse_blob_key(name)
                by_arrival[arrival] = key
        names = sorted(by_arrival)
        wanted = await index.known_of(snapshot, names) - await index.removed_of(snapshot, names)
        keys += [str(by_arrival[n]) for n in names if n not in wanted]
    return keys


def _finish(copy: Path) -> str:
    """Make the target durable, and return the digest of the copied index.

    All of it: images that are there already may be of a backup that was killed before it came to their fsync.
    """
    descriptor = os.open(copy, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_file_system(copy.parent)
    return sha256_of(copy)
