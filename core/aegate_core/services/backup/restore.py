"""Restore a backup into an empty folder: everything is checked on the way, and VERSION is written last.

PostgreSQL is filled when all images are there, in one transaction: what fails before leaves the database empty.
Until VERSION stands the folder is none of ours: neither `aegate up` nor any other command takes half a restore for a
whole one. ``RESTORING`` is written first and goes last: a killed restore is begun anew by the next one into its folder.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aegate_core.database import Database, known_migrations, open_database
from aegate_core.database.postgres_tools import restore
from aegate_core.dicom.digest import digest_data_set
from aegate_core.dicom.identifiers import ArrivalId
from aegate_core.dicom.part10 import read_file_meta
from aegate_core.errors import Conflict, InvalidInput, NotDICOM, SchemaMismatch, StorageError
from aegate_core.services.backup.database_to_fill import DatabaseToFill, database_to_fill
from aegate_core.services.backup.make import Progress, Report
from aegate_core.services.backup.manifest import (
    Manifest,
    fsync_folder,
    read_manifest,
    read_target,
    sha256_of,
    target_error,
)
from aegate_core.settings import DataFolder
from aegate_core.steps import Step, reached
from aegate_core.stores.blobs import BlobStore, FolderStore, make_durable, open_blobs
from aegate_core.stores.index import checking as index
from aegate_core.stores.index import retention
from aegate_core.stores.index.checking import ArrivalBlob

PAGE = 256

MARK, MARKED = "RESTORING", b"aegate restore\n"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored."""

    manifest: Manifest
    unfinished: int
    """Queue items that were not finished when the backup was made: they go out once `aegate up` runs."""


async def restore_backup(
    target: Path,
    into: DataFolder,
    *,
    database: str | None = None,
    data_format: int,
    report: Report = lambda _: None,
) -> Restored:
    """Restore into a folder, which must be empty, not there or half restored; on any error it is left empty, or gone.

    Images that were put into a bucket by then stay in it: the next restore puts the same under the same keys.

    ``database``: the URL of an empty one, for a backup of an index in PostgreSQL alone. It is filled last and in one
    transaction, so what is refused before leaves it empty.

    Raises NotFound (no backup, no pg_restore), Conflict (in use), InvalidInput (half made or damaged, other kind of
    database), SchemaMismatch (newer), StorageError, StorageFull.
    """
    with read_target(target):
        manifest = read_manifest(target)
        if manifest is None:
            raise InvalidInput(
                f"the backup at {target} was begun and never finished: let `aegate backup` finish it, or take another"
            )
        _refuse_newer(manifest, target, data_format)
        to_fill = await database_to_fill(manifest, database)
        with _empty_folder(into.root):
            await asyncio.to_thread(_check_files, manifest, target)
            return await _fill(manifest, target, into, to_fill, report)


def _refuse_newer(manifest: Manifest, target: Path, data_format: int) -> None:
    newer = sorted(set(manifest.migrations) - set(known_migrations()))
    if newer or manifest.data_format > data_format:
        what = newer[-1] if newer else f"data format {manifest.data_format}"
        raise SchemaMismatch(
            f"the backup at {target} was made by a newer version of aegate (it has {what}): install that version"
        )


def _check_files(manifest: Manifest, target: Path) -> None:
    for name, digest in manifest.files.items():
        path = target / name
        if not path.is_file() or sha256_of(path) != digest:
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


@contextmanager
def _empty_folder(root: Path) -> Iterator[None]:
    """Make the folder, or see that it is empty or half restored, and hold it; when the block fails it is emptied.

    Raises StorageError (not empty, no rights), StorageFull, Conflict (another restore fills it).
    """
    try:
        was_there = root.exists()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise target_error(error, root) from error
    try:
        with _held(root):
            try:
                _mark(root)
                yield
            except BaseException:
                _empty(root)
                raise
    except BaseException as error:
        if not was_there:
            with suppress(OSError):  # not empty: the disk does not let us
                root.rmdir()
        if isinstance(error, OSError):
            raise target_error(error, root) from error
        raise


@contextmanager
def _held(root: Path) -> Iterator[None]:
    """Hold a folder that may be filled. Raises StorageError (not empty), Conflict (another restore fills it)."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        others = sorted(e.name for e in root.iterdir())
        if others and not _is_half_restored(root, others):
            raise StorageError(
                f"a backup is restored into an empty folder alone, got {len(others)} entries such as {others[0]!r} "
                f"at {root}: choose another with --data"
            )
        yield
    except BlockingIOError as error:
        raise Conflict(
            f"another `aegate restore` fills {root}: wait for it, or choose another with --data"
        ) from error
    finally:
        os.close(descriptor)


def _mark(root: Path) -> None:
    """Make it the folder of a restore that is under way, and empty it of a killed one's."""
    root.chmod(0o700)
    (root / MARK).write_bytes(MARKED)
    make_durable(root, [root / MARK, root])
    _empty(root, but=MARK)
    reached(Step.RESTORE_MARKED)


