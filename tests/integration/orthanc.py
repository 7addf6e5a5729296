"""Orthanc as a peer, sender and receiver, driven through its REST interface; a private process in the test's folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.integration.processes import free_port, is_listening, process
from tests.integration.waiting import eventually


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running Orthanc."""

    title: str
    port: int
    http_port: int

    def _call(self, method: str, path: str, **content: Any) -> httpx.Response:
        url = f"http://127.0.0.1:{self.http_port}/{path}"
        # Without TLS there are no authorities to load, which takes longer than to ask and to answer.
        answer = httpx.request(method, url, timeout=60, verify=False, **content)
        answer.raise_for_status()
        return answer

    def instances(self) -> list[str]:
        """Return Orthanc's own ids of all instances it holds."""
        return list(self._call("GET", "instances").json())

    def file(self, instance: str) -> bytes:
        """Return the Part 10 file of one instance."""
        return self._call("GET", f"instances/{instance}/file").content

    def upload(self, path: Path) -> str:
        """Give Orthanc a file by REST and return its id there."""
        return str(self._call("POST", "instances", content=path.read_bytes()).json()["ID"])

    def add_peer(self, name: str, title: str, port: int, host: str = "127.0.0.1") -> None:
        """Tell Orthanc of a DICOM peer to which it may send."""
        peer = {"AET": title, "Host": host, "Port": port, "AllowEcho": True, "AllowStore": True}
        self._call("PUT", f"modalities/{name}", json=peer)

    def echo(self, name: str) -> None:
        """C-ECHO to a peer. Raises httpx.HTTPStatusError when it does not answer."""
        self._call("POST", f"modalities/{name}/echo", json={})

    def send(self, name: str, instances: list[str]) -> None:
        """C-STORE instances to a peer, in one association. Raises httpx.HTTPStatusError when one failed."""
        self._call("POST", f"modalities/{name}/store", json={"Resources": instances, "Synchronous": True})


@contextmanager
def orthanc_server(tmp_path: Path, *, title: str = "ORTHANC") -> Iterator[Orthanc]:
    """Run Orthanc until the end of the block, its index and files below ``tmp_path``."""
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    assert program, "Orthanc is missing: run `make test`, which installs it"
    folder = tmp_path / "orthanc"
    folder.mkdir()
    server = Orthanc(title, free_port(), free_port())
    config = folder / "orthanc.json"
    config.write_text(json.dumps(_configuration(server, folder)))
    with process([program, config], log=folder / "orthanc.output", cwd=folder, stop_s=0.1):
        eventually(
            lambda: is_listening(server.http_port) and is_listening(server.port),
            deadline_s=30,
            what="Orthanc is up",
        )
        yield server


def _configuration(server: Orthanc, folder: Path) -> dict[str, object]:
    return {
        "Name": "aegate test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": [],
        "HttpPort": server.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": server.title,
        "DicomPort": server.port,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomModalitiesInDatabase": False,
        "UnknownSopClassAccepted": True,
        "OverwriteInstances": True,
        "StableAge": 1,
        "ConcurrentJobs": 2,
        "StorageCompression": False,
        "StoreMD5ForAttachments": False,
        "KeepAlive": False,
    }
