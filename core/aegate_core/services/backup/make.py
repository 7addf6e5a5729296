"""Make a backup beside a running system: first the spool, then the index, then the blobs.

What was acknowledged before it began is in it: an image that left the spool meanwhile is in the index by then. A row's
blob is there before the row, so what the index names can be copied after it; what retention removed meanwhile is
removed in the copy, too. Blobs are never changed: those that the target has from the backup before stay as they are.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from aegate_core.database import Database, applied_migrations, open_database
from aegate_core.dicom.identifiers import ArrivalId
from aegate_core.errors import Conflict
from aegate_core.services.backup.manifest import (
    FORMAT,
    Manifest,
    fsync_folder,
    hold_target,
    read_manifest,
    sha256_of,
)
from aegate_core.settings import DataFolder
from aegate_core.stores import spool
from aegate_core.stores.blobs import BlobStore, make_durable, place
from aegate_core.stores.index import checking as index
from aegate_core.stores.index import retention
from aegate_core.stores.index.checking import ArrivalBlob

PAGE = 256


@dataclass(frozen=True, slots=True)
class Made:
    """What a backup holds, and what was done for it."""

    manifest: Manifest
    new_images: int
    """Those that the target did not have yet."""
    dropped: int
    """Those that the target had and no row wants any more."""


@dataclass(slots=True)
class _Copied:
    images: int = 0
    size_bytes: int = 0
    new: int = 0
    missing: list[str] = field(default_factory=list)


async def make_backup(
    db: Database, data: DataFolder, target: Path, *, data_format: int, now: datetime
) -> Made:
    """Make a backup of the SQLite index of ``db``, the blobs and the spool; the one before stays valid until the end.

    Raises Conflict where the target holds another installation's backup, StorageError, StorageFull.
    """
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    with hold_target(target):
        before = read_manifest(target)
        await _must_be_the_same(db, before, target)
        await asyncio.to_thread(_clear, target, before)
        spooled = await asyncio.to_thread(_copy_spool, data, target / f"spool-{stamp}")
        copy = target / f"index-{stamp}.sqlite3"
        await asyncio.to_thread(_copy_index, Path(db.url.removeprefix("sqlite://")), copy)
        async with open_database(f"sqlite://{copy}") as snapshot:
            copied = await _copy_blobs(db, snapshot, data, target)
            first, newest = await index.arrival_bounds(snapshot)
            unwanted = await _unwanted(snapshot, target)
            migrations = await applied_migrations(snapshot)
        manifest = Manifest(
            format=FORMAT,
            data_format=data_format,
            made_at=now.astimezone(UTC).isoformat(),
            index=copy.name,
            index_sha256=await asyncio.to_thread(_finish, copy),
            migrations=migrations,
            spool=f"spool-{stamp}",
            spooled=spooled,
            images=copied.images,
            size_bytes=copied.size_bytes,
            missing=tuple(copied.missing),
            first_arrival=first,
            newest_arrival=newest,
        )
        manifest.write(target)
        await asyncio.to_thread(BlobStore(target / "blobs").remove_many, unwanted)
        await asyncio.to_thread(_clear, target, manifest)
    return Made(manifest, copied.new, len(unwanted))


async def _must_be_the_same(db: Database, before: Manifest | None, target: Path) -> None:
    """Refuse to replace what this index never held: rows of arrivals stay for ever."""
    anchors = {before.first_arrival, before.newest_arrival} - {""} if before else set()
    lacking = anchors - await index.known_of(db, sorted(anchors))
    if lacking:
        raise Conflict(
            f"the backup in {target} is of another installation, or this index has lost images that it holds: "
            "choose another TARGET"
        )


def _clear(target: Path, keep: Manifest | None) -> None:
    """Remove indexes and spools that no manifest tells of."""
    kept = {keep.index, keep.spool} if keep else set()
    for path in target.iterdir():
        if path.name in kept:
            continue
        if path.name.startswith("index-"):
            path.unlink()
        elif path.name.startswith("spool-"):
            shutil.rmtree(path)


def _copy_spool(data: DataFolder, folder: Path) -> int:
    """Copy what is acknowledged and not indexed yet; what an indexer takes away meanwhile will be in the index."""
    folder.mkdir(mode=0o700)
    count = 0
    for spooled in spool.scan(data.spool):
        to = folder / spooled.path.relative_to(data.spool)
        to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        side = to.with_suffix(".json")
        try:
            place(spooled.side_path, side)
            place(spooled.path, to)
        except FileNotFoundError:
            side.unlink(missing_ok=True)
            continue
        count += 1
    make_durable(folder, [p for p in folder.rglob("*")] + [folder])
    return count


def _copy_index(path: Path, copy: Path) -> None:
    """Copy SQLite as of one moment, while others write (its online backup API)."""
    with closing(sqlite3.connect(path, timeout=60)) as source, closing(sqlite3.connect(copy)) as into:
        source.backup(into)
    copy.chmod(0o600)


async def _copy_blobs(db: Database, snapshot: Database, data: DataFolder, target: Path) -> _Copied:
    blobs, into, copied, last = BlobStore(data.blobs), BlobStore(target / "blobs"), _Copied(), ""
    while page := await index.arrivals_after(snapshot, last, PAGE):
        last = page[-1].arrival_id
        lost = await asyncio.to_thread(_copy_page, blobs, into, page, copied)
        removed = await index.removed_of(db, lost)
        async with snapshot.transaction() as tx:
            await retention.bury_arrivals(tx, sorted(removed), now=datetime.now(UTC))
        copied.missing += sorted(set(lost) - removed)
        copied.images += len(page) - len(lost)
        copied.size_bytes += sum(a.size_bytes for a in page if a.arrival_id not in lost)
    return copied


def _copy_page(blobs: BlobStore, into: BlobStore, page: Sequence[ArrivalBlob], copied: _Copied) -> list[str]:
    """Bring a page of blobs into the target; return those that are not there to be copied."""
    wanted, lost = [], []
    for arrival in page:
        there = into.path(arrival.blob_key)
        if there.exists() and there.stat().st_size == arrival.size_bytes:
            continue
        there.unlink(missing_ok=True)
        source = blobs.path(arrival.blob_key)
        if source.exists():
            wanted.append((ArrivalId(arrival.arrival_id), source))
        else:
            lost.append(arrival.arrival_id)
    try:
        if wanted:
            into.put_many(wanted)
            copied.new += len(wanted)
    except FileNotFoundError:  # retention removed one just now
        return _copy_page(blobs, into, page, copied)
    return lost


async def _unwanted(snapshot: Database, target: Path) -> list[str]:
    """Return the keys of blobs in the target that no row wants any more."""
    keys = []
    for folder in BlobStore(target / "blobs").folders():
        names = sorted(p.stem for p in folder.iterdir() if p.suffix == ".dcm")
        wanted = await index.known_of(snapshot, names) - await index.removed_of(snapshot, names)
        keys += [f"{folder.parent.name}/{folder.name}/{n}.dcm" for n in names if n not in wanted]
    return keys


def _finish(copy: Path) -> str:
    """Make the copied index durable, and return its digest."""
    descriptor = os.open(copy, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fsync_folder(copy.parent)
    return sha256_of(copy)
