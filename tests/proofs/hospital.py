"""A hospital under load: eight devices, a running `aegate up`, three receivers, the third behind a way that flaps."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.dicom import uid
from tests.integration.cli.installations import AEGATE, QUICK, Up, device, installation
from tests.integration.flapping import Way, flapping_way
from tests.integration.peers import store_scp
from tests.integration.postgres import postgres_server
from tests.integration.processes import free_port, is_listening, process
from tests.integration.waiting import eventually
from tests.proofs.judges import received_in
from tests.proofs.modalities import Modality, Send, aegate_send, storescu
from tests.proofs.watching import Repeated

DEVICES = 8
OWN_PORTS = (7, 8)
"""These devices send to a port of their own, the others to the shared one."""
STUDY_IMAGES = 25
MOST_BEHIND = 300
"""How many images the good receivers may be behind before a device waits with its next study."""
PATIENCE_S = 900
GOOD, FLAPPING = ("default/pacs1", "default/pacs2"), "default/pacs3"

_ROUTE = """
apiVersion: aegate.dev/v1alpha1
kind: ImageRoute
metadata: {name: all}
spec: {to: [pacs1, pacs2, pacs3]}
"""
_VISIBLE = """
query($uid: String!) { studies(where: {studyInstanceUid: {eq: $uid}}) { nodes { instanceCount } } }
"""


@dataclass(frozen=True)
class Hospital:
    """What runs."""

    up: Up
    url: str
    way: Way
    """To the third receiver."""
    receivers: dict[str, Path]
    """Destination → where its receiver writes."""
    ports: dict[int, int]
    """Device → where it sends to."""

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.up.data

    def pids(self) -> dict[str, int]:
        """Return the processes of aegate."""
        started = {str(e["process"]): int(e["pid"]) for e in self.up.events("child.started")}
        return {"supervisor": self.up.child.pid, **started}

    def at_good_receivers(self) -> int:
        """Return how many images both good receivers have."""
        return min(received_in(self.receivers[name]) for name in GOOD)


class Device(Modality):
    """A device that sends studies of these sizes, and looks after each until it can be seen."""

    def __init__(self, here: Hospital, name: str, send: Send, sizes: Sequence[int]) -> None:
        super().__init__(name, send, here.data.parent / "outgoing", len(sizes))
        self._here = here
        self.sizes = sizes
        self.visible_s: list[float] = []
        """From the last image acknowledged until the API counts all of a study."""

    def run(self) -> None:
        """Send them one after another."""
        for number, count in enumerate(self.sizes, 1):
            eventually(
                lambda: self.outstanding() < MOST_BEHIND, deadline_s=PATIENCE_S, what="receivers follow"
            )
            last = self.send_study(self.study(number, count))
            study = uid(f"{self.name} {number}")
            eventually(lambda s=study, n=count: self._sees(s, n), deadline_s=PATIENCE_S, what="it is seen")
            self.visible_s.append(time.monotonic() - last)

    def _sees(self, study: str, count: int) -> bool:
        nodes = self._here.up.ask(_VISIBLE, uid=study)["studies"]["nodes"]
        return bool(nodes) and nodes[0]["instanceCount"] == count


def devices_of(here: Hospital, name: str, instances: int) -> list[Device]:
    """Return eight devices that send so many images together: half of them dcmtk's, half ours. Not started yet."""
    made = []
    for n in range(1, DEVICES + 1):
        own = instances // DEVICES + (n <= instances % DEVICES)
        sizes = [min(STUDY_IMAGES, own - at) for at in range(0, own, STUDY_IMAGES)]
        sender = storescu if n % 2 else aegate_send
        made.append(Device(here, f"{name}-{n}", sender(here.ports[n], f"CT{n}"), sizes))
    return made


def acknowledged(devices: Sequence[Device]) -> dict[str, str]:
    """Return what the devices saw acknowledged: SOP Instance UID → SHA-256 of the data set."""
    return {uid: digest for d in devices for uid, digest in dict(d.acknowledged).items()}


def send_all(here: Hospital, devices: Sequence[Device]) -> None:
    """Let the devices send all they have. Raises AssertionError when one could not."""
    before = at_good = here.at_good_receivers()

    def look() -> None:
        nonlocal at_good
        at_good = here.at_good_receivers()

    looking = Repeated(look, 0.5)
    looking.start()
    for one in devices:
        one.outstanding = lambda: len(acknowledged(devices)) - (at_good - before)
        one.start()
    for one in devices:
        one.join()
    looking.finish()
    wanted = sum(sum(d.sizes) for d in devices)
    got = len(acknowledged(devices))
    assert got == wanted and all(len(d.visible_s) == len(d.sizes) for d in devices), f"{got} of {wanted} sent"


@contextmanager
def hospital(root: Path, *, database: str) -> Iterator[Hospital]:
    """Start everything on ``sqlite`` or ``postgres`` below ``root``, and end it afterwards."""
    with ExitStack() as stack:
        sinks = {}
        for name in ("pacs1", "pacs3"):
            port = sinks[name] = free_port()
            command = [*AEGATE, "sink", root / name, "--port", str(port), "--title", name.upper()]
            stack.enter_context(process(command, log=root / f"{name}.log"))
            eventually(lambda port=port: is_listening(port), deadline_s=60, what="a receiver listens")
        dcmtk = stack.enter_context(
            store_scp(root, title="PACS2", options=("+xa", "--fork", "--filename-extension", ".dcm"))
        )
        way = stack.enter_context(flapping_way(sinks["pacs3"]))
        receivers = {GOOD[0]: root / "pacs1", GOOD[1]: dcmtk.folder, FLAPPING: root / "pacs3"}
        ports = {n: free_port() for n in OWN_PORTS}
        listener = {n: f"  listener: {{port: {port}}}\n" for n, port in ports.items()}
        manifests = {f"ct{n}.yaml": device(f"ct{n}", more=QUICK + listener.get(n, "")) for n in range(1, 9)}
        for name, port in {"pacs1": sinks["pacs1"], "pacs2": dcmtk.port, "pacs3": way.port}.items():
            manifests[f"{name}.yaml"] = device(name, port)
        manifests["route.yaml"] = _ROUTE
        server = stack.enter_context(postgres_server()) if database == "postgres" else None
        url = server.create("aegate") if server else f"sqlite://{root / 'data' / 'aegate.sqlite3'}"
        up = stack.enter_context(installation(root, manifests, more=("--database", url)))
        shared = {n: up.dicom_port for n in range(1, DEVICES + 1)}
        yield Hospital(up, url, way, receivers, shared | ports)
