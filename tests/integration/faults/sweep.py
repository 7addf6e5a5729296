"""Let the Nth call of an image's way fail, for every N until a whole object passes: ``… receive|index FOLDER``.

Runs on the faulty disk of its environment, as one process with one object after another, so that each call comes at
the same place each time. Prints how many calls failed; whatever is not as promised ends it with an AssertionError.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from aegate_core.database import migrate, open_database
from aegate_core.dicom.identifiers import UID, ResourceKey
from aegate_core.errors import StorageError
from aegate_core.events import configure_logging
from aegate_core.stores.spool import SpoolFolder, Watermark, scan, sweep
from aegate_scp.congestion import Congestion
from aegate_scp.messages import StoreCommand
from aegate_scp.metrics import ListenerMetrics
from aegate_scp.receive import Intake, Peer, StoreReceiver
from tests import dicom
from tests.integration.faults.disk_errors import EVERYTHING, GROWS, Call, FaultyDisk
from tests.integration.intake.hospital import Place, data_offset, part10, spool_folder

DATA = bytes(range(256)) * 16
COMMAND = StoreCommand(1, UID("1.2.840.10008.5.1.4.1.1.2"), UID("2.25.7"), True)
PEER = Peer("a1", ResourceKey("default", "ct1"), "CT1", "AEGATE", "127.0.0.1")


@dataclass(frozen=True)
class Kind:
    """How calls fail: the Nth alone, or all from there on."""

    error: int
    calls: Call
    lasts: bool


KINDS = (
    Kind(errno.EIO, EVERYTHING, lasts=False),
    Kind(errno.EIO, EVERYTHING, lasts=True),
    Kind(errno.ENOSPC, GROWS, lasts=False),
    Kind(errno.ENOSPC, GROWS | Call.ROOM, lasts=True),
)


class Reception:
    """A listener's part between socket and spool, on a spool of its own."""

    def __init__(self, root: Path) -> None:
        metrics = ListenerMetrics()
        self.spool = SpoolFolder(root)
        self._congestion = Congestion(self.spool, Watermark(100.0, 0), metrics)
        self._intake = Intake(self.spool, self._congestion, metrics)

    def receive(self) -> int:
        """Receive one object and return the answer."""
        receiver = StoreReceiver(self._intake, PEER)
        self._congestion.check_again()
        receiver.begin(COMMAND, COMMAND.sop_class_uid, "1.2.840.10008.1.2.1")
        for start in range(0, len(DATA), 1024):
            receiver.write(memoryview(DATA)[start : start + 1024])
        return receiver.finish(lambda: False).status

    def acknowledged(self) -> int:
        """Return how many whole objects lie in the spool; what else lies there is none of ours to leave."""
        found = list(scan(self.spool.root))
        for arrival in found:
            content = arrival.path.read_bytes()
            assert content[arrival.side.data_offset :] == DATA, "an object has other bytes"
            assert len(content) == arrival.side.size_bytes
        return len(found)

    def left_over(self) -> list[str]:
        """Return files that belong to no whole object."""
        files = [p for p in self.spool.root.rglob("*") if p.is_file() and p.parent.name != ".listeners"]
        objects = {p.stem for p in files if p.suffix == ".dcm"}
        return [p.name for p in files if p.suffix not in (".dcm", ".json") or p.stem not in objects]


@contextmanager
def reception(root: Path, *, is_used: bool) -> Iterator[Reception]:
    """Give a new one; ``is_used``: one that has its folders already."""
    here = Reception(root)
    try:
        if is_used:
            assert here.receive() == 0x0000
        yield here
    finally:
        here.spool.close()
        shutil.rmtree(root)


