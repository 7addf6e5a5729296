"""Let the Nth call on a backup's disk fail, until a whole backup passes: ``… backup|restore FOLDER EVERY``.

``EVERY``: 1 for each N, 3 for each third one, which takes a third of the time.

Runs on the faulty disk of its environment. After each failure the target holds a whole backup, which is restored to see
it, and what is said is in our words. Prints how many calls failed; what is not as promised ends it.
"""

from __future__ import annotations

import asyncio
import errno
import re
import shutil
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from aegate_core.database import Database, migrate, open_database
from aegate_core.errors import StorageError
from aegate_core.events import configure_logging
from aegate_core.services.backup import Job, make_backup, restore_backup
from aegate_core.settings import DataFolder
from tests import dicom
from tests.integration.faults.disk_errors import EVERYTHING, Fault, FaultyDisk
from tests.integration.intake.hospital import Place, spool_folder

WAYS = ((errno.ENOSPC, True), (errno.EIO, False))
"""A disk that is full from some call on, and one that fails once."""

WORDS = re.compile("disk|SQLite file")
"""What is said of a disk where the folder is not named."""


@dataclass(frozen=True)
class Stage:
    """A data folder with two images in its index and one in its spool, and a backup of before the second."""

    disk: FaultyDisk
    db: Database
    folder: Path

    @property
    def data(self) -> DataFolder:
        return DataFolder(self.folder / "data")

    @property
    def target(self) -> Path:
        return self.folder / "target"

    async def back_up(self) -> int:
        """Return how many images the backup holds."""
        job = Job(self.db, self.data, self.target, data_format=1, now=datetime.now(UTC))
        return (await make_backup(job)).manifest.images

    async def restored(self, root: Path) -> int:
        """Restore what the target holds, each image compared with its digest; return how many there are."""
        done = await restore_backup(self.target, DataFolder(root), data_format=1)
        shutil.rmtree(root)
        return done.manifest.images


async def backup_with(stage: Stage, *, error: int, nth: int, lasts: bool) -> Fault:
    """Back up while a call fails: the target holds the backup before or the new one, whole; and again, with none."""
    what = f"backup, call {nth}, {errno.errorcode[error]}, lasts={lasts}"
    shutil.rmtree(stage.target)
    shutil.copytree(stage.folder / "before", stage.target)
    done = False
    with stage.disk.failing(
        error, EVERYTHING, f"{stage.target}*", first=nth, last=0 if lasts else nth
    ) as fault:
        try:
            await stage.back_up()
            done = True
        except StorageError as refusal:
            assert str(stage.target) in str(refusal) or WORDS.search(str(refusal)), f"{what}: {refusal}"
    images = await stage.restored(stage.folder / "seen")
    assert images == 2 if done else images in (1, 2), what
    assert await stage.back_up() == 2, what
    return fault


async def restore_with(stage: Stage, *, error: int, nth: int, lasts: bool) -> Fault:
    """Restore while a call fails: whole, or nothing that anybody takes for whole; and again into the same folder."""
    what, root = f"restore, call {nth}, {errno.errorcode[error]}, lasts={lasts}", stage.folder / "restored"
    done = False
    with stage.disk.failing(error, EVERYTHING, f"{root}*", first=nth, last=0 if lasts else nth) as fault:
        try:
            await restore_backup(stage.target, DataFolder(root), data_format=1)
            done = True
        except StorageError as refusal:
            assert str(root) in str(refusal) or WORDS.search(str(refusal)), f"{what}: {refusal}"
            assert "None" not in str(refusal), f"{what}: {refusal}"
    assert done or lasts or not root.exists(), what
    if (root / "VERSION").exists():
        assert len(list(root.glob("blobs/*/*/*.dcm"))) == 2, f"{what}: half of it is taken for whole"
        assert (root / "aegate.sqlite3").exists(), f"{what}: half of it is taken for whole"
        shutil.rmtree(root)
    assert await stage.restored(root) == 2, what
    return fault


async def sweep(way: str, folder: Path, every: int) -> int:
    """Fail the calls of a backup or of a restore, one after another; return how many."""
    root, failed = folder / "data", 0
    root.mkdir()
    url = f"sqlite://{root / 'aegate.sqlite3'}"
    await migrate(url)
    async with open_database(url) as db:
        with spool_folder(root / "spool") as spool:
            place, stage = Place(db, root, spool), Stage(FaultyDisk.under_us(), db, folder)
            await place.apply()
            for study in ("one", "two"):
                place.receive(dicom.ct(dicom.Instance(study=study)))
                await place.index()
                await stage.back_up()
                if study == "one":
                    shutil.copytree(stage.target, folder / "before")
            place.receive(dicom.ct(dicom.Instance(study="three")))
            await stage.back_up()
            step = backup_with if way == "backup" else restore_with
            for error, lasts in WAYS:
                for nth in count(1, every):
                    if not (await step(stage, error=error, nth=nth, lasts=lasts)).failed:
                        break
                    failed += 1
    return failed


def main() -> None:
    """Sweep one of the two ways in a folder of its own."""
    configure_logging(terminal=False)
    print(f"failed calls: {asyncio.run(sweep(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))}")


if __name__ == "__main__":
    main()
