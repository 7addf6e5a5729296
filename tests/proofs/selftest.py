"""Break aegate on purpose, one way after the other; each must be noticed: ``python -m tests.proofs.selftest``.

A proof that finds nothing proves something only if it would have found it. Each sabotage is made in a copy of the
source, and its proof is run there: it must end with exit code 1 and say what is wrong. Any other end, a proof that
could not start for example, notices nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.proofs.sabotage import SABOTAGES, Sabotage

SOURCE = Path(__file__).parents[2]
DISTRIBUTIONS = ("core", "scp", "scu", "graphql_api", "cli")
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", ".coverage*", ".hypothesis")
SAYS_WRONG = ("FAILED", "ERROR tests/")
LONGEST_S = 1800


def commit(sabotage: Sabotage, tree: Path) -> None:
    """Write the sabotage into ``tree``. Raises AssertionError when the code has moved on."""
    path = tree / sabotage.file
    text = path.read_text()
    assert text.count(sabotage.old) == 1, (
        f"{sabotage.file} must hold the text of “{sabotage.name}” once: bring tests/proofs/sabotage.py up to date"
    )
    path.write_text(text.replace(sabotage.old, sabotage.new))


def noticed(sabotage: Sabotage, root: Path) -> str:
    """Return what the proof says of the sabotage; nothing when it did not notice."""
    tree = root / "tree"
    shutil.copytree(SOURCE, tree, ignore=LEFT_OUT)
    commit(sabotage, tree)
    temporary = root / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", *sabotage.proof],
        cwd=tree,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(tree / name) for name in DISTRIBUTIONS),
            "TMPDIR": str(temporary),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONGEST_S,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith(SAYS_WRONG)]
    if done.returncode == 1 and said:
        return said[0]
    print(f"exit code {done.returncode}: {done.stdout[-2000:]}")
    return ""


def main() -> int:
    """Run all of them; exit code 1 when one was not noticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr] # it has one
    parser.add_argument("--only", default="", help="those whose name holds this text")
    options = parser.parse_args()
    chosen = [s for s in SABOTAGES if options.only in s.name]
    missed = []
    for number, sabotage in enumerate(chosen, 1):
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="aegate-selftest-") as root:
            said = noticed(sabotage, Path(root))
        verdict = f"noticed: {said}" if said else "NOT NOTICED"
        print(
            f"{number}/{len(chosen)} {sabotage.name}; {sabotage.proof[0]}, {time.monotonic() - began:.0f} s: {verdict}",
            flush=True,
        )
        missed += [] if said else [sabotage.name]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} sabotages noticed")
    return 1 if missed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
