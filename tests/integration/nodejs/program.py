"""The Node of the tests, from npm: that of the system may be too old for what they run (Debian 12 has 18)."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

MODULES = Path(__file__).parent / "node_modules"


@cache
def node() -> Path:
    """Return its path. Raises AssertionError when it is missing."""
    found = list(MODULES.glob("node-linux-*/bin/node"))
    assert found, "the Node of the tests is missing: run tools/peers.sh, which brings it for x86-64 and arm64"
    return found[0]


def path_of(modules: Path) -> dict[str, str]:
    """Return the PATH by which npm runs a script beside ``modules``, with this Node before that of the system."""
    return {"PATH": f"{modules / '.bin'}:{node().parent}:{os.environ['PATH']}"}
