"""Layers between a program and the system, in C: built by gcc for a run, put under programs by LD_PRELOAD."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def build_shim(source: Path, folder: Path) -> Path:
    """Compile ``source`` into ``folder`` and return the library. Raises SystemExit when there is no compiler."""
    if shutil.which("gcc") is None:
        raise SystemExit("gcc must be there to build the layer: run tools/peers.sh, or apt-get install gcc")
    target = folder / source.with_suffix(".so").name
    command: list[str | Path] = [
        *("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"),
        *("-I", Path(__file__).parent, "-o", target, source, "-ldl"),
    ]
    subprocess.run(command, check=True)
    return target
