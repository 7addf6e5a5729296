"""What the tests of faults share: a whole `aegate up` on a disk that fails on demand, two devices, one receiver."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.association import Association

from aegate_core.errors import PeerError
from aegate_core.health import ProcessState, read_state
from tests import dicom, sentinel
from tests.integration.cli.installations import QUICK, ROUTE, Up, device, installation
from tests.integration.faults.disk_errors import FaultyDisk
from tests.integration.peers import StoreSCP, store_scp
from tests.integration.processes import free_port, is_listening
from tests.integration.scp.listeners import associate
from tests.integration.waiting import eventually

BOTH_TO_PACS = ROUTE.replace("[ct1]", "[ct1, us1]")
SOON_S = 90
"""How long anything may take here on a busy machine."""
CONDITIONS = "{ applicationEntities { nodes { name conditions { type status message } } } }"


@dataclass
class Scene:
    """A running installation, and what its devices saw acknowledged."""

    up: Up
    disk: FaultyDisk
    pacs: StoreSCP
    ports: dict[str, int]
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    """SOP Instance UID → pixels."""
    _count: int = 0

    def call(self, ae: str = "ct1") -> Association:
        """Associate as a device does."""
        return associate(self.ports[ae], (CTImageStorage, [ExplicitVRLittleEndian]), calling=ae.upper())

    def send(self, assoc: Association) -> int:
        """Send a new object of a new study and return the answer; -1 when there was none."""
        self._count += 1
        ds = dicom.ct(dicom.Instance(study=f"study {self._count} of {id(self)}"))
        status = int(assoc.send_c_store(ds).get("Status", -1))
        if status == 0x0000:
            self.acknowledged[str(ds.SOPInstanceUID)] = bytes(ds.PixelData)
        return status

    def store(self, ae: str = "ct1") -> str:
        """Associate, send one object and release; return the answer, or what came instead of an association."""
        if not is_listening(self.ports[ae]):
            return "none"  # pynetdicom leaves a socket open that never connected
        assoc = self.call(ae)
        if not assoc.is_established:
            answer = assoc.acceptor.primitive
            return (
                f"rejected {answer.result},{answer.result_source},{answer.diagnostic}" if answer else "none"
            )
        status = self.send(assoc)
        assoc.release()
        return f"0x{status:04X}"

    def until_stored(self, ae: str = "ct1") -> None:
        """Send new objects until one is acknowledged."""
        eventually(lambda: self.store(ae) == "0x0000", deadline_s=SOON_S)

    def until_delivered(self) -> None:
        """Wait until the receiver has everything that was acknowledged; each object once, and unchanged."""
        eventually(lambda: not self.missing(), deadline_s=SOON_S)
        received = self._received()
        for uid, pixels in self.acknowledged.items():
            assert received[uid] == [pixels], f"{uid} came changed, or more than once"

    def missing(self) -> set[str]:
        """Return the UIDs of what was acknowledged and the receiver does not have yet."""
        return self.acknowledged.keys() - self._received().keys()

    def _received(self) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for path in self.pacs.received():
            try:
                ds = dcmread(path)
            except InvalidDicomError:
                continue  # it is being written
            found.setdefault(str(ds.SOPInstanceUID), []).append(bytes(ds.get("PixelData", b"")))
        return found

    def state(self, process: str) -> ProcessState:
        """Return what a process says of itself; nothing where it was started and could not write that yet."""
        pid = self.up.pid_of(process)
        states = [read_state(path) for path in (self.up.data / "run").glob("*.state")]
        return next((s for s in states if s is not None and s.pid == pid), ProcessState(process, pid, ""))

    def get(self, process: str, path: str) -> tuple[int, str]:
        """Ask the health port of a process."""
        port = self.state(process).health_port
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, process: str, name: str, **labels: str) -> float:
        """Return a sample of the metrics of a process."""
        families = text_string_to_metric_families(self.get(process, "/metrics")[1])
        samples = [s for f in families for s in f.samples if s.name == name and s.labels == labels]
        return samples[0].value if samples else 0.0

    def ready(self, ae: str) -> tuple[str, str]:
        """Return status and message of an AE's condition Ready."""
        nodes = self.up.ask(CONDITIONS)["applicationEntities"]["nodes"]
        conditions: dict[str, dict[str, Any]] = {
            n["name"]: {c["type"]: c for c in n["conditions"]} for n in nodes
        }
        return conditions[ae]["Ready"]["status"], conditions[ae]["Ready"]["message"]

    def until_all_is_well(self) -> None:
        """Wait until every process says so and a device's object goes its whole way."""
        self.until_stored()
        processes = {e["process"] for e in self.up.events("child.started")}
        eventually(
            lambda: [p for p in processes if self.state(p).state != "ready"] == [] and self.up.is_ready(),
            deadline_s=SOON_S,
        )
        eventually(self._is_said_to_be_ready, deadline_s=SOON_S)
        self.until_delivered()

    def _is_said_to_be_ready(self) -> bool:
        with suppress(PeerError):  # an API that was just started does not listen yet
            return self.ready("ct1")[0] == self.ready("us1")[0] == "True"
        return False


@contextmanager
def scene(folder: Path, *more: str) -> Iterator[Scene]:
    """Run an installation in ``folder`` whose every process lies on the faulty disk; no patient is in its log."""
    disk = FaultyDisk.make(folder)
    with store_scp(folder, title="PACS") as pacs:
        own = free_port()
        manifests = {
            "ct1.yaml": device("ct1", more=QUICK),
            "us1.yaml": device("us1", more=f"{QUICK}  listener: {{port: {own}}}\n"),
            "pacs.yaml": device("pacs", pacs.port),
            "route.yaml": BOTH_TO_PACS,
        }
        options = ("--restart-max", "0.5", *more)
        with installation(folder, manifests, more=options, environ=disk.environ) as up:
            yield Scene(up, disk, pacs, {"ct1": up.dicom_port, "us1": own})
        assert up.child.returncode == 0
        sentinel.assert_absent(up.log.read_bytes(), "the log")
