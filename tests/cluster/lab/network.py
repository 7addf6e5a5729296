"""The lab's networks on this machine, and the proof that nothing of it goes anywhere else.

Every address of a lab is routed before anything runs that could send to it; a network that this machine already
knows a way to is refused. Settings of the kernel that kubelet changes for the whole machine are put back by the
last lab to go.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.lab.errors import LabRefused
from tests.cluster.lab.plan import Plan

SAVED = "sysctl"
"""Folder, in that of a lab, of the settings as they were."""

TIMEOUT_S = 900
"""For one command; importing an image of 300 MB takes 3 s on an idle machine and minutes on a busy one."""

KUBELET_SETS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def run(*command: object, as_root: bool = False, environ: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it prints. ``as_root``: through sudo where we are not root."""
    sudo = ["sudo", "-n"] if as_root and os.geteuid() != 0 else []
    words = [*sudo, *map(str, command)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, env=environ)
    except FileNotFoundError as error:
        raise LabRefused(
            f"{words[0]} must be there: run tools/peers.sh tests/cluster/apt-packages.txt"
        ) from error
    if done.returncode:
        raise LabRefused(f"{' '.join(words)} must succeed, it said: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def refuse_networks_in_use(plan: Plan) -> None:
    """Stop when this machine has a way (but the default one) to a network of the plan."""
    for network in plan.networks():
        inside = run("ip", "-4", "route", "show", "table", "all", "root", network).split("\n")
        around = run("ip", "-4", "route", "show", "match", network).split("\n")
        found = [r for r in inside + around if r.strip() and not r.startswith("default")]
        if found:
            raise LabRefused(
                f"{network} is in use here ({found[0].strip()}): take another number for the lab"
            )


def join_full(plan: Plan, folder: Path, other_folders: list[Path]) -> None:
    """Make the bridge, and the ways to nodes, pods and Services."""
    _save_settings(folder, other_folders)
    run("ip", "link", "add", plan.bridge, "type", "bridge")
    run("ip", "addr", "add", f"{plan.machine}/24", "dev", plan.bridge)
    run("ip", "link", "set", plan.bridge, "up")
    run("ip", "route", "add", plan.services, "via", plan.node(1), "dev", plan.bridge)
    for i in plan.node_numbers:
        run("ip", "route", "add", plan.pods(i), "via", plan.node(i), "dev", plan.bridge)


def leave_full(plan: Plan, folder: Path, other_folders: list[Path]) -> None:
    """Remove the bridge, its routes with it, and put the kernel's settings back."""
    if Path("/sys/class/net", plan.bridge).exists():
        run("ip", "link", "del", plan.bridge)
    if not any((other / SAVED).exists() for other in other_folders):
        for name in KUBELET_SETS:
            saved = folder / SAVED / name.replace("/", ".")
            if saved.exists():
                Path("/proc/sys", name).write_text(saved.read_text())


def refuse_other_ways(plan: Plan) -> None:
    """Stop when an address of the full ring would not go over its own bridge."""
    for address in _samples(plan):
        if f" dev {plan.bridge} " not in run("ip", "-4", "route", "get", address):
            raise LabRefused(f"{address} must be reached over {plan.bridge}: take another number for the lab")


def join_local(plan: Plan) -> None:
    """Make the cheap ring's network one of this machine's own: every address in it answers here, none leaves."""
    run("ip", "route", "add", "local", plan.local_network, "dev", "lo", as_root=True)


def leave_local(plan: Plan) -> None:
    """Take it away again."""
    if run("ip", "-4", "route", "show", "table", "local", "root", plan.local_network).strip():
        run("ip", "route", "del", "local", plan.local_network, "dev", "lo", as_root=True)


def _samples(plan: Plan) -> list[object]:
    found: list[object] = [plan.control_plane, plan.api_service]
    for i in plan.node_numbers:
        found += [plan.node(i), plan.pods(i)[2]]
    return found


def _save_settings(folder: Path, other_folders: list[Path]) -> None:
    (folder / SAVED).mkdir()
    for name in KUBELET_SETS:
        file_name = name.replace("/", ".")
        earlier = [p for other in other_folders if (p := other / SAVED / file_name).exists()]
        (folder / SAVED / file_name).write_text((earlier or [Path("/proc/sys", name)])[0].read_text())
