"""buildah: an image from a Containerfile and a folder, without a daemon, dated 1970 so that equal content is equal.

Layers that were built before are taken from its storage.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


class NoImage(Exception):
    """A program that builds has failed; what it said is the message."""


@dataclass(frozen=True, slots=True)
class Buildah:
    """``storage``: where it keeps its layers, if not where it always does."""

    storage: Path | None = None

    def build(self, containerfile: Path, context: Path, name: str, **arguments: str) -> None:
        """Build ``name`` from the files below ``context``; ``arguments`` are the Containerfile's. Raises NoImage."""
        self._run(
            "build",
            "--isolation=chroot",
            "--layers",
            "--timestamp=0",
            "--pull=never",
            *(f"--build-arg={key}={value}" for key, value in arguments.items()),
            f"--file={containerfile}",
            f"--tag={name}",
            context,
        )

    def save(self, name: str, archive: Path) -> str:
        """Write an OCI archive with compressed layers; return its manifest's digest, sha256:… Raises NoImage."""
        unfinished = archive.with_suffix(".part")
        unfinished.unlink(missing_ok=True)
        with tempfile.NamedTemporaryFile(mode="r") as digest:
            self._run("push", "--digestfile", digest.name, name, f"oci-archive:{unfinished}:{name}")
            found = Path(digest.name).read_text().strip()
        unfinished.rename(archive)
        return found

    def run(self, name: str, *command: str) -> str:
        """Run a program of an image, as the user that the image names; return what it prints. Raises NoImage."""
        container = self._run("from", "--pull-never", name).strip()
        try:
            return self._run("run", "--isolation=chroot", container, "--", *command)
        finally:
            self._run("rm", container)

    def _run(self, command: str, *arguments: str | Path) -> str:
        own: list[str | Path] = []
        if self.storage:
            own = ["--root", self.storage / "root", "--runroot", self.storage / "run"]
        return run("buildah", *own, command, *arguments)


def run(*command: str | Path) -> str:
    """Run a program that builds, and return what it prints. Raises NoImage with what it said."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise NoImage(f"{Path(command[0]).name} must build an image, ended with {done.returncode}:\n{said}")
    return done.stdout
