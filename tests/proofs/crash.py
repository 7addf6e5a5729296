"""Kill everything, again and again, and count what was lost: ``python -m tests.proofs.crash --runs 100 --seed 7``.

Devices send without end to a running system, and retention, backup and fsck are run beside it (`upkeep`), killed as
well. Each run kills one process, or two at once, at a random moment: a
listener, the indexer, the worker, the API, the supervisor, PostgreSQL; sometimes while it is still starting. At the
end everything is drained and judged. A seed says which processes are killed and when; what they were doing just then
is up to the machine.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tests.integration.waiting import eventually
from tests.proofs.judges import is_drained, received, verdicts
from tests.proofs.modalities import Modality, aegate_send, storescu
from tests.proofs.stage import Stage, stage
from tests.proofs.upkeep import PARTITION, Keeper

LONGEST_MOMENT_S = 1.2
TWO_AT_ONCE = 0.2
WHILE_STARTING = 0.25
DRAIN_S = 300
ENOUGH_IN_FLIGHT = 0.7


@dataclass
class Tally:
    """What was killed, and how often something was in flight then."""

    kills: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0

    @property
    def share(self) -> float:
        """How many of the kills fell with an instance in flight."""
        return self.in_flight / max(self.kills.total(), 1)


def crash(here: Stage, modalities: list[Modality], runs: int, dice: random.Random) -> Tally:
    """Kill ``runs`` times."""
    tally, moment = Tally(), threading.Event()
    for run in range(1, runs + 1):
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
    return tally


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


def acknowledged(modalities: list[Modality]) -> int:
    """Return how many instances the devices saw acknowledged."""
    return sum(len(m.acknowledged) for m in modalities)


def outstanding(here: Stage, modalities: list[Modality]) -> int:
    """Return how many of them are not at the receiver yet."""
    return len(here.acknowledged) + acknowledged(modalities) - received(here)


def prove(root: Path, *, runs: int, seed: int, database: str) -> list[str]:
    """Return what is wrong; print what was done."""
    dice = random.Random(seed)
    began = time.monotonic()
    with stage(root, database=database) as here:
        modalities = modalities_of(here, seed)
        (here.root / "hospital" / "partition.yaml").write_text(PARTITION)
        keeper = Keeper(here, seed)
        for device in (*modalities, keeper):
            device.start()
        tally = crash(here, modalities, runs, dice)
        keeper.finish()
        for modality in modalities:
            modality.finish()
        here.until_ready()
        for modality in modalities:
            modality.join(DRAIN_S)
        eventually(lambda: is_drained(here), deadline_s=DRAIN_S, what="everything is drained")
        kept = {uid: digest for m in modalities for uid, digest in m.acknowledged.items()}
        wrong = keeper.verdicts() + verdicts(here, kept)
        if here.end() != 0:
            wrong.append("aegate up did not stop in good order")
    if tally.share < ENOUGH_IN_FLIGHT:
        wrong.append(f"too weak: only {tally.share:.0%} of the kills fell with an instance in flight")
    kills = ", ".join(f"{n} {name}" for name, n in sorted(tally.kills.items()))
    lost = sum(w.startswith("acknowledged and not") for w in wrong)
    print(
        f"{database}, seed {seed}: {tally.kills.total()} kills ({kills}), {tally.share:.0%} with an instance in flight"
    )
    beside = ", ".join(f"{n} {what}" for what, n in sorted(keeper.ended.items()))
    print(f"beside it: {beside}")
    print(f"{len(kept)} instances acknowledged, {lost} lost; {time.monotonic() - began:.0f} s")
    return wrong


def main() -> int:
    """Run the proof; exit code 1 when it failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr] # it has one
    parser.add_argument("--runs", type=int, default=100, help="how many kills (default: 100)")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**6), help="which kills"
    )
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="postgres")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    root = Path(tempfile.mkdtemp(prefix="aegate-crash-"))
    print(f"seed {options.seed}; everything is kept in {root} when it fails", file=sys.stderr, flush=True)
    wrong = prove(root, runs=options.runs, seed=options.seed, database=options.database)
    for line in wrong:
        print(f"FAILED: {line}")
    if wrong:
        again = f"--runs {options.runs} --seed {options.seed} --database {options.database}"
        print(f"again: python -m tests.proofs.crash {again}; see {root}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
