"""Kill between any two lines that matter: ``python -m tests.proofs.steps --kills 20 --seed 7``.

Every step between socket and index is reached by a process that dies just there, at a time the seed says, and again
after each restart, while devices go on sending. After each step everything is drained and judged.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from aegate_core.steps import Step
from tests.integration.waiting import eventually
from tests.proofs.crash import DRAIN_S, acknowledged, modalities_of, outstanding
from tests.proofs.judges import is_drained, verdicts
from tests.proofs.stage import Stage, stage

LATEST = {Step.BATCH_TAKEN: 4, Step.BLOB_PLACED: 4, Step.BLOB_FSYNCED: 4, Step.COMMITTED: 4}
"""A step of a batch is reached less often than one of an object."""
LATEST_OF_AN_OBJECT = 25
OF_RETENTION = frozenset((Step.TOMBSTONED, Step.BLOB_DELETED))
"""Not on an image's way to the index: tests/integration/retention kills there."""
KILLS_S = 600


def prove_step(here: Stage, step: Step, kills: int, dice: random.Random) -> list[str]:
    """Let ``kills`` processes die at ``step``; return what is wrong afterwards."""
    began, before = time.monotonic(), here.deaths()
    here.end()
    here.start(AEGATE_DIE_AT=f"{step}:{dice.randint(1, LATEST.get(step, LATEST_OF_AN_OBJECT))}")
    devices = modalities_of(here, dice.randrange(10**6))
    for device in devices:
        device.start()
    eventually(lambda: here.deaths() - before >= kills, deadline_s=KILLS_S, what=f"{kills} deaths at {step}")
    for device in devices:
        device.finish()
    here.end()
    here.start()
    for device in devices:
        device.join(DRAIN_S)
    eventually(
        lambda: is_drained(here) and outstanding(here, devices) <= 0, deadline_s=DRAIN_S, what="drained"
    )
    here.acknowledged |= {uid: digest for d in devices for uid, digest in d.acknowledged.items()}
    wrong = verdicts(here, here.acknowledged)
    died = here.deaths() - before
    print(
        f"{step:16} {died:4} deaths, {acknowledged(devices):5} acknowledged, {len(wrong)} wrong; "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
    )
    return [f"{step}: {w}" for w in wrong]


def main() -> int:
    """Run the proof; exit code 1 when it failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr] # it has one
    parser.add_argument("--kills", type=int, default=20, help="how often at each step (default: 20)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="when")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="postgres")
    parser.add_argument("--step", action="append", choices=list(Step), help="these alone")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="aegate-steps-"))
    print(f"seed {options.seed}; everything is kept in {root} when it fails", flush=True)
    dice, wrong = random.Random(options.seed), []
    with stage(root, database=options.database) as here:
        for step in options.step or [s for s in Step if s not in OF_RETENTION]:
            wrong += prove_step(here, Step(step), options.kills, dice)
        print(f"{here.deaths()} deaths, {len(here.acknowledged)} instances acknowledged")
    for line in wrong:
        print(f"FAILED: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
