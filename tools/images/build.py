"""Builds the images of ``images/``, each with its bill of materials.

Nothing in them depends on the machine or the time, so one root file system, lock and source are always one digest.
"""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.images.buildah import Buildah, run
from tools.images.debian import make_root
from tools.images.sbom import bill_of_materials

ROOT = Path(__file__).parents[2]
PARTS = ("scp", "scu", "operator", "graphql-api")
PYTHON = "3.11"
REPOSITORY = "localhost/aegate"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Built:
    """An image in buildah's storage, and beside it as files."""

    name: str
    """localhost/aegate/scp:0.1.0."""
    digest: str
    """Of its manifest: sha256:…"""
    archive: Path
    """OCI, layers compressed."""
    bill: Path
    """CycloneDX, JSON."""

    def __str__(self) -> str:
        size = self.archive.stat().st_size / 1e6
        components = len(json.loads(self.bill.read_text())["components"])
        return f"{self.name:32} {size:6.1f} MB  {components:3} components  {self.digest}"


def version() -> str:
    """Return the version of this source, which is the tag of its images."""
    project = tomllib.loads((ROOT / "core" / "pyproject.toml").read_text())["project"]
    return str(project["version"])


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds below ``folder``, which keeps the root file system and, at the end, archives and bills."""

    folder: Path
    say: Say
    buildah: Buildah = field(default_factory=Buildah)
    tag: str = field(default_factory=version)

    def build(self, parts: Sequence[str] = PARTS) -> list[Built]:
        """Build images, the root file system included where it is missing. Raises NoImage."""
        root = self.folder / "base" / "root.tar"
        if not root.exists():
            self.say("unpacking Debian")
            root.parent.mkdir(parents=True, exist_ok=True)
            make_root(root)
        for file in ("passwd", "group"):
            shutil.copyfile(ROOT / "images" / "base" / file, root.parent / file)
        self.buildah.build(containerfile("base"), root.parent, self.name("base"))
        return [self._part(part, root) for part in parts]

    def name(self, part: str) -> str:
        """Return an image's name."""
        return f"{REPOSITORY}/{part}:{self.tag}"

    def _part(self, part: str, root: Path) -> Built:
        self.say(f"building {part}")
        context, name = self.folder / part, self.name(part)
        libraries, own = context / "libraries", context / "own"
        lock = containerfile(part).with_name("requirements.lock")
        _install(libraries, "--only-binary", ":all:", "--require-hashes", "-r", lock)
        _install(own, "--no-deps", *distributions(part))
        self.buildah.build(containerfile(part), context, name, BASE=self.name("base"), VERSION=version())
        archive, bill = self.folder / f"{part}.tar", self.folder / f"{part}.cdx.json"
        digest = self.buildah.save(name, archive)
        bill.write_text(bill_of_materials(f"aegate-{part}", version(), root, [libraries, own]))
        return Built(name, digest, archive, bill)


def containerfile(part: str) -> Path:
    """Return where an image is described."""
    return ROOT / "images" / part / "Containerfile"


def distributions(part: str) -> tuple[Path, Path]:
    """Return the folders of our distributions that an image holds."""
    return ROOT / "core", ROOT / part.replace("-", "_")


def _install(target: Path, *what: str | Path) -> None:
    """Install wheels for Debian's Python, whatever Python runs this."""
    shutil.rmtree(target, ignore_errors=True)
    uv = Path(sys.executable).with_name("uv")
    python = ("--python", sys.executable, "--python-version", PYTHON)
    run(uv, "pip", "install", "--quiet", *python, "--no-compile-bytecode", "--target", target, *what)
    # Programs whose first line names this machine's Python, and notes of where things came from.
    shutil.rmtree(target / "bin", ignore_errors=True)
    (target / ".lock").unlink(missing_ok=True)
    for note in (*target.glob("*.dist-info/direct_url.json"), *target.glob("*.dist-info/uv_*")):
        note.unlink()
