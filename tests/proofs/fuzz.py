"""Say wrong things to listener and sender, at least half of them within an accepted association: ``make fuzz``.

Conversations that real programs had (``tests/proofs/corpus``) are changed by chance and played against a real listener
and real senders. Whatever is said: nobody dies, hangs, grows or leaks; a good device beside is served all along; what
is acknowledged is there with its bytes; what is reported stored was answered so. Every mutant that ever broke one of
these is kept in ``corpus/regressions`` and comes first. The cells of the state table (PS3.8 Table 9-10) that were
reached are counted. A seed gives the same mutants again; what they meet is up to the machine, so a failing one is saved
as bytes: ``--replay FILE``.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

from tests.proofs.fuzzing.conversations import REGRESSIONS, load, split_count
from tests.proofs.fuzzing.directed import directed
from tests.proofs.fuzzing.listener import listener_under_fuzz
from tests.proofs.fuzzing.mutants import mutant
from tests.proofs.fuzzing.record import objects
from tests.proofs.fuzzing.script import Played, Script
from tests.proofs.fuzzing.sender import sender_under_fuzz
from tests.state_table import TABLE, UNREACHABLE, Cell, Role, follows, reachable

ENOUGH_CELLS = 0.8
ENOUGH_WITHIN = 0.5
BATCH = 250
"""Mutants between two looks at what is left of them."""
MOST_FAILURES = 5
AT_ONCE = {Role.ACCEPTOR: 12, Role.REQUESTOR: 4}
"""How many mutants are played at a time, against the listener and against as many senders."""


class Target(Protocol):
    """One of our sides."""

    def play(self, script: Script) -> tuple[Played, list[str]]:
        """Play a mutant; return what became of it and what is wrong."""

    def settle(self) -> list[str]:
        """Return what is wrong once all mutants are gone."""

    def cells(self) -> dict[tuple[Cell, int], int]:
        """Return the transitions made."""


@dataclass
class Campaign:
    """All mutants against one side."""

    role: Role
    """The side that is fuzzed."""
    target: Target
    folder: Path
    seed: int
    mutants: int = 0
    within: int = 0
    pdus: int = 0
    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    outside: set[Cell] = field(default_factory=set)
    kinds: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, always: Iterable[Script], chance: Iterator[Script], until: float) -> None:
        """Play what must be played, then what chance brings until the time is over."""
        scripts = chain(always, self._until(chance, until))
        with ThreadPoolExecutor(AT_ONCE[self.role]) as pool:
            while batch := list(islice(scripts, BATCH)):
                if len(self.wrong) >= MOST_FAILURES:
                    return
                list(pool.map(self._play, batch))
                if left := self.target.settle():
                    self.wrong += left
                    for script in batch:
                        self._save(script, "batch")
                    return

    def _until(self, scripts: Iterator[Script], until: float) -> Iterator[Script]:
        for script in scripts:
            if time.monotonic() >= until:
                return
            yield script

    def _play(self, script: Script) -> None:
        played, wrong = self.target.play(script)
        theirs, ours = (
            (played.sent, played.received) if self.role is Role.REQUESTOR else (played.received, played.sent)
        )
        with self._lock:
            self.mutants += 1
            self.pdus += split_count(played.sent)
            self.answered += bool(played.received)
            self.within += script.within and theirs[:1] == b"\2" and ours[:1] == b"\1"
            self.kinds.update(part for part in script.origin.split(" + ")[1:])
            if wrong:
                path = self._save(script, "mutant")
                self.wrong += [f"{line} [{script.origin}; {path}]" for line in wrong]

    def _save(self, script: Script, name: str) -> Path:
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"{name}-{len(list(self.folder.iterdir())) + 1}-of-seed-{self.seed}.jsonl"
        path.write_text(script.to_json())
        return path

    def verdicts(self) -> list[str]:
        """Print what was reached and return what is wrong or too weak."""
        made = self.target.cells()
        reached = {cell for cell, _ in made} | self.outside
        goal = reachable(self.role)
        share = len(reached & goal) / len(goal)
        within = self.within / max(self.mutants, 1)
        states = sorted({c.state for c in reached} | {state for _, state in made})
        print(
            f"{self.role}: {self.mutants} mutants, {self.pdus} PDUs, {within:.0%} within an accepted association"
        )
        print(f"  {self.target}")
        print(f"  mutators: {', '.join(f'{n} {name}' for name, n in self.kinds.most_common())}")
        print(f"  states reached: {', '.join(f'Sta{s}' for s in states)}; {len(made)} different transitions")
        print(
            f"  {len(reached & goal)} of {len(goal)} reachable cells of the state table ({share:.0%}); not reached: ",
            end="",
        )
        print(", ".join(map(str, sorted(goal - reached))) or "none")
        for reason, cells in UNREACHABLE[self.role].items():
            print(f"  {len(cells)} cells out of reach: {reason}")
        if beyond := (reached & TABLE.keys()) - goal:
            print(f"  reached although held to be out of reach: {', '.join(map(str, sorted(beyond)))}")
        wrong = [f"{cell} led to Sta{state}" for cell, state in made if not follows(cell, state)]
        if share < ENOUGH_CELLS:
            wrong.append(f"too weak: {share:.0%} of the reachable cells of the {self.role}")
        if within < ENOUGH_WITHIN:
            wrong.append(f"too weak: {within:.0%} of the mutants within an association")
        return wrong + self.wrong


def regressions(role: Role) -> list[Script]:
    """Return the mutants that once broke ``role``."""
    other = Role.ACCEPTOR if role is Role.REQUESTOR else Role.REQUESTOR
    scripts = [Script.load(path) for path in sorted(REGRESSIONS.glob("*.jsonl"))]
    return [script for script in scripts if script.role is other]


def fuzz(root: Path, *, seconds: float, seed: int, replay: list[Script]) -> list[str]:
    """Return what is wrong; print what was done."""
    corpus = load()
    began = time.monotonic()
    other = {Role.ACCEPTOR: Role.REQUESTOR, Role.REQUESTOR: Role.ACCEPTOR}
    with (
        listener_under_fuzz(root / "listener") as listener,
        sender_under_fuzz(root / "sender", objects(root / "files"), AT_ONCE[Role.REQUESTOR]) as sender,
    ):
        listener.good.start()
        campaigns = [
            Campaign(Role.ACCEPTOR, listener, root / "listener-failures", seed, outside=listener.outside),
            Campaign(Role.REQUESTOR, sender, root / "sender-failures", seed),
        ]
        threads = []
        for campaign in campaigns:
            dice = random.Random(f"{seed} {campaign.role}")
            player = other[campaign.role]
            always = [*regressions(campaign.role), *(script for _, script in directed(corpus, campaign.role))]
            chance = iter(lambda player=player, dice=dice: mutant(corpus, player, dice), None)
            if replay:
                always, chance = [script for script in replay if script.role is player], iter(())
            threads.append(threading.Thread(target=campaign.run, args=(always, chance, began + seconds)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        listener.good.finish()
        wrong = listener.good.wrong + listener.settle()
        if replay:
            return wrong + [line for c in campaigns for line in c.wrong]
        wrong += [line for campaign in campaigns for line in campaign.verdicts()]
        wrong += listener.end() + sender.end()
        print(
            f"seed {seed}: {sum(c.mutants for c in campaigns)} mutants in {time.monotonic() - began:.0f} s; "
            f"{listener.ledger.acknowledged} objects acknowledged, each there with its bytes; the good device stored "
            f"{listener.good.stored}, three at a time in {listener.good.longest_s:.1f} s at most; "
            f"our sender reported {sender.reported} stored"
        )
    return wrong


def main() -> int:
    """Run the proof; exit code 1 when it failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr] # it has one
    parser.add_argument("--seconds", type=float, default=60, help="how long chance has its way (default: 60)")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**6), help="which mutants"
    )
    parser.add_argument(
        "--replay", type=Path, nargs="*", default=[], help="play these saved mutants and nothing else"
    )
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="aegate-fuzz-"))
    print(f"seed {options.seed}; everything is kept in {root} when it fails", file=sys.stderr, flush=True)
    replay = [Script.load(path) for path in options.replay]
    wrong = fuzz(root, seconds=options.seconds, seed=options.seed, replay=replay)
    for line in wrong:
        print(f"FAILED: {line}")
    if wrong and not replay:
        print(
            f"again: python -m tests.proofs.fuzz --seconds {options.seconds:g} --seed {options.seed}; see {root}"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
