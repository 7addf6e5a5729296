"""dcmtk's programs as peers: by absolute path, because pynetdicom installs namesakes of its own into the PATH."""

from __future__ import annotations

import functools
import itertools
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.processes import free_port, is_listening, process
from tests.integration.waiting import eventually

_numbers = itertools.count(1)


@functools.cache
def dcmtk(program: str) -> str:
    """Return the absolute path of a dcmtk program. Raises AssertionError when it is another's, or missing."""
    path = f"/usr/bin/{program}"
    assert Path(path).exists(), f"{path} is missing: run `make test`, which installs dcmtk"
    version = subprocess.run(
        [path, "--version"], capture_output=True, text=True, timeout=20, check=True
    ).stdout
    assert version.startswith("$dcmtk"), f"{path} is not dcmtk's: it says {version[:60]!r}"
    return path


def run_dcmtk(
    program: str, *arguments: str | Path, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a dcmtk program to its end; the caller judges its exit code and output (both streams in ``stdout``)."""
    command = [dcmtk(program), *map(str, arguments)]
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout_s,
    )


@dataclass(frozen=True, slots=True)
class StoreSCP:
    """A running storescp: what it received lies in ``folder``, one file an instance, data set bytes as they came."""

    title: str
    port: int
    folder: Path
    pid: int

    def received(self) -> list[Path]:
        """Return the files received whole, sorted by name."""
        return sorted(p for p in self.folder.iterdir() if p.is_file() and not p.name.endswith(".part"))


@contextmanager
def store_scp(
    tmp_path: Path, *, title: str = "STORESCP", port: int = 0, options: Sequence[str] = ("+xa",)
) -> Iterator[StoreSCP]:
    """Run storescp until the end of the block. ``+xa`` (the default) takes every transfer syntax it supports.

    ``+B`` (write bytes exactly as read) is always set, so files can be compared with what was sent.
    """
    number = next(_numbers)
    port = port or free_port()
    folder = tmp_path / f"storescp-{number}"
    folder.mkdir()
    command: list[str | Path] = [dcmtk("storescp"), "-aet", title, "+B", "-od", folder, *options, str(port)]
    with process(command, log=tmp_path / f"storescp-{number}.log", cwd=folder) as child:
        eventually(lambda: is_listening(port), what=f"storescp listens on {port}")
        yield StoreSCP(title, port, folder, child.pid)
