"""Kill everything, again and again, and count what was lost: ``python -m tests.proofs.crash --runs 100 --seed 7``.

Devices send without end to a running system, and retention, backup and fsck are run beside it (`upkeep`), killed as
well. Each run kills one process, or two at once, at a random moment: a listener, the indexer, the worker, the API, the
supervisor, PostgreSQL; sometimes while it is still starting. After every hundred kills everything is drained and
judged, and a new installation begins; SIGUSR1 does so at once and ends. A seed says which processes are killed and
when; what they were doing just then is up to the machine.
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from aegate_core.stores.spool import count_left_over
from tests.integration.waiting import eventually
from tests.proofs.command import add_seed, begin, finish, parser_of
from tests.proofs.judges import is_drained, received, verdicts
from tests.proofs.modalities import Modality, aegate_send, storescu
from tests.proofs.stage import Stage, stage
from tests.proofs.upkeep import PARTITION, Keeper

RUNS_TOGETHER = 100
"""So many kills on one installation: then it is judged, and the next one begins."""
ENOUGH = threading.Event()
"""SIGUSR1: kill no more, drain, judge, and say what was done."""
LONGEST_MOMENT_S = 1.2
TWO_AT_ONCE = 0.2
WHILE_STARTING = 0.25
DRAIN_S = 300
ENOUGH_IN_FLIGHT = 0.7


@dataclass
class Tally:
    """What was killed, how often something was in flight then, and what became of it."""

    kills: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    acknowledged: int = 0
    lost: int = 0
    beside: Counter[str] = field(default_factory=Counter)
    """What was run beside, and how it ended."""

    @property
    def share(self) -> float:
        """How many of the kills fell with an instance in flight."""
        return self.in_flight / max(self.kills.total(), 1)


def crash(here: Stage, modalities: list[Modality], runs: int, dice: random.Random, tally: Tally) -> None:
    """Kill ``runs`` times, or until SIGUSR1."""
    moment = threading.Event()
    for run in range(1, runs + 1):
        if ENOUGH.is_set():
            break
        if dice.random() >= WHILE_STARTING:
            here.until_ready()
        moment.wait(dice.uniform(0, LONGEST_MOMENT_S))
        wanted = 2 if dice.random() < TWO_AT_ONCE else 1
        order = dice.sample(here.names(), len(here.names()))
        flying = any(m.is_sending for m in modalities) or outstanding(here, modalities) > 0
        # Who is just being started again cannot be killed: the next one is.
        killed = list(islice((name for name in order if here.kill(name)), wanted))
        tally.kills.update(killed)
        tally.in_flight += len(killed) * flying
        print(
            f"run {run}/{runs}: killed {', '.join(killed) or 'nobody'}; {acknowledged(modalities)} acknowledged",
            file=sys.stderr,
            flush=True,
        )


def modalities_of(here: Stage, seed: int) -> list[Modality]:
    """Return the devices of a stage: dcmtk's sender on the shared port, ours on a port of its own. Not started yet."""
    outgoing = here.root / "outgoing"
    modalities = [
        Modality(f"ct1-{seed}", storescu(here.ports["ct1"], "CT1"), outgoing, seed),
        Modality(f"us1-{seed}", aegate_send(here.ports["us1"], "US1"), outgoing, seed + 1),
    ]
    for modality in modalities:
        modality.outstanding = lambda: outstanding(here, modalities)
    return modalities


def drained(here: Stage, modalities: Sequence[Modality]) -> dict[str, str]:
    """Let the devices come to their end, wait until all is delivered, and return what was acknowledged to them."""
    for modality in modalities:
        modality.finish()
    here.until_ready()
    for modality in modalities:
        modality.join(DRAIN_S)
    eventually(lambda: is_drained(here), deadline_s=DRAIN_S, what="everything is drained")
    _until_swept(here)
    return {uid: digest for m in modalities for uid, digest in m.acknowledged.items()}


def _until_swept(here: Stage) -> None:
    """Return when dead listeners' parts are gone: an indexer sweeps as it starts, and then minutes later."""
    spool = here.data / "spool"
    if count_left_over(spool):
        assert "indexer" in here.names(), "it runs once all is ready"
        here.kill("indexer")
        eventually(lambda: count_left_over(spool) == 0, deadline_s=DRAIN_S, what="the indexer has swept")


def acknowledged(modalities: list[Modality]) -> int:
    """Return how many instances the devices saw acknowledged."""
    return sum(len(m.acknowledged) for m in modalities)


def outstanding(here: Stage, modalities: list[Modality]) -> int:
    """Return how many of them are not at the receiver yet."""
    return len(here.acknowledged) + acknowledged(modalities) - received(here)


def prove_round(root: Path, runs: int, seed: int, database: str, tally: Tally) -> list[str]:
    """Kill ``runs`` times on an installation of its own, drain it and return what is wrong."""
    dice = random.Random(seed)
    root.mkdir()
    with stage(root, database=database) as here:
        modalities = modalities_of(here, seed)
        (here.root / "hospital" / "partition.yaml").write_text(PARTITION)
        keeper = Keeper(here, seed)
        for device in (*modalities, keeper):
            device.start()
        crash(here, modalities, runs, dice, tally)
        keeper.finish()
        kept = drained(here, modalities)
        wrong = keeper.verdicts() + verdicts(here, kept)
        if here.end() != 0:
            wrong.append("aegate up did not stop in good order")
    tally.acknowledged += len(kept)
    tally.lost += sum(w.startswith("acknowledged and not") for w in wrong)
    tally.beside.update(keeper.ended)
    return wrong


def prove(root: Path, *, runs: int, seed: int, database: str) -> list[str]:
    """Return what is wrong, of the first round that was wrong; print what was done."""
    began, tally, wrong = time.monotonic(), Tally(), list[str]()
    for number in range(0, runs, RUNS_TOGETHER):
        folder = root / f"runs-{number + 1}"
        wrong = prove_round(folder, min(RUNS_TOGETHER, runs - number), seed + number, database, tally)
        if wrong:
            again = f"--runs {RUNS_TOGETHER} --seed {seed + number} --database {database}"
            print(f"again: python -m tests.proofs.crash {again}; see {folder}")
            break
        shutil.rmtree(folder)
        if ENOUGH.is_set():
            break
    if tally.share < ENOUGH_IN_FLIGHT:
        wrong.append(f"too weak: only {tally.share:.0%} of the kills fell with an instance in flight")
    print(
        f"{database}, seed {seed}: {tally.kills.total()} kills ({listed(tally.kills)}), "
        f"{tally.share:.0%} with an instance in flight"
    )
    print(f"beside it: {listed(tally.beside)}")
    print(f"{tally.acknowledged} instances acknowledged, {tally.lost} lost; {time.monotonic() - began:.0f} s")
    return wrong


def listed(counts: Counter[str]) -> str:
    """Return counts in words."""
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))


def main() -> int:
    """Run the proof; exit code 1 when it failed."""
    parser = parser_of(__doc__)
    parser.add_argument("--runs", type=int, default=100, help="how many kills (default: 100)")
    add_seed(parser, "which kills")
    options = parser.parse_args()
    signal.signal(signal.SIGUSR1, lambda *_: ENOUGH.set())
    root = begin("crash", options.seed)
    wrong = prove(root, runs=options.runs, seed=options.seed, database=options.database)
    return finish(wrong, root)


if __name__ == "__main__":
    sys.exit(main())
