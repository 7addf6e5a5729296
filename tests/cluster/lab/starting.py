"""Start and stop labs. A lab's number is taken by making its folder, so no two starters get the same one, and nobody
stops or changes a lab by accident: what is stopped is what that folder remembers.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tests.cluster.lab import network
from tests.cluster.lab.build import Programs, Say, build
from tests.cluster.lab.cache import cache_folder
from tests.cluster.lab.cgroups import remove_cgroups
from tests.cluster.lab.control_plane import ControlPlane, Flags
from tests.cluster.lab.credentials import make_credentials
from tests.cluster.lab.errors import LabRefused
from tests.cluster.lab.hosts import MARK, SYSTEM_PATH, Here, Namespaces, Site, need
from tests.cluster.lab.images import ROOT, Image, build_images, pause_program
from tests.cluster.lab.lab import CONTROL_PLANE, LOCAL_NODE, Lab
from tests.cluster.lab.plan import LARGEST_NUMBER, Plan
from tests.integration.waiting import eventually

MINE = 0
"""The number of the lab of ``make cluster``."""

TEST_NUMBERS = range(1, LARGEST_NUMBER + 1)
"""The labs of tests take the first free one."""


LOCAL_TAG = "tree"
"""What pods of the cheap ring say that they run."""


@dataclass(frozen=True, slots=True)
class LabSettings:
    """What kind of lab."""

    nodes: int | None = None
    """Real nodes: the full ring, which needs root. None: the cheap ring, whose pods are processes of this machine."""
    number: int | None = None
    """None: the first that is free."""
    flags: Flags = field(default_factory=Flags)
    tied: bool = True
    """Whether all of it ends with the process that starts it; ``make cluster`` leaves it running."""
    processes: int = 100
    """Cheap ring: pods beyond that number are only said to run, so thousands fit on a machine."""


@contextmanager
def running_lab(settings: LabSettings, say: Say = print) -> Iterator[Lab]:
    """Run a lab for the block."""
    lab = start_lab(settings, say)
    try:
        yield lab
    finally:
        stop_lab(lab)


def start_lab(settings: LabSettings, say: Say = print) -> Lab:
    """Build what is missing and start a lab; what was started goes again when that fails."""
    _need(settings)
    programs = build(say)
    pause_program()
    tag, images = build_images(say) if settings.nodes is not None else (LOCAL_TAG, [])
    began = time.monotonic()
    lab = _claim(settings, programs, tag)
    try:
        _Start(lab, settings, images, lambda text: say(f"{time.monotonic() - began:5.1f} s  {text}")).run()
    except BaseException:
        say(f"logs of the lab that did not start: {keep_logs(lab)}")
        stop_lab(lab)
        raise
    return lab


def find_lab(number: int) -> Lab | None:
    """Return a lab that somebody started, None when there is none of that number."""
    file = _folder(number) / "lab.json"
    if not file.exists():
        return None
    said = json.loads(file.read_text())
    site = Site(_folder(number), said["path"], tied=False)
    return Lab(Plan(number, said["nodes"]), site, Flags(**said["flags"]), Path(said["plugins"]), said["tag"])


def renew_images(lab: Lab, say: Say = print) -> Lab:
    """Put aegate's images as the tree is now on the nodes of a lab that runs."""
    tag, images = build_images(say)
    for i in lab.plan.node_numbers:
        lab.node(i).load(images)
    renewed = replace(lab, tag=tag)
    _write_down(renewed)
    return renewed


def stop_lab(lab: Lab) -> None:
    """End everything that was started for a lab, take its networks away, and forget it. Safe to repeat."""
    if lab.plan.is_full:
        for name in (CONTROL_PLANE, *map(lab.plan.node_name, lab.plan.node_numbers)):
            lab.namespaces(name).end()
            remove_cgroups(name)
        network.leave_full(lab.plan, lab.folder, _other_folders(lab))
    else:
        for name in lab.programs():
            lab.site.remembered(name).end()
        for pid in marked(lab.folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not marked(lab.folder), deadline_s=30, what="the last process of a pod ends")
        network.leave_local(lab.plan)
    mounted = [m for m in Path("/proc/mounts").read_text().splitlines() if f" {lab.folder}/" in m]
    if mounted:
        raise AssertionError(f"mounts must not outlive the lab, these do: {mounted}")
    shutil.rmtree(lab.folder)


def marked(folder: Path) -> list[int]:
    """Return the processes that run for the lab in ``folder``, as their environment says."""
    mark, found = f"{MARK}={folder}".encode(), []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def _need(settings: LabSettings) -> None:
    need("openssl", "ip", "gcc")
    if settings.nodes is None:
        return
    if os.geteuid() != 0:
        raise LabRefused(
            "real nodes need root (namespaces, mounts, control groups): run it as root, or use the cheap ring"
        )
    if settings.nodes < 1:
        raise LabRefused(
            f"the full ring must have 1 node or more, got {settings.nodes}: see LabSettings.nodes"
        )
    need("runc", "iptables", "buildah", "mmdebstrap", "nsenter", "unshare", "sysctl")


