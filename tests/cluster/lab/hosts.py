"""Where the programs of a lab run: on this machine as they are, or in namespaces of their own.

A set of namespaces (network, processes, mounts, host name, IPC) has an init that does nothing. SIGKILL to it ends
all that runs inside, and the kernel takes mounts and interfaces away, so there is nothing that a clean-up could
miss.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from tests.cluster.lab.errors import LabRefused
from tests.cluster.lab.network import run
from tests.cluster.lab.plan import Plan
from tests.cluster.lab.remembered import Remembered, only_child, remember, start
from tests.integration.waiting import eventually

MARK = "AEGATE_LAB_FOLDER"
"""Variable in the environment of all that runs for a lab: on the cheap ring, what a pod's process leaves is found by
it.
"""

SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
"""An ordinary user's PATH often lacks the sbin folders."""

SHARED = "shared"
"""Folder that is /srv on every node: a hostPath volume below it is a ReadWriteMany one."""


@dataclass(frozen=True, slots=True)
class Site:
    """What all programs of a lab share."""

    folder: Path
    """State, logs and credentials of the lab."""
    path: str
    """Where its programs are found."""
    tied: bool
    """Whether everything ends when the thread that starts it does, and so when its process dies."""

    @property
    def programs_path(self) -> str:
        """Where the programs that were built for labs lie: the part of `path` that is not this machine's own."""
        return self.path.partition(SYSTEM_PATH)[0].rstrip(":")

    @property
    def environ(self) -> dict[str, str]:
        """The environment of its programs; `MARK` is inherited by whatever they start."""
        return {**os.environ, "PATH": self.path, "HOME": str(self.folder), MARK: str(self.folder)}

    def log(self, name: str) -> Path:
        """Return where a program's output goes."""
        return self.folder / "log" / f"{name}.log"

    def remembered(self, name: str) -> Remembered:
        """Return a process by its name."""
        return Remembered(self.folder / "pids" / f"{name}.pid")

    def start(
        self, name: str, command: Sequence[str | Path], host: str, inside: Sequence[str | Path]
    ) -> None:
        """Start ``command`` (``inside`` is what it runs on ``host``), to be found by name and started again."""
        words = [host, *map(str, inside)]
        (self.folder / "pids" / f"{name}.json").write_text(json.dumps(words))
        pid = start(command, log=self.log(name), cwd=self.folder, environ=self.environ, tied=self.tied)
        remember(self.folder / "pids" / f"{name}.pid", pid)

    def started_as(self, name: str) -> tuple[str, list[str]]:
        """Return the host of a program and its command. Raises KeyError when it was never started."""
        file = self.folder / "pids" / f"{name}.json"
        if not file.exists():
            known = sorted(p.stem for p in file.parent.glob("*.json"))
            raise KeyError(f"{name} must be a program of the lab: {', '.join(known)}")
        host, *command = json.loads(file.read_text())
        return host, command


HERE = ""
"""The host of programs that run on this machine as they are."""


@dataclass(frozen=True, slots=True)
class Namespaces:
    """A set of namespaces with an address on the lab's bridge."""

    site: Site
    name: str

    @property
    def init(self) -> Remembered:
        """Its first process."""
        return self.site.remembered(f"{self.name}.init")

    def make(self, plan: Plan, address: IPv4Address, init_program: Path) -> None:
        """Make it and plug it into the bridge."""
        kinds = ["--net", "--pid", "--mount", "--uts", "--ipc"]
        unshare = ["unshare", "--fork", "--kill-child", *kinds, "--mount-proc", "--propagation", "private"]
        self.site.start(self.outer.name, [*unshare, init_program], HERE, [])
        outer = self.outer.pid
        if outer is None:
            raise AssertionError(f"unshare must run, it said: {self.site.log(self.outer.name).read_text()}")
        init = eventually(
            lambda: only_child(outer, lambda pid: _runs(pid, init_program)), what=f"{self.name} has its init"
        )
        assert init is not None
        remember(self.init.file, init)
        link = plan.link(address)
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", init)
        run("ip", "link", "set", link, "master", plan.bridge, "up")
        (self.site.folder / SHARED).mkdir(exist_ok=True)
        self.run("sh", "-ec", self._set_up(plan, address))

    @property
    def outer(self) -> Remembered:
        """The process that made it and waits for it."""
        return self.site.remembered(f"{self.name}.unshare")

    def enter(self, *command: str | Path) -> list[str]:
        """Return the command that runs ``command`` inside; its working directory is another there."""
        pid = self.init.pid
        if pid is None:
            raise AssertionError(f"{self.name} must be running: start it again")
        return ["nsenter", "-t", str(pid), "-n", "-m", "-p", "-u", "-i", "--", *map(str, command)]

    def run(self, *command: str | Path) -> str:
        """Run a command inside and return what it prints. Raises LabRefused when it fails."""
        return run(*self.enter(*command), environ=self.site.environ)

    def start(self, name: str, *command: str | Path) -> None:
        """Start a program inside."""
        self.site.start(name, self.enter(*command), self.name, command)

    def end(self) -> None:
        """End all that runs inside, at once, as a power cut would."""
        for process in (self.init, self.outer):
            process.send(signal.SIGKILL)
        self.init.wait()
        self.outer.wait()

    def _set_up(self, plan: Plan, address: IPv4Address) -> str:
        """Only the lab's networks are reachable from inside; /run is its own, /srv the lab's shared folder."""
        return "\n".join(
            [
                f"hostname {self.name}",
                f"mount --bind '{self.site.folder / SHARED}' /srv",
                "mount -t tmpfs tmpfs /run",
                "ip link set lo up",
                f"ip addr add {address}/24 dev eth0",
                "ip link set eth0 up",
                # There is no default route, and a Service's address is rewritten only once it has some way to go.
                f"ip route add {plan.services} dev eth0 src {address}",
                "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.disable_ipv6=1",
            ]
        )


@dataclass(frozen=True, slots=True)
class Here:
    """This machine, as the host of programs."""

    site: Site

    def start(self, name: str, *command: str | Path) -> None:
        """Start a program."""
        self.site.start(name, command, HERE, command)


def need(*programs: str) -> None:
    """Stop when a program is not there."""
    search = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [p for p in programs if shutil.which(p, path=search) is None]
    if missing:
        raise LabRefused(f"missing: {', '.join(missing)}; `make cluster` installs what the lab needs")


def _runs(pid: int, program: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").resolve() == program.resolve()
    except OSError:
        return False
