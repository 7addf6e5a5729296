"""``python -m tests.cluster.lab``: a Kubernetes to play with, from this tree; `make cluster` calls it."""

from __future__ import annotations

import argparse
import sys

from tests.cluster.lab.build import JUDGES, MODULES, build
from tests.cluster.lab.errors import LabRefused
from tests.cluster.lab.images import build_images
from tests.cluster.lab.lab import Lab
from tests.cluster.lab.starting import MINE, LabSettings, find_lab, renew_images, start_lab, stop_lab


def main() -> int:
    """Do what is asked; 2 when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="compile the programs and make the images that the cache lacks")
    up = commands.add_parser("up", help="start it; prints what makes kubectl use it")
    up.add_argument("--nodes", type=int, default=1, help="real nodes; 0: pods are processes of this machine")
    for name, text in (("status", "what runs, and its memory"), ("down", "end it; nothing is left")):
        commands.add_parser(name, help=text)
    for command in commands.choices.values():
        command.add_argument(
            "--number", type=int, default=MINE, help="labs of different numbers run side by side"
        )
    asked = parser.parse_args()
    try:
        _do(asked)
    except LabRefused as refused:
        print(refused, file=sys.stderr)
        return 2
    return 0


def _do(asked: argparse.Namespace) -> None:
    if asked.command == "build":
        build(modules=(*MODULES, JUDGES))
        build_images()
        return
    lab = find_lab(asked.number)
    if asked.command == "up":
        if lab is None:
            settings = LabSettings(nodes=asked.nodes or None, number=asked.number, tied=False)
            lab = start_lab(settings, _tell)
        elif lab.plan.is_full:
            lab = renew_images(lab, _tell)
        print(f"export KUBECONFIG={lab.kubeconfig} PATH={lab.site.programs_path}:$PATH")
    elif lab is None:
        print(f"no lab of number {asked.number} is there", file=sys.stderr)
    elif asked.command == "status":
        _show(lab)
    else:
        stop_lab(lab)


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _show(lab: Lab) -> None:
    memory = lab.memory_bytes()
    for name, pid in lab.programs().items():
        print(f"{name:26}", f"pid {pid}, {memory.get(name, 0) // 2**20} MiB" if pid else "down")
    print(f"{'together':26} {sum(memory.values()) // 2**20} MiB")
    print(lab.kubectl("get", "nodes,pods,services", "--all-namespaces", "--output=wide"), end="")


if __name__ == "__main__":
    sys.exit(main())