def _claim(settings: LabSettings, programs: Programs, tag: str) -> Lab:
    for number in TEST_NUMBERS if settings.number is None else [settings.number]:
        folder = _folder(number)
        folder.parent.mkdir(exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        for name in ("pids", "log"):
            (folder / name).mkdir()
        plan = Plan(number, settings.nodes)
        path = f"{programs.path}:{SYSTEM_PATH}:{os.environ.get('PATH', '')}"
        site = Site(folder, path, settings.tied)
        lab = Lab(plan, site, settings.flags, programs.folder("cni"), tag)
        _write_down(lab)
        return lab
    raise LabRefused(
        f"every number for a lab is taken, see {_folder(0).parent}: stop one by `make cluster-down NUMBER=…`"
    )


def _write_down(lab: Lab) -> None:
    said = {
        "nodes": lab.plan.nodes,
        "path": lab.site.path,
        "flags": asdict(lab.flags),
        "plugins": str(lab.plugins),
        "tag": lab.tag,
    }
    (lab.folder / "lab.json").write_text(json.dumps(said, indent=2))


@dataclass(frozen=True, slots=True)
class _Start:
    """The steps from a folder to a cluster that answers."""

    lab: Lab
    settings: LabSettings
    images: list[Image]
    say: Say

    def run(self) -> None:
        plan, lab = self.lab.plan, self.lab
        network.refuse_networks_in_use(plan)
        made = make_credentials(lab.folder / "credentials", plan)
        host = self._join()
        control_plane = ControlPlane(plan, lab.folder, made, host, self.settings.flags)
        control_plane.start_storage()
        control_plane.start_api_server()
        for i in plan.node_numbers:  # from this thread: what it starts ends with it
            lab.node(i).start_containerd(pause_program())
        with ThreadPoolExecutor(2) as pool:
            loaded = [pool.submit(self._load, i) for i in plan.node_numbers]
            self._wait("the API server answers", lab.is_serving)
            control_plane.start_controllers()
            if plan.is_full:
                control_plane.start_dns()
            for one in loaded:
                one.result()
        self._start_nodes()
        self._wait("the default service account is there", self.lab.has_default_account)

    def _join(self) -> Here | Namespaces:
        plan, lab = self.lab.plan, self.lab
        if not plan.is_full:
            network.join_local(plan)
            return Here(lab.site)
        network.join_full(plan, lab.folder, _other_folders(lab))
        host = lab.namespaces(CONTROL_PLANE)
        host.make(plan, plan.control_plane, pause_program())
        host.run("ip", "route", "replace", str(plan.services), "via", str(plan.node(1)))
        for i in plan.node_numbers:
            host.run("ip", "route", "add", str(plan.pods(i)), "via", str(plan.node(i)))
        network.refuse_other_ways(plan)
        return host

    def _load(self, i: int) -> None:
        self.lab.node(i).load(self.images)
        self.say(f"node {i} has its images")

    def _start_nodes(self) -> None:
        if not self.lab.plan.is_full:
            self._start_local_node()
            return
        for i in self.lab.plan.node_numbers:
            self.lab.node(i).start_kubelet()
        for i in self.lab.plan.node_numbers:
            self.lab.wait_for_node(self.lab.plan.node_name(i))
            self.say(f"node {i} is Ready")

    def _start_local_node(self) -> None:
        lab = self.lab
        Here(lab.site).start(
            LOCAL_NODE,
            "env",
            f"PYTHONPATH={ROOT}",
            sys.executable,
            "-m",
            "tests.cluster.lab.local_node",
            f"--kubeconfig={lab.credentials.kubeconfig(LOCAL_NODE)}",
            f"--network={lab.plan.local_network}",
            f"--folder={lab.folder / LOCAL_NODE}",
            f"--processes={self.settings.processes}",
        )
        lab.wait_for_node(LOCAL_NODE)
        self.say("the local node is Ready")

    def _wait(self, what: str, is_so: Callable[[], bool]) -> None:
        eventually(is_so, deadline_s=600, what=what)
        self.say(what)


def keep_logs(lab: Lab) -> Path:
    """Copy what the programs of a lab have said to where it is not removed with the lab; return that place."""
    kept = cache_folder() / "failed" / f"{time.strftime('%Y%m%d-%H%M%S')}-{lab.plan.number}"
    shutil.copytree(lab.folder / "log", kept)
    return kept


def _folder(number: int) -> Path:
    return cache_folder() / "runs" / str(number)


def _other_folders(lab: Lab) -> list[Path]:
    return [p for p in lab.folder.parent.iterdir() if p != lab.folder]
