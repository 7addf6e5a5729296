"""An `aegate up` as a real process for tests: its folder of resources, its ports, and what GraphQL says of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aegate_cli.data_folder import hold_data_folder
from aegate_cli.demo.graphql import GraphQL
from aegate_core.health import read_state
from aegate_graphql_api.tokens import create_token
from tests import dicom, sentinel
from tests.integration.migrated import migrated_file
from tests.integration.peers import run_dcmtk
from tests.integration.processes import free_port, process
from tests.integration.waiting import eventually
from tests.sentinel import TMPDIR

AEGATE = [sys.executable, "-m", "aegate_cli"]
READY_S = 150

DEVICE = """
apiVersion: aegate.dev/v1alpha1
kind: ApplicationEntity
metadata:
  name: {name}
spec:
  title: {title}
  node: 127.0.0.1
  port: {port}
{more}"""

ROUTE = """
apiVersion: aegate.dev/v1alpha1
kind: ImageRoute
metadata:
  name: to-pacs
spec:
  from:
    aes: [ct1]
  to: [pacs]
"""


def device(name: str, port: int = 104, more: str = "") -> str:
    """Return the manifest of an AE; ``more`` are further lines of the spec, indented by two."""
    return DEVICE.format(name=name, title=name.upper(), port=port, more=more)


ITEMS = "{ queueItems { nodes { state instancesDone attempts } } }"
QUICK = "  study: {quietPeriodSeconds: 1, maxAgeSeconds: 60}\n"


@dataclass
class Up:
    """A running installation."""

    folder: Path
    data: Path
    dicom_port: int
    http_port: int
    log: Path
    child: subprocess.Popen[bytes]
    token: str = ""
    _making_token: threading.Lock = field(default_factory=threading.Lock)

    @property
    def arguments(self) -> list[str]:
        """What it was started with, after ``aegate``."""
        return up_arguments(self.folder, self.data, self.dicom_port, self.http_port)

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """Ask its API; several threads may."""
        with self._making_token:
            if not self.token:
                file = self.data / "run" / "tokens.json"
                self.token = create_token(file, "test", ["DICOM_QUEUE", "AE_EDITOR"])
        return GraphQL(f"http://127.0.0.1:{self.http_port}/graphql", self.token).ask(query, **variables)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of that name that any of its processes has logged."""
        lines = (line for line in self.log.read_text().splitlines() if line.startswith("{"))
        return [event for line in lines if (event := json.loads(line))["event"] == name]

    def is_ready(self) -> bool:
        """Whether it says that all its processes are ready."""
        said = read_state(self.data / "run" / "up.state")
        return said is not None and said.state == "ready" and said.pid == self.child.pid

    def pid_of(self, process_name: str) -> int:
        """Return the process id with which a child was started last."""
        return int([e for e in self.events("child.started") if e["process"] == process_name][-1]["pid"])


def up_arguments(folder: Path, data: Path, dicom_port: int, http_port: int) -> list[str]:
    """Return the arguments of `aegate up` on these ports of the loopback."""
    listen = ["--dicom-listen", "127.0.0.1", "--http-listen", f"127.0.0.1:{http_port}"]
    return ["up", str(folder), "--data", str(data), "--dicom-port", str(dicom_port), *listen]


@contextmanager
def installation(
    tmp_path: Path,
    manifests: Mapping[str, str],
    *,
    more: tuple[str, ...] = (),
    environ: Mapping[str, str] | None = None,
    wait: bool = True,
) -> Iterator[Up]:
    """Run `aegate up` on a folder of these files until the end of the block; no temporary file may be left after it.

    Without a database in ``more`` it finds a data folder that has been used before, its schema in place.
    """
    folder, data, log = tmp_path / "hospital", tmp_path / "data", tmp_path / "up.log"
    temporary = tmp_path / TMPDIR
    for needed in (folder, temporary):
        needed.mkdir(exist_ok=True)
    for name, text in manifests.items():
        (folder / name).write_text(text)
    if "--database" not in more and not data.exists():
        with hold_data_folder(data) as held:
            (held.data.root / "aegate.sqlite3").write_bytes(migrated_file())
    dicom, http = free_port(), free_port()
    command = [*AEGATE, *up_arguments(folder, data, dicom, http), *more]
    environ = {"TMPDIR": str(temporary), **(environ or {})}
    with process(command, log=log, environ=environ, stop_s=45) as child:
        up = Up(folder, data, dicom, http, log, child)
        if wait:
            eventually(lambda: up.is_ready() or child.poll() is not None, deadline_s=READY_S)
            assert child.poll() is None, log.read_text()[-2000:]
        yield up


def send_study(up: Up, tmp_path: Path, name: str, count: int) -> set[str]:
    """Send a study with storescu, all acknowledged, and return its SOP Instance UIDs."""
    folder = tmp_path / name
    folder.mkdir()
    study = dicom.ct_study(name, count)
    files = [dicom.write(ds, folder / f"{n}.dcm") for n, ds in enumerate(study)]
    arguments = ("-aet", "CT1", "-aec", "AEGATE", "127.0.0.1", str(up.dicom_port), *files)
    assert run_dcmtk("storescu", *arguments).returncode == 0
    return {str(ds.SOPInstanceUID) for ds in study}


def states(up: Up) -> list[str]:
    """Return the state of each queue item, as the API says it."""
    return [item["state"] for item in up.ask(ITEMS)["queueItems"]["nodes"]]


def aegate(*arguments: str | Path, timeout_s: float = 60, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run an `aegate` command to its end; what it says holds no patient data."""
    done = subprocess.run(
        [*AEGATE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "COLUMNS": "200", **environ},
    )
    sentinel.assert_absent(done.stdout + done.stderr, f"what aegate {arguments[0]} says")
    return done
