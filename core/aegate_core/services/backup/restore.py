"""Restore a backup into an empty folder: everything is checked on the way, and VERSION is written last.

Until then the folder is none of ours: neither `aegate up` nor any other command takes half a restore for a whole one.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from aegate_core.database import Database, known_migrations, open_database
from aegate_core.dicom.digest import digest_data_set
from aegate_core.dicom.identifiers import ArrivalId
from aegate_core.dicom.part10 import read_file_meta
from aegate_core.errors import AegateError, InvalidInput, NotDICOM, SchemaMismatch, StorageError
from aegate_core.services.backup.manifest import (
    Manifest,
    fsync_folder,
    read_manifest,
    sha256_of,
    target_error,
)
from aegate_core.settings import DataFolder
from aegate_core.stores.blobs import BlobStore, make_durable
from aegate_core.stores.index import checking as index
from aegate_core.stores.index.checking import ArrivalBlob

PAGE = 256


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored."""

    manifest: Manifest
    unfinished: int
    """Queue items that were not finished when the backup was made: they go out once `aegate up` runs."""


async def restore_backup(target: Path, root: Path, *, data_format: int) -> Restored:
    """Restore into ``root``, which must be empty or not there; on any error it is left as it was.

    Raises NotFound (no backup), InvalidInput (half made or damaged), SchemaMismatch (newer), StorageError, StorageFull.
    """
    manifest = read_manifest(target)
    if manifest is None:
        raise InvalidInput(
            f"the backup at {target} was begun and never finished: let `aegate backup` finish it, or take another"
        )
    _refuse_newer(manifest, target, data_format)
    try:
        await asyncio.to_thread(_check_files, manifest, target)
        was_there = _take_empty(root)
    except OSError as error:
        raise target_error(error, root) from error
    try:
        return await _fill(manifest, target, DataFolder(root))
    except (OSError, AegateError) as error:
        await asyncio.to_thread(_empty, root, was_there)
        if isinstance(error, OSError):
            raise target_error(error, root) from error
        raise


def _refuse_newer(manifest: Manifest, target: Path, data_format: int) -> None:
    newer = sorted(set(manifest.migrations) - set(known_migrations()))
    if newer or manifest.data_format > data_format:
        what = newer[-1] if newer else f"data format {manifest.data_format}"
        raise SchemaMismatch(
            f"the backup at {target} was made by a newer version of aegate (it has {what}): install that version"
        )


def _check_files(manifest: Manifest, target: Path) -> None:
    path = target / manifest.index
    if not path.is_file() or sha256_of(path) != manifest.index_sha256:
        came = "another file" if path.is_file() else "none"
        raise InvalidInput(
            f"the backup at {target} must hold the index that its manifest names, got {came}: take another backup"
        )
    found = sum(1 for p in (target / manifest.spool).rglob("*.dcm"))
    if found != manifest.spooled:
        raise InvalidInput(
            f"the backup at {target} must hold {manifest.spooled} images of the spool, got {found}: "
            "take another backup"
        )


def _take_empty(root: Path) -> bool:
    """Make the folder, or see that it is empty; return whether it was there."""
    was_there = root.exists()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    others = sorted(e.name for e in root.iterdir())
    if others:
        raise StorageError(
            f"a backup is restored into an empty folder alone, got {len(others)} entries such as {others[0]!r} at "
            f"{root}: choose another with --data"
        )
    root.chmod(0o700)
    return was_there


async def _fill(manifest: Manifest, target: Path, data: DataFolder) -> Restored:
    await asyncio.to_thread(shutil.copyfile, target / manifest.index, data.database)
    data.database.chmod(0o600)
    async with open_database(f"sqlite://{data.database}") as db:
        await _blobs(db, manifest, target, data)
        unfinished = int(
            await db.fetch_value(
                "SELECT count(*) FROM delivery WHERE state IN ('SCHEDULED', 'RETRY', 'IN_PROGRESS', 'HELD')"
            )
        )
    await asyncio.to_thread(shutil.copytree, target / manifest.spool, data.spool)
    await asyncio.to_thread(_finish, manifest, data)
    return Restored(manifest, unfinished)


async def _blobs(db: Database, manifest: Manifest, target: Path, data: DataFolder) -> None:
    source, into, last = BlobStore(target / "blobs"), BlobStore(data.blobs), ""
    data.blobs.mkdir(mode=0o700)
    missing = set(manifest.missing)
    while page := await index.arrivals_after(db, last, PAGE):
        last = page[-1].arrival_id
        await asyncio.to_thread(_page, source, into, [a for a in page if a.arrival_id not in missing])


def _page(source: BlobStore, into: BlobStore, page: list[ArrivalBlob]) -> None:
    """Bring a page of blobs into the data folder, each compared with the digest that it had when it was indexed."""
    try:
        into.put_many([(ArrivalId(a.arrival_id), source.path(a.blob_key)) for a in page])
    except FileNotFoundError as error:
        raise InvalidInput(
            "the backup lacks images that its index names: it was copied in part; take another backup"
        ) from error
    for arrival in page:
        if _digest(into.path(arrival.blob_key), arrival) != arrival.sha256:
            raise InvalidInput(
                f"the image {arrival.arrival_id} in the backup is not the one that arrived: take another backup"
            )


def _digest(path: Path, arrival: ArrivalBlob) -> str:
    try:
        with path.open("rb") as file:
            offset = read_file_meta(file).data_offset
    except NotDICOM:
        offset = 0  # quarantined as a whole
    return digest_data_set(path, offset) if path.stat().st_size == arrival.size_bytes else ""


def _finish(manifest: Manifest, data: DataFolder) -> None:
    """Make all durable, then make it a data folder."""
    data.run.mkdir(mode=0o700)
    make_durable(
        data.root, [data.database, *data.spool.rglob("*"), data.spool, data.blobs, data.run, data.root]
    )
    part = data.root / "VERSION.part"
    part.write_text(f"{manifest.data_format}\n")
    make_durable(data.root, [part])
    part.replace(data.root / "VERSION")
    fsync_folder(data.root)


def _empty(root: Path, was_there: bool) -> None:
    """Take back what was restored: all of it is ours, the folder was empty."""
    for path in root.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if not was_there:
        root.rmdir()