def receive_with(disk: FaultyDisk, root: Path, kind: Kind, *, nth: int, is_used: bool) -> bool:
    """Receive while the call fails, and again when it does not; return whether it came to that call at all."""
    with reception(root, is_used=is_used) as here:
        before = here.acknowledged()
        last = 0 if kind.lasts else nth
        with disk.failing(kind.error, kind.calls, f"{root}*", first=nth, last=last) as fault:
            answer = here.receive()
        after = here.acknowledged() - before
        what = f"call {nth}, {kind}, used={is_used}: answered 0x{answer:04X}"
        assert answer in (0x0000, 0xA700), what
        # What was refused may have stayed where its removal failed, too: whole, and sent again a duplicate.
        assert after == 1 if answer == 0x0000 else after == 0 or (kind.lasts and after == 1), what
        if not kind.lasts:
            assert here.left_over() == [], what
        assert here.receive() == 0x0000, f"{what}, and the next was not taken"
        assert here.acknowledged() - before == after + 1, what
        here.spool.close()
        sweep(root)
        assert here.left_over() == [], f"{what}, and the sweeper leaves it"
        here.spool = SpoolFolder(root)
        return fault.failed > 0


def sweep_reception(disk: FaultyDisk, folder: Path) -> int:
    """Fail every call of reception once, and from there on, in a new spool and in a used one; return how many."""
    failed = 0
    for kind in KINDS:
        for is_used in (False, True):
            for nth in count(1):
                if not receive_with(disk, folder / "spool", kind, nth=nth, is_used=is_used):
                    break
                failed += 1
    return failed


async def index_with(place: Place, disk: FaultyDisk, kind: Kind, *, nth: int, n: int) -> bool:
    """Index an object while a call fails, and again when it does not; return whether it came to that call."""
    what = f"call {nth}, {kind}"
    ds = dicom.ct(dicom.Instance(study=f"study {n}"))
    arrival = place.receive(ds)
    last = 0 if kind.lasts else nth
    with disk.failing(kind.error, kind.calls, f"{place.root}/*", first=nth, last=last) as fault:
        try:
            await place.index()
        except (StorageError, OSError) as refusal:
            assert str(refusal), what
    rows = await place.db.fetch("SELECT blob_key FROM arrival WHERE id = $1", arrival)
    assert not rows or place.blobs.path(rows[0]["blob_key"]).exists(), f"{what}: a row without its blob"
    await place.index()
    assert place.spooled() == [], f"{what}: not indexed afterwards"
    (row,) = await place.db.fetch("SELECT blob_key, outcome FROM arrival WHERE id = $1", arrival)
    content, kept = part10(ds), place.blobs.path(row["blob_key"])
    assert kept.read_bytes()[data_offset(kept.read_bytes()) :] == content[data_offset(content) :], what
    assert row["outcome"] == "NEW", what
    assert list(kept.parent.glob("*.part")) == [], what
    return fault.failed > 0


async def sweep_index(disk: FaultyDisk, folder: Path) -> int:
    """Fail every call of indexing once, and from there on; return how many."""
    url, failed, n = f"sqlite://{folder / 'aegate.sqlite3'}", 0, 0
    await migrate(url)
    async with open_database(url) as db:
        with spool_folder(folder / "spool") as spool:
            place = Place(db, folder, spool)
            await place.apply()
            for kind in KINDS:
                for nth in count(1):
                    n += 1
                    if not await index_with(place, disk, kind, nth=nth, n=n):
                        break
                    failed += 1
            for table in ("arrival", "study", "instance"):
                assert await place.count(table) == n, f"{table}: something is there twice"
        assert await db.fetch_value("PRAGMA integrity_check") == "ok"
    return failed


def main() -> None:
    """Sweep one of the two ways in a folder of its own."""
    way, folder = sys.argv[1], Path(sys.argv[2])
    configure_logging(terminal=False)
    disk = FaultyDisk.under_us()
    failed = sweep_reception(disk, folder) if way == "receive" else asyncio.run(sweep_index(disk, folder))
    print(f"failed calls: {failed}")


if __name__ == "__main__":
    main()
