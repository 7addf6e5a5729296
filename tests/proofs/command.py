"""What the commands of the proofs share: arguments, a folder that is kept when they fail, and the last words."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path


def parser_of(description: str | None, *, database: str | None = "postgres") -> argparse.ArgumentParser:
    """Return a parser that says the first line of ``description``; it takes a database, ``database`` by default."""
    assert description is not None
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    if database is not None:
        parser.add_argument("--database", choices=("sqlite", "postgres"), default=database)
    return parser


def add_seed(parser: argparse.ArgumentParser, what: str) -> None:
    """Let a seed be given; ``what`` it decides."""
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help=what)


def begin(name: str, seed: int | None = None) -> Path:
    """Return a new folder for a proof, and say where it is; asked to stop, the proof ends in good order."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Under nohup, or in the background of a script, they are ignored, and what a proof starts would ignore them, too.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    root = Path(tempfile.mkdtemp(prefix=f"aegate-{name}-"))
    chance = "" if seed is None else f"seed {seed}; "
    print(f"{chance}everything is kept in {root} when it fails", file=sys.stderr, flush=True)
    return root


def finish(wrong: Sequence[str], root: Path, *, most: int | None = None) -> int:
    """Say what is wrong, ``most`` lines of it, or remove the folder; return the exit code."""
    for line in wrong[:most]:
        print(f"FAILED: {line}")
    if not wrong:
        shutil.rmtree(root)
    return 1 if wrong else 0
