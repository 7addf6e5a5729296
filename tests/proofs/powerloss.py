"""Take the power away, again and again, and count what was lost: ``python -m tests.proofs.powerloss --runs 50``.

Devices send without end to a running system whose data folder lies on a played disk (disk.py). Each run stops all
processes at one instant and puts in place of the data folder what may be on the disk then: spool, blobs, quarantine
and SQLite in one image. Some runs kill a process a moment before; some fall into the start after the run before.
After every few runs everything is drained and judged, and a new installation begins.
"""

from __future__ import annotations

import asyncio
import glob
import random
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydicom.dataset import Dataset

from aegate_core.database import open_database
from aegate_core.errors import NotDICOM
from tests.dicom import Instance, ct
from tests.integration.scu.clinic import data_digest
from tests.integration.shims import build_shim
from tests.integration.waiting import eventually
from tests.proofs.command import add_seed, begin, finish, parser_of
from tests.proofs.crash import modalities_of, outstanding
from tests.proofs.disk import DISK_C, Disk, Loss
from tests.proofs.judges import is_drained, verdicts
from tests.proofs.modalities import Modality, aegate_send
from tests.proofs.stage import Stage, stage

RUNS_TOGETHER = 5
DRAIN_S = 120
LONGEST_MOMENT_S = 2.0
LONGEST_START_S = 4.0
WHILE_STARTING = 0.3
IN_FLIGHT = 0.7
SHORTLY_AFTER_S = 0.03
"""So often the instant is taken while, or shortly after, an object is being written."""
KILLED_BEFORE = 0.25
MORE_OUTSTANDING = 2000
"""So many more than elsewhere may wait to be delivered, that devices never pause before the end."""
FSYNC_US = 2000
"""By feel, as a good disk: so long an fsync takes, so that instants fall between two of them."""
ENOUGH_WITH_LOSS = 0.5
MOST_IN_FLIGHT = 8
"""Calls that were done and not written down when all stood still: at most one a thread."""
OURS = ("spool", "blobs", "aegate.sqlite3", "aegate.sqlite3-wal", ".")
"""What a loss is counted of; the rest is what processes say of themselves while they run."""

SWITCHES = {
    "an object's bytes": "*/spool/*.part",
    "side record": "*/spool/*.json",
    "spool folder": "*/spool/*/*/*[0-9a-f]",
    "folder of an AE": "*/spool/default/??1",
    "folder of a namespace": "*/spool/default",
    "spool itself": "*/spool",
    "data folder": "*/data",
    "blobs' folders": "*/blobs/*:syncfs",
    "blobs' folders, many at once": "syncfs",
    "write-ahead log": "*.sqlite3-wal",
    "database file": "*.sqlite3",
    "VERSION": "*/VERSION.part",
}
"""Which fsync is taken out in a proof of this proof: paths of what is fsynced."""

_ARRIVALS = "SELECT sop_instance_uid AS uid, outcome, blob_key FROM arrival"


@dataclass
class Tally:
    """What was done in all runs."""

    cuts: int = 0
    with_loss: int = 0
    files: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    written_bytes: int = 0
    acknowledged: int = 0
    quarantined: int = 0
    lost: int = 0
    unseen: int = 0
    ignored: Counter[str] = field(default_factory=Counter)

    def add(self, loss: Loss) -> None:
        """Count one cut."""
        self.cuts += 1
        self.files.update(loss.files)
        self.names.update(loss.names)
        self.written_bytes += loss.written_bytes
        self.with_loss += any(loss.files[area] or loss.names[area] for area in OURS)


class BrokenScanner(Modality):
    """A device whose objects name no study: they are taken, acknowledged and quarantined."""

    def make(self, instance: Instance) -> Dataset:
        """Return an object without Study Instance UID."""
        ds = ct(instance)
        del ds.StudyInstanceUID
        return ds


