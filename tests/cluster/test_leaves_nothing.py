"""A lab that was stopped leaves nothing: no process, mount, link, route, control group, folder; settings as before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.cluster.lab.cgroups import cgroups
from tests.cluster.lab.lab import CONTROL_PLANE, Lab
from tests.cluster.lab.network import KUBELET_SETS, run
from tests.cluster.lab.starting import LabSettings, find_lab, marked, running_lab
from tests.cluster.listeners import DeployedListener

Say = Callable[[str], None]


def process_namespaces() -> set[str]:
    """Return the pid namespace of every process of this machine."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                found.add(str((entry / "ns" / "pid").readlink()))
            except OSError:
                continue
    return found


def namespaces_of(lab: Lab) -> set[str]:
    names = (CONTROL_PLANE, *map(lab.plan.node_name, lab.plan.node_numbers))
    pids = [lab.namespaces(name).init.pid for name in names]
    return {str(Path(f"/proc/{pid}/ns/pid").readlink()) for pid in pids}


def assert_gone(lab: Lab) -> None:
    assert not lab.folder.exists()
    assert find_lab(lab.plan.number) is None
    assert marked(lab.folder) == []
    assert str(lab.folder) not in Path("/proc/mounts").read_text()
    assert lab.plan.bridge not in run("ip", "link", "show")
    for network in lab.plan.networks():
        assert run("ip", "route", "show", "table", "all", "root", network) == ""


def test_cheap_lab_leaves_nothing(say: Say, namespace: str) -> None:
    with running_lab(LabSettings(), say) as lab:
        DeployedListener(lab, namespace).deploy()
        assert len(marked(lab.folder)) >= 6  # four programs, the node, and the pod

    assert_gone(lab)


def test_full_lab_leaves_nothing_though_pods_run_on_it(full_lab: Lab, say: Say, namespace: str) -> None:
    def settings() -> list[str]:
        return [Path("/proc/sys", name).read_text() for name in KUBELET_SETS]

    before = settings()
    with running_lab(LabSettings(nodes=1), say) as lab:
        assert lab.plan.number != full_lab.plan.number
        DeployedListener(lab, namespace).deploy()
        inside = namespaces_of(lab)
        assert inside <= process_namespaces()

    assert_gone(lab)
    assert not inside & process_namespaces()
    assert [list(cgroups(name)) for name in (CONTROL_PLANE, lab.plan.node_name(1))] == [[], []]
    assert settings() == before
    assert full_lab.is_serving()
