"""The control groups of a node: a subtree of its own for each kubelet, or two kubelets on one machine reap each
other's pods.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.integration.waiting import eventually

TOP = Path("/sys/fs/cgroup")
CONTROLLERS = "+cpu +cpuset +memory +pids"


def make_cgroups(name: str) -> None:
    """Make the subtree ``name``: in each controller (cgroup v1), or once (v2)."""
    if (TOP / "cgroup.controllers").exists():
        (TOP / "cgroup.subtree_control").write_text(CONTROLLERS)
        (TOP / name).mkdir(exist_ok=True)
        return
    for controller in TOP.iterdir():
        if controller.is_dir() and not controller.is_symlink():
            (controller / name).mkdir(exist_ok=True)
    for file in ("cpuset.cpus", "cpuset.mems"):  # a group without them takes no process
        (TOP / "cpuset" / name / file).write_text((TOP / "cpuset" / file).read_text())


def remove_cgroups(name: str) -> None:
    """Remove the subtree; its processes have been ended, and the kernel may take a moment to know."""
    for top in list(cgroups(name)):
        eventually(partial(_is_removed, top), deadline_s=30, what=f"{top} is removed")


def cgroups(name: str) -> Iterator[Path]:
    """Yield the subtrees of that name."""
    yield from (p for p in (*TOP.glob(f"*/{name}"), TOP / name) if p.is_dir())


def _is_removed(top: Path) -> bool:
    for folder, _, _ in os.walk(top, topdown=False):
        with suppress(OSError):  # not empty yet
            Path(folder).rmdir()
    return not top.exists()