@dataclass
class Round:
    """A few runs on one installation, then the judgement."""

    root: Path
    seed: int
    runs: int
    environ: dict[str, str]
    tally: Tally

    def prove(self) -> list[str]:
        """Return what is wrong."""
        self.root.mkdir()
        data = self.root / "data"
        data.mkdir(mode=0o700)
        dice, disk = random.Random(self.seed), Disk(data)
        self.environ |= {
            "AEGATE_DISK_ROOT": str(data.resolve()),
            "AEGATE_DISK_JOURNAL": str(self._journal(1)),
        }
        with stage(self.root, database="sqlite", environ=self.environ, is_waited_for=False) as here:
            devices = modalities_of(here, self.seed)
            broken = BrokenScanner(
                f"us1-{self.seed}-broken",
                aegate_send(here.ports["us1"], "US1"),
                self.root / "outgoing",
                self.seed + 2,
            )
            broken.outstanding = lambda: len(broken.acknowledged) - 40 * self.runs
            for device in devices:
                device.outstanding = lambda: outstanding(here, devices) - MORE_OUTSTANDING
            for device in (*devices, broken):
                device.start()
            try:
                for number in range(1, self.runs + 1):
                    self._cut(here, disk, dice, number)
                    here.start()
                here.until_ready()
            finally:
                for device in (*devices, broken):
                    device.finish()
            return self._judge(here, devices, broken)

    def _journal(self, number: int) -> Path:
        """Return the journal of a run; it is there, also when the power fails before any process has begun."""
        path = self.root / f"journal-{number}"
        path.touch()
        return path

    def _cut(self, here: Stage, disk: Disk, dice: random.Random, number: int) -> None:
        moment = threading.Event()
        is_starting = dice.random() < WHILE_STARTING
        if is_starting:
            moment.wait(dice.uniform(0, LONGEST_START_S))
        else:
            here.until_ready()
            moment.wait(LONGEST_MOMENT_S * dice.random() ** 2)  # mostly soon: much is done once, at the start
        if not is_starting and dice.random() < IN_FLIGHT:
            arriving = partial(glob.glob, f"{here.data}/spool/*/*/*/*.part")
            eventually(arriving, deadline_s=60, what="an instance arrives")
            moment.wait(dice.uniform(0, SHORTLY_AFTER_S))
        if dice.random() < KILLED_BEFORE:
            here.kill_between_calls(dice.choice(here.names()[:-1] or ["nobody"]), self._journal(number))
            moment.wait(dice.uniform(0, 0.5))
        here.power_off()
        disk.play(self._journal(number))
        unseen = disk.differences()
        self.tally.unseen += len(unseen)
        assert len(unseen) <= MOST_IN_FLIGHT, f"the layer did not see all: {unseen[:20]}"
        self.tally.add(disk.cut(dice))
        shutil.copytree(here.data, self.root / f"disk-{number}")
        self.environ["AEGATE_DISK_JOURNAL"] = here.environ["AEGATE_DISK_JOURNAL"] = str(
            self._journal(number + 1)
        )
        self.tally.ignored.update(disk.ignored)
        disk.ignored.clear()

    def _judge(self, here: Stage, devices: list[Modality], broken: Modality) -> list[str]:
        for device in (*devices, broken):
            device.join(DRAIN_S)
        wrong = []
        try:
            eventually(lambda: is_drained(here), deadline_s=DRAIN_S, what="everything is drained")
        except AssertionError as never:
            wrong.append(str(never))
        kept = {uid: digest for d in devices for uid, digest in d.acknowledged.items()}
        wrong += verdicts(here, kept)
        wrong += _not_kept(here, kept, "NEW", "DUPLICATE")
        wrong += _not_kept(here, broken.acknowledged, "QUARANTINED")
        self.tally.acknowledged += len(kept)
        self.tally.quarantined += len(broken.acknowledged)
        self.tally.lost += len({w.rpartition(" ")[2] for w in wrong if w.startswith("acknowledged and not")})
        return wrong


def _not_kept(here: Stage, acknowledged: Mapping[str, str], *outcomes: str) -> list[str]:
    """Return what was acknowledged and cannot be had from the system itself with the same bytes."""

    async def ask() -> list[tuple[str, str, str]]:
        async with open_database(here.url) as db:
            return [(str(r["uid"]), str(r["outcome"]), str(r["blob_key"])) for r in await db.fetch(_ARRIVALS)]

    there: dict[str, set[str]] = {}
    for uid, outcome, key in asyncio.run(ask()):
        if outcome in outcomes and (blob := here.data / "blobs" / key).is_file():
            there.setdefault(uid, set()).add(_digest(blob))
    gone = [f"acknowledged and not in the index: {uid}" for uid in sorted(acknowledged.keys() - there.keys())]
    other = [uid for uid, digest in acknowledged.items() if uid in there and there[uid] != {digest}]
    return [*gone, *(f"other bytes in the blob store: {uid}" for uid in sorted(other))]


