"""Ask to stop, again and again, whatever is being done: ``python -m tests.proofs.stops --runs 20 --seed 7``.

Devices send without end. Each run asks all of it or one process to stop at a random moment, also while it starts:
SIGTERM as a rollout sends it, SIGINT as Ctrl-C does, SIGHUP as a closed terminal does, once or twice. It must end
within the grace period, in good order, and lose nothing. At the end everything is drained and judged.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from tests.proofs.command import add_seed, begin, finish, parser_of
from tests.proofs.crash import LONGEST_MOMENT_S, WHILE_STARTING, acknowledged, drained, modalities_of
from tests.proofs.judges import verdicts
from tests.proofs.stage import Stage, stage

SIGNALS = (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""SIGTERM twice: it is what comes in practice."""
ALL_OF_IT = 0.5
TWICE = 0.25
STOP_S = 45.0
"""The grace period and some of the machine's load."""


def stop_all(here: Stage, dice: random.Random) -> tuple[str, list[str]]:
    """Ask `aegate up` to stop and start it again; return what was asked, and what was wrong about how it ended."""
    number, times = dice.choice(SIGNALS), 2 if dice.random() < TWICE else 1
    began = time.monotonic()
    code, was_up = here.ask_to_stop(number, times, timeout_s=STOP_S)
    seconds = time.monotonic() - began
    # Before it listens to signals it has begun nothing, and ends as any program does.
    good = (0,) if was_up else (0, -number, 128 + number)
    wrong = [] if code in good else [f"ended with {code} after {number.name} in {seconds:.1f} s"]
    here.start()
    return f"all by {number.name} x {times}, {seconds:.1f} s", wrong


def stop_one(here: Stage, dice: random.Random) -> tuple[str, list[str]]:
    """Ask one process to stop; the supervisor starts it again."""
    names = [n for n in here.names() if n not in ("supervisor", "postgres")]
    name = dice.choice(names) if names else ""
    if not name or not here.kill(name, signal.SIGTERM):
        return "nobody", []
    return name, []


def prove(root: Path, *, runs: int, seed: int, database: str) -> list[str]:
    """Return what is wrong; print what was done."""
    dice, moment, done, wrong = random.Random(seed), threading.Event(), Counter[str](), []
    began = time.monotonic()
    with stage(root, database=database) as here:
        modalities = modalities_of(here, seed)
        for modality in modalities:
            modality.start()
        for run in range(1, runs + 1):
            if dice.random() >= WHILE_STARTING:
                here.until_ready()
            moment.wait(dice.uniform(0, LONGEST_MOMENT_S))
            what, how = (stop_all if dice.random() < ALL_OF_IT else stop_one)(here, dice)
            done[what.split(",")[0]] += 1
            wrong += how
            print(f"run {run}/{runs}: {what}; {acknowledged(modalities)} acknowledged", flush=True)
        kept = drained(here, modalities)
        wrong += verdicts(here, kept)
        if here.end() != 0:
            wrong.append("aegate up did not stop in good order")
        wrong += here.bad_ends()
    said = ", ".join(f"{n} {what}" for what, n in sorted(done.items()))
    print(f"{database}, seed {seed}: {runs} stops ({said}); {len(kept)} instances acknowledged")
    print(f"{len(wrong)} wrong; {time.monotonic() - began:.0f} s")
    return wrong


def main() -> int:
    """Run the proof; exit code 1 when it failed."""
    parser = parser_of(__doc__)
    parser.add_argument("--runs", type=int, default=20, help="how many stops (default: 20)")
    add_seed(parser, "which")
    options = parser.parse_args()
    root = begin("stops", options.seed)
    wrong = prove(root, runs=options.runs, seed=options.seed, database=options.database)
    return finish(wrong, root)


if __name__ == "__main__":
    sys.exit(main())
