"""What was acknowledged before a backup began is there after a restore, and half a backup is no backup."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aegate_cli.data_folder import open_data_folder
from aegate_core.database import ensure_schema, open_database
from aegate_core.errors import AegateError, Conflict, InvalidInput, NotFound, SchemaMismatch, StorageError
from aegate_core.services import deliveries
from aegate_core.services.backup import Job, Made, Restored, make_backup, restore_backup
from aegate_core.services.backup.index_copy import copy_index, dump_tool
from aegate_core.services.backup.make import _copy_images
from aegate_core.services.backup.manifest import hold_target, read_target
from aegate_core.services.deliveries import SendByHand
from aegate_core.services.fsck import Summary, check
from aegate_core.services.retention import retain
from aegate_core.settings import DataFolder
from aegate_core.stores.spool import scan
from aegate_scp.sink import Sink, SinkOptions
from tests.dicom import Instance, ct
from tests.integration.backup.conftest import EmptyDatabase
from tests.integration.intake.hospital import Place, at, key
from tests.integration.scu.clinic import Clinic, digests, entity, reaches

LATER = at(31 * 86_400)


async def back_up(place: Place, target: Path, now: datetime = LATER) -> Made:
    return await make_backup(Job(place.db, DataFolder(place.root), target, data_format=1, now=now))


async def bring_back(target: Path, root: Path, database: str | None) -> Restored:
    return await restore_backup(target, DataFolder(root), database=database, data_format=1)


def url_of(root: Path, database: str | None) -> str:
    return database or f"sqlite://{root / 'aegate.sqlite3'}"


def files(root: Path, pattern: str = "**/*") -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.glob(pattern)) if p.is_file()}


async def is_empty(database: str | None) -> bool:
    """Whether nothing was restored into a database."""
    if database is None:
        return True
    async with open_database(database) as db:
        return (
            await db.fetch("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace") == []
        )


async def is_sound(root: Path, database: str | None) -> Summary:
    summary = Summary()
    async with open_database(url_of(root, database)) as db:
        assert [f async for f in check(db, DataFolder(root), summary)] == []
    return summary


async def test_restored_folder_is_sound_and_pushes_what_was_backed_up(
    place: Place, tmp_path: Path, empty_database: EmptyDatabase
) -> None:
    made = await back_up(place, tmp_path / "target")
    assert (made.manifest.images, made.new_images, made.manifest.spooled, made.manifest.missing) == (
        4,
        4,
        1,
        (),
    )
    shutil.copytree(tmp_path / "target", tmp_path / "carried")  # as to another machine: no links
    root, database = tmp_path / "restored", empty_database()

    done = await bring_back(tmp_path / "carried", root, database)

    assert (done.unfinished, root.stat().st_mode & 0o777) == (0, 0o700)
    assert files(root / "blobs") == files(place.root / "blobs")
    assert [s.side for s in scan(root / "spool")] == [s.side for s in place.spooled()]
    summary = await is_sound(root, database)
    assert (summary.arrivals, summary.blobs, summary.spooled) == (4, 4, 1)
    assert files(root, "VERSION") == {"VERSION": b"1\n"}

    url = url_of(root, database)
    await ensure_schema(url)
    async with open_database(url) as db:
        here = Clinic(db, DataFolder(root), url)
        with Sink(SinkOptions(tmp_path / "sink")) as sink:
            await here.configure(entity(sink.port))
            study = int(await db.fetch_value("SELECT id FROM study"))
            request = SendByHand((study,), (key("pacs"),), "anna", "k")
            async with db.transaction() as tx:
                [item] = await deliveries.send_by_hand(tx, request, now=datetime.now(UTC))
            async with here.worker():
                await reaches(here, item, "COMPLETED")
        rows = await db.fetch("SELECT blob_key FROM arrival WHERE study_id = $1", study)
        sent = [root / "blobs" / r["blob_key"] for r in rows]
        assert digests([r.path for r in sink.received]) == digests(sent)


@pytest.mark.parametrize("left", [b"", None], ids=["empty", "lost"])
async def test_spooled_image_without_a_side_record_that_can_be_read_is_backed_up_as_it_lies(
    place: Place, tmp_path: Path, empty_database: EmptyDatabase, left: bytes | None
) -> None:
    [spooled] = place.spooled()
    spooled.side_path.unlink() if left is None else spooled.side_path.write_bytes(left)
    whole = place.receive(ct(Instance(study="s3")))

    made = await back_up(place, tmp_path / "target")
    await bring_back(tmp_path / "target", tmp_path / "restored", empty_database())

    assert made.manifest.spooled == 2
    for pattern in ("**/*.dcm", "**/*.json"):
        assert files(tmp_path / "restored" / "spool", pattern) == files(place.root / "spool", pattern)
    assert [s.side.arrival_id for s in scan(tmp_path / "restored" / "spool")] == [whole]


async def test_next_backup_copies_what_is_new_and_drops_what_retention_removed(
    place: Place, tmp_path: Path, empty_database: EmptyDatabase
) -> None:
    target, database = tmp_path / "target", empty_database()
    first = await back_up(place, target, at(700))
    mark = (target / "BACKUP").stat()
    place.receive(ct(Instance(study="s3")))
    await place.index(LATER)
    await retain(place.db, DataFolder(place.root), now=LATER)

    second = await back_up(place, target)

    assert (second.new_images, second.dropped, second.manifest.images) == (2, 3, 3)
    assert len(files(target, "blobs/*/*/*.dcm")) == 3
    kept = {"BACKUP", "manifest.json", "lock", "blobs", *second.manifest.files, second.manifest.spool}
    assert {p.name for p in target.iterdir()} == kept
    assert first.manifest.index not in kept
    # Half of it would make the whole backup unreadable: it is never written again.
    assert ((target / "BACKUP").stat().st_ino, (target / "BACKUP").stat().st_mtime_ns) == (
        mark.st_ino,
        mark.st_mtime_ns,
    )
    await bring_back(target, tmp_path / "restored", database)
    await is_sound(tmp_path / "restored", database)


async def test_image_that_retention_removes_during_a_backup_is_removed_in_it_too(
    place: Place, tmp_path: Path, empty_database: EmptyDatabase
) -> None:
    target, data, database = tmp_path / "target", DataFolder(place.root), empty_database()
    target.mkdir(mode=0o700)
    job = Job(place.db, data, target, data_format=1, now=LATER)
    with hold_target(target):
        copy = await copy_index(place.db, await dump_tool(place.db), target, job.stamp, lambda _: None)
        await retain(place.db, data, now=LATER)
        (target / f"spool-{job.stamp}").mkdir()
        manifest, copied, _ = await _copy_images(job, copy, 0)
        manifest.write(target)
    assert (copied.images, copied.missing, len(manifest.removed)) == (1, [], 3)
    await bring_back(target, tmp_path / "restored", database)
    async with open_database(url_of(tmp_path / "restored", database)) as restored:
        removed = "SELECT count(*) FROM arrival WHERE removed_at IS NOT NULL AND blob_key = ''"
        assert await restored.fetch_value(removed) == 3
    assert (await is_sound(tmp_path / "restored", database)).arrivals == 1


async def test_data_folder_that_is_not_the_databases_is_not_backed_up(place: Place, tmp_path: Path) -> None:
    job = Job(place.db, DataFolder(tmp_path / "other"), tmp_path / "target", data_format=1, now=LATER)
    with pytest.raises(InvalidInput, match="none of the 4 images of the index is in"):
        await make_backup(job)
    assert {p.name for p in (tmp_path / "target").iterdir()} == {"BACKUP", "lock"}


async def test_image_that_was_lost_before_is_named_and_keeps_no_other_from_being_backed_up(
    place: Place, tmp_path: Path, empty_database: EmptyDatabase
) -> None:
    [lost, *_] = sorted(place.root.glob("blobs/*/*/*.dcm"))
    lost.unlink()
    made = await back_up(place, tmp_path / "target")
    assert (made.manifest.missing, made.manifest.images) == ((lost.stem,), 3)
    done = await bring_back(tmp_path / "target", tmp_path / "restored", empty_database())
    assert done.manifest.missing == (lost.stem,)
    assert len(files(tmp_path / "restored", "blobs/*/*/*")) == 3


async def test_backup_killed_in_the_middle_leaves_the_one_before_whole(
    place: Place, tmp_path: Path, empty_database: EmptyDatabase
) -> None:
    target, database = tmp_path / "target", empty_database()
    await back_up(place, target, at(700))
    before = files(target, "manifest.json")
    place.receive(ct(Instance(study="s3")))
    await place.index(LATER)
    command = [sys.executable, "-m", "aegate_cli", "backup", str(target), "--data", str(place.root)]
    command += ["--database", place.db.url]
    killed = await asyncio.to_thread(
        subprocess.run, command, env={**os.environ, "AEGATE_DIE_AT": "BLOB_PLACED"}, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL
    assert files(target, "manifest.json") == before

    await bring_back(target, tmp_path / "restored", database)
    assert (await is_sound(tmp_path / "restored", database)).arrivals == 4
    assert (await back_up(place, target)).manifest.images == 6


async def test_backup_of_another_installation_is_not_replaced(place: Place, tmp_path: Path) -> None:
    target = tmp_path / "target"
    await back_up(place, target)
    before = files(target)
    await place.db.execute(
        "UPDATE arrival SET id = '00000000000000000000000000000000' WHERE id = (SELECT min(id) FROM arrival)"
    )
    with pytest.raises(Conflict, match="is of another installation, or this index has lost images"):
        await back_up(place, target)
    assert files(target) == before


async def test_target_in_use_is_refused(place: Place, tmp_path: Path, empty_database: EmptyDatabase) -> None:
    target, root, database = tmp_path / "target", tmp_path / "restored", empty_database()
    await back_up(place, target)
    before = files(target)
    with hold_target(target):
        with pytest.raises(Conflict, match="another `aegate backup` or `aegate restore` uses"):
            await back_up(place, target, at(0))
        with pytest.raises(Conflict, match="another `aegate backup` uses"):
            await bring_back(target, root, database)
    with (
        read_target(target),
        pytest.raises(Conflict, match="another `aegate backup` or `aegate restore` uses"),
    ):
        await back_up(place, target, at(0))
    root.mkdir()
    with _held(root), pytest.raises(Conflict, match="another `aegate restore` fills"):
        await bring_back(target, root, database)
    assert files(target) == before
    assert list(root.iterdir()) == []


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)


async def test_backup_is_for_its_owner_alone(place: Place, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o755)
    mask = os.umask(0)
    try:
        await back_up(place, target)
    finally:
        os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o700
    modes = {p.name.split("-")[0]: p.stat().st_mode & 0o777 for p in target.iterdir() if p.is_file()}
    assert modes == {"BACKUP": 0o600, "lock": 0o600, "manifest.json": 0o600, "index": 0o600}


async def test_folder_with_other_things_is_no_target(place: Place, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match="must be empty or hold a backup made by aegate"):
        await back_up(place, tmp_path)
    assert not (tmp_path / "BACKUP").exists()


def half_made(target: Path) -> None:
    (target / "manifest.json").unlink()


def foreign(target: Path) -> None:
    (target / "BACKUP").unlink()


def of_newer_format(target: Path) -> None:
    (target / "BACKUP").write_text("2\n")


def of_newer_schema(target: Path) -> None:
    said = json.loads((target / "manifest.json").read_text())
    (target / "manifest.json").write_text(
        json.dumps(said | {"migrations": [*said["migrations"], "9999_later"]})
    )


def of_newer_data_format(target: Path) -> None:
    said = json.loads((target / "manifest.json").read_text())
    (target / "manifest.json").write_text(json.dumps(said | {"data_format": 2}))


def no_manifest_of_ours(target: Path) -> None:
    (target / "manifest.json").write_text("[]")


def pointing_outside(target: Path) -> None:
    said = json.loads((target / "manifest.json").read_text())
    (target / "manifest.json").write_text(json.dumps(said | {"index": "../data/aegate.sqlite3"}))


def changed_index(target: Path) -> None:
    [path, *_] = sorted(target.glob("index-*"))
    path.write_bytes(path.read_bytes() + b"\0")


def without_index(target: Path) -> None:
    [path, *_] = sorted(target.glob("index-*"))
    path.unlink()


def without_an_image(target: Path) -> None:
    next(target.glob("blobs/*/*/*.dcm")).unlink()


def changed_image(target: Path) -> None:
    path = next(target.glob("blobs/*/*/*.dcm"))
    content = bytearray(path.read_bytes())
    path.unlink()  # it may be a link to the original
    content[-1] ^= 1
    path.write_bytes(content)


def without_the_spool(target: Path) -> None:
    next(target.glob("spool-*/*/*/*/*.dcm")).unlink()


@pytest.mark.parametrize(
    ("damage", "kind", "said"),
    [
        (half_made, InvalidInput, "was begun and never finished"),
        (foreign, NotFound, "expected a backup made by `aegate backup`"),
        (of_newer_format, SchemaMismatch, "must be of format 1 to 1, got '2'"),
        (of_newer_schema, SchemaMismatch, "made by a newer version of aegate .it has 9999_later"),
        (of_newer_data_format, SchemaMismatch, "it has data format 2"),
        (no_manifest_of_ours, InvalidInput, "must be what `aegate backup` wrote"),
        (pointing_outside, InvalidInput, "names files outside of it"),
        (changed_index, InvalidInput, "got another file"),
        (without_index, InvalidInput, "got none"),
        (without_an_image, InvalidInput, "lacks images that its index names"),
        (changed_image, InvalidInput, "is not the one that arrived"),
        (without_the_spool, InvalidInput, "must hold 1 images of the spool, got 0"),
    ],
)
async def test_half_damaged_newer_and_foreign_backups_are_refused_with_nothing_left(
    place: Place,
    tmp_path: Path,
    empty_database: EmptyDatabase,
    damage: Callable[[Path], None],
    kind: type[AegateError],
    said: str,
) -> None:
    database = empty_database()
    target, there = tmp_path / "target", tmp_path / "there"
    await back_up(place, target)
    damage(target)
    there.mkdir()
    for root in (tmp_path / "new", there):
        with pytest.raises(kind, match=said):
            await bring_back(target, root, database)
    assert not (tmp_path / "new").exists()
    assert list(there.iterdir()) == []
    assert await is_empty(database)


async def test_nothing_is_restored_over_anything(
    place: Place, tmp_path: Path, empty_database: EmptyDatabase
) -> None:
    database = empty_database()
    await back_up(place, tmp_path / "target")
    before = files(place.root, "[V-a]*")
    with pytest.raises(StorageError, match="into an empty folder alone"):
        await bring_back(tmp_path / "target", place.root, database)
    assert files(place.root, "[V-a]*") == before
    assert await is_empty(database)


async def dies_at(step: str, *command: str | Path) -> None:
    """Run a command of ours that kills itself when it has reached ``step``."""
    killed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "aegate_cli", *map(str, command)],
        env={**os.environ, "AEGATE_DIE_AT": step},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr


@pytest.mark.timeout(300)
async def test_backup_killed_at_every_step_leaves_the_last_one_whole(
    place: Place, tmp_path: Path, empty_database: EmptyDatabase
) -> None:
    target = tmp_path / "target"
    await back_up(place, target, at(700))
    steps = ["SPOOL_COPIED", "INDEX_COPIED", "BLOB_PLACED", "BLOB_FSYNCED", "INDEX_FINISHED"]
    steps += ["MANIFEST_WRITTEN", "MANIFEST_REPLACED", "UNWANTED_REMOVED"]
    images = []
    for step in steps:
        place.receive(ct(Instance(study=f"before {step}")))  # there is something new each time
        await place.index(LATER)
        await dies_at(step, "backup", target, "--data", place.root, "--database", place.db.url)
        root, database = tmp_path / f"restored {step}", empty_database()
        images.append((await bring_back(target, root, database)).manifest.images)
        await is_sound(root, database)
    assert images == [4, 4, 4, 4, 4, 4, 12, 13]
    made = await back_up(place, target)
    assert (made.manifest.images, made.manifest.missing) == (13, ())
    assert sorted(p.name for p in target.iterdir()) == sorted(
        ["BACKUP", "blobs", "lock", "manifest.json", *made.manifest.files, made.manifest.spool]
    )


@pytest.mark.timeout(300)
async def test_restore_killed_at_every_step_is_no_data_folder_and_is_begun_anew(
    place: Place, tmp_path: Path, empty_database: EmptyDatabase
) -> None:
    target, root, database = tmp_path / "target", tmp_path / "restored", empty_database()
    await back_up(place, target)
    command = ["restore", target, "--data", root, *(("--database", database) if database else ())]
    steps = ["RESTORE_MARKED", "INDEX_RESTORED", "BLOB_PLACED", "BLOBS_RESTORED", "SPOOL_RESTORED"]
    for step in steps:
        await dies_at(step, *command)
        with pytest.raises(NotFound, match="expected a data folder of aegate, got none"):
            open_data_folder(root)
    await dies_at("RESTORE_FINISHED", *command)
    assert open_data_folder(root).root == root
    assert (await is_sound(root, database)).arrivals == 4
    with pytest.raises(StorageError, match="into an empty folder alone"):
        await bring_back(target, root, empty_database())
    assert (await is_sound(root, database)).arrivals == 4


async def test_restore_takes_no_folder_for_half_restored_that_it_did_not_mark(
    place: Place, tmp_path: Path, empty_database: EmptyDatabase
) -> None:
    await back_up(place, tmp_path / "target")
    root = tmp_path / "restored"
    (root / "letters").mkdir(parents=True)
    (root / "RESTORING").write_text("somebody's own notes\n")
    with pytest.raises(StorageError, match="into an empty folder alone, got 2 entries"):
        await bring_back(tmp_path / "target", root, empty_database())
    assert sorted(p.name for p in root.iterdir()) == ["RESTORING", "letters"]