def _digest(blob: Path) -> str:
    """Return the digest of the data set, and something that is none of a blob that was torn."""
    try:
        return data_digest(blob)
    except NotDICOM:
        return "no Part 10 file"


def prove(root: Path, *, runs: int, seed: int, ignore: str = "", say: Callable[[str], None]) -> list[str]:
    """Return what is wrong, of the first few runs that were wrong; print what was done."""
    root.mkdir(exist_ok=True)
    tally, began, wrong = Tally(), time.monotonic(), list[str]()
    environ = {
        "LD_PRELOAD": str(build_shim(DISK_C, root)),
        "AEGATE_DISK_SYNC_US": str(FSYNC_US),
        "AEGATE_DISK_IGNORE": ignore,
    }
    for number in range(0, runs, RUNS_TOGETHER):
        together = Round(
            root / f"runs-{number + 1}",
            seed + number,
            min(RUNS_TOGETHER, runs - number),
            dict(environ),
            tally,
        )
        try:
            wrong = together.prove()
        except AssertionError as failure:
            wrong = [str(failure)]
        print(
            f"{tally.cuts}/{runs} cuts, seed {together.seed}: {tally.acknowledged} acknowledged, {len(wrong)} wrong",
            file=sys.stderr,
            flush=True,
        )
        if wrong:
            break
        shutil.rmtree(together.root)
    _report(tally, seed, time.monotonic() - began, ignore, say)
    if not wrong and tally.with_loss < ENOUGH_WITH_LOSS * tally.cuts:
        wrong.append(f"too weak: only {tally.with_loss} of {tally.cuts} cuts lost something")
    if wrong:
        last = f"--runs {RUNS_TOGETHER} --seed {together.seed}"
        say(f"again: python -m tests.proofs.powerloss {last}; see {together.root}")
    return wrong


def _report(tally: Tally, seed: int, took_s: float, ignore: str, say: Callable[[str], None]) -> None:
    files = ", ".join(f"{n} {area}" for area, n in sorted(tally.files.items()) if n)
    names = ", ".join(f"{n} {area}" for area, n in sorted(tally.names.items()) if n)
    say(f"seed {seed}: {tally.cuts} cuts, {tally.with_loss} of them with a loss in spool, blobs or database")
    say(f"not on the disk: files {files or 'none'}; {tally.written_bytes} bytes; names {names or 'none'}")
    say(f"calls in flight at an instant, written down by nobody: {tally.unseen}")
    if ignore:
        say(f"fsync of {ignore} ignored {tally.ignored.total()} times")
    say(
        f"{tally.acknowledged} instances acknowledged and {tally.quarantined} for quarantine, {tally.lost} lost; "
        f"{took_s:.0f} s"
    )


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def prove_the_proof(root: Path, *, runs: int, seed: int) -> list[str]:
    """Take out one fsync after the other; return those that nobody missed."""
    missed = []
    for name, pattern in SWITCHES.items():
        said: list[str] = []
        wrong = prove(root / name.split()[-1], runs=runs, seed=seed, ignore=pattern, say=said.append)
        shutil.rmtree(root / name.split()[-1])
        print(f"without fsync of {name}: {wrong[0] if wrong else 'nothing was found'}; {said[0]}", flush=True)
        if not wrong:
            missed.append(f"the fsync of {name} ({pattern}) was not missed in {runs} cuts")
    return missed


def main() -> int:
    """Run the proof; exit code 1 when it failed."""
    parser = parser_of(__doc__, database=None)
    parser.add_argument("--runs", type=int, default=50, help="how often the power fails (default: 50)")
    add_seed(parser, "when")
    parser.add_argument(
        "--ignore", default="", help="glob of paths whose fsync does nothing: this must be found"
    )
    parser.add_argument(
        "--selftest", action="store_true", help="take out one fsync after the other: each must be found"
    )
    options = parser.parse_args()
    root = begin("powerloss", options.seed)
    if options.selftest:
        wrong = prove_the_proof(root, runs=options.runs, seed=options.seed)
    else:
        wrong = prove(root, runs=options.runs, seed=options.seed, ignore=options.ignore, say=say)
    return finish(wrong, root, most=20)


if __name__ == "__main__":
    sys.exit(main())