def _is_half_restored(root: Path, names: list[str]) -> bool:
    """Say whether all that lies there is a killed restore's; its mark may be empty while it is alone."""
    mark = root / MARK
    if "VERSION" in names or not mark.is_file():
        return False
    return mark.read_bytes() == MARKED or names == [MARK]


async def _fill(
    manifest: Manifest, target: Path, data: DataFolder, into: DatabaseToFill | None, report: Report
) -> Restored:
    arrivals = data.database if into is None else data.root / "arrivals.sqlite3"
    await asyncio.to_thread(_copy_private, target / manifest.index, arrivals)
    reached(Step.INDEX_RESTORED)
    async with open_database(f"sqlite://{arrivals}") as db:
        await _blobs(db, manifest, target, data, report)
        if into is None:
            unfinished = await _unfinished(db)
    reached(Step.BLOBS_RESTORED)
    await asyncio.to_thread(_copy_folder, target / manifest.spool, data.spool)
    if into is not None:
        arrivals.unlink()
    await asyncio.to_thread(_make_durable, data)
    reached(Step.SPOOL_RESTORED)
    if into is not None:
        unfinished = await _fill_postgres(manifest, target, into, report)
    await asyncio.to_thread(_make_ours, manifest, data)
    return Restored(manifest, unfinished)


async def _fill_postgres(manifest: Manifest, target: Path, into: DatabaseToFill, report: Report) -> int:
    """Fill the database, all of it or nothing; return how many queue items go on from there."""
    total = (target / manifest.dump).stat().st_size
    await restore(
        into.tool, into.url, target / manifest.dump, lambda done: report(Progress("index", done, total))
    )
    async with open_database(into.url) as db:
        async with db.transaction() as tx:
            await retention.bury_arrivals(tx, manifest.removed, now=datetime.now(UTC))
        return await _unfinished(db)


async def _unfinished(db: Database) -> int:
    return int(
        await db.fetch_value(
            "SELECT count(*) FROM delivery WHERE state IN ('SCHEDULED', 'RETRY', 'IN_PROGRESS', 'HELD')"
        )
    )


def _copy_private(source: Path, to: Path) -> None:
    descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with source.open("rb") as original, os.fdopen(descriptor, "wb") as copy:
        shutil.copyfileobj(original, copy, 1 << 20)


def _copy_folder(source: Path, to: Path) -> None:
    """Copy a folder for its owner alone. Unlike shutil.copytree it says which error it was that ended it."""
    to.mkdir(mode=0o700)
    for path in sorted(source.rglob("*")):
        copy = to / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(mode=0o700)
        else:
            _copy_private(path, copy)


async def _blobs(db: Database, manifest: Manifest, target: Path, data: DataFolder, report: Report) -> None:
    source, into, last, done = FolderStore(target / "blobs"), open_blobs(data), "", 0
    data.blobs.mkdir(mode=0o700)
    missing = set(manifest.missing)
    while page := await index.arrivals_after(db, last, PAGE):
        last = page[-1].arrival_id
        await asyncio.to_thread(_page, source, into, [a for a in page if a.arrival_id not in missing])
        done += sum(a.size_bytes for a in page)
        report(Progress("images", done, manifest.size_bytes))


def _page(source: FolderStore, into: BlobStore, page: list[ArrivalBlob]) -> None:
    """Bring a page of blobs into their place, each compared with the digest that it had when it was indexed.

    Compared where it comes from: a store acknowledges only what is the same there.
    """
    try:
        for arrival in page:
            if _digest(source.path(arrival.blob_key), arrival) != arrival.sha256:
                raise InvalidInput(
                    f"the image {arrival.arrival_id} in the backup is not the one that arrived: take another backup"
                )
        into.put_many([(ArrivalId(a.arrival_id), source.path(a.blob_key)) for a in page])
    except FileNotFoundError as error:
        raise InvalidInput(
            "the backup lacks images that its index names: it was copied in part; take another backup"
        ) from error


def _digest(path: Path, arrival: ArrivalBlob) -> str:
    try:
        with path.open("rb") as file:
            offset = read_file_meta(file).data_offset
    except NotDICOM:
        offset = 0  # quarantined as a whole
    return digest_data_set(path, offset) if path.stat().st_size == arrival.size_bytes else ""


def _make_durable(data: DataFolder) -> None:
    data.run.mkdir(mode=0o700)
    database = [data.database] if data.database.exists() else []
    make_durable(data.root, [*database, *data.spool.rglob("*"), data.spool, data.blobs, data.run, data.root])


def _make_ours(manifest: Manifest, data: DataFolder) -> None:
    """Make it a data folder."""
    part = data.root / "VERSION.part"
    part.write_text(f"{manifest.data_format}\n")
    make_durable(data.root, [part])
    part.replace(data.root / "VERSION")
    fsync_folder(data.root)
    reached(Step.RESTORE_FINISHED)
    (data.root / MARK).unlink()


def _empty(root: Path, *, but: str = "") -> None:
    """Take back what was restored: all of it is ours, the folder was empty.

    VERSION goes first: where a disk fails in the middle, nothing must take what is left for a whole data folder.
    """
    (root / "VERSION").unlink(missing_ok=True)
    for path in root.iterdir():
        if path.name == but:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
