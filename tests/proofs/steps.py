"""Kill between any two lines that matter: ``python -m tests.proofs.steps --kills 20 --seed 7``.

Every step between socket and index is reached by a process that dies just there, at a time the seed says, again and
again, while devices go on sending. After each step everything is drained and judged; with ``--together`` once, at the
end of all. With ``--signal TERM`` it is asked to stop there, as a rollout does, and must end in good order.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aegate_core.steps import Step
from tests.integration.waiting import eventually
from tests.proofs.command import add_seed, begin, finish, parser_of
from tests.proofs.crash import DRAIN_S, acknowledged, modalities_of, outstanding
from tests.proofs.judges import is_drained, verdicts
from tests.proofs.stage import Stage, stage

LATEST = {Step.BATCH_TAKEN: 4, Step.BLOB_PLACED: 4, Step.BLOB_FSYNCED: 4, Step.COMMITTED: 4}
"""A step of a batch is reached less often than one of an object."""
LATEST_OF_AN_OBJECT = 25
OF_AN_IMAGE = tuple(Step)[: list(Step).index(Step.TOMBSTONED)]
"""Its way to the index; tests/integration/retention and backup kill at the others."""
KILL_S = 120


@dataclass
class Proof:
    """A stage whose processes die where ``wish`` says."""

    here: Stage
    wish: Path
    kills: int
    dice: random.Random
    by: str = "KILL"

    def ends(self) -> Counter[str]:
        """Return how often each process died, or stopped in good order, as it was told to."""
        return self.here.deaths() if self.by == "KILL" else self.here.stops()

    def of(self, steps: Sequence[Step]) -> list[str]:
        """Let ``kills`` processes die at each of ``steps``; return what is wrong afterwards."""
        here, began = self.here, time.monotonic()
        devices = modalities_of(here, self.dice.randrange(10**6))
        for device in devices:
            device.start()
        for step in steps:
            died = self._kill_at(step)
            of = ", ".join(f"{n} {name}" for name, n in sorted(died.items()))
            print(f"{step:16} {died.total():4} ended by SIG{self.by} ({of})", flush=True)
        for device in devices:
            device.finish()
        for device in devices:
            device.join(DRAIN_S)
        # Whoever died left files that the next start clears away.
        here.end()
        here.start()
        here.until_ready()
        here.acknowledged |= {uid: digest for d in devices for uid, digest in d.acknowledged.items()}
        try:
            eventually(
                lambda: is_drained(here) and outstanding(here, []) <= 0, deadline_s=DRAIN_S, what="drained"
            )
        except AssertionError as never:
            wrong = [str(never), *verdicts(here, here.acknowledged)]
        else:
            wrong = verdicts(here, here.acknowledged)
        if self.by == "TERM":
            wrong += here.bad_ends()
        print(
            f"{'':16} {acknowledged(devices):4} acknowledged, {len(wrong)} wrong; {time.monotonic() - began:.0f} s",
            flush=True,
        )
        return [f"{', '.join(steps)}: {w}" for w in wrong]

    def _kill_at(self, step: Step) -> Counter[str]:
        before = self.ends()
        for n in range(1, self.kills + 1):
            nth = self.dice.randint(1, LATEST.get(step, LATEST_OF_AN_OBJECT))
            self.wish.write_text(f"{step}:{nth}:{self.by}")
            eventually(
                lambda n=n: (self.ends() - before).total() >= n,
                deadline_s=KILL_S,
                what=f"end {n} at {step}",
            )
        self.wish.write_text("")
        return self.ends() - before


def main() -> int:
    """Run the proof; exit code 1 when it failed."""
    parser = parser_of(__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how often at each step (default: 20)")
    add_seed(parser, "when")
    parser.add_argument(
        "--signal", choices=("KILL", "TERM"), default="KILL", help="TERM: asked to stop there"
    )
    parser.add_argument("--step", action="append", choices=list(Step), help="these alone")
    parser.add_argument("--together", action="store_true", help="judge once, at the end of all steps")
    options = parser.parse_args()
    root = begin("steps", options.seed)
    steps = [Step(s) for s in options.step or OF_AN_IMAGE]
    wish = root / "die-at"
    wish.write_text("")
    wrong: list[str] = []
    with stage(root, database=options.database, environ={"AEGATE_DIE_AT": str(wish)}) as here:
        proof = Proof(here, wish, options.kills, random.Random(options.seed), options.signal)
        for group in [steps] if options.together else [[step] for step in steps]:
            wrong += proof.of(group)
        print(
            f"{options.database}, seed {options.seed}: {proof.ends().total()} ended by SIG{options.signal}, "
            f"{len(here.acknowledged)} instances acknowledged, {len(wrong)} wrong"
        )
    return finish(wrong, root)


if __name__ == "__main__":
    sys.exit(main())
