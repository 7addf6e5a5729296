"""A multi-frame object of any size through a whole `aegate up`, and what that costs each of its processes in memory.

The object is a sparse file: every frame begins with a block of its own, the rest are zeros. One receiver takes it as it
is, another one only in Implicit VR, so it is converted on its way. Both are dcmtk's, which write what comes bit by bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite

from tests.dicom import Instance, ct, write
from tests.integration.cli.installations import QUICK, Up, aegate, device, installation
from tests.integration.peers import StoreSCP, store_scp
from tests.integration.processes import forget_peak, peak_rss_bytes, rss_bytes
from tests.integration.waiting import eventually

MIB = 1 << 20
SIDE, FRAME_BYTES = 1024, 2 * MIB
"""Rows and columns of a frame, of 16 bits."""
_BLOCK_BYTES = 4096
_CHUNK_BYTES = 4 * MIB

_ROUTE = """
apiVersion: aegate.dev/v1alpha1
kind: ImageRoute
metadata: {name: all}
spec: {to: [pacs, old]}
"""
_STATES = "{ queueItems { nodes { state destinationAe instancesDone instancesFailed } } }"


@dataclass(frozen=True, slots=True)
class Costs:
    """What one object cost."""

    growth_bytes: dict[str, int]
    """Process → how far its memory rose above what it held when idle."""
    wrong: list[str]
    """What is not as it was sent, in words."""


def make_large(path: Path, size_mib: int) -> Path:
    """Write an image whose frames have so many MiB together."""
    frames = size_mib * MIB // FRAME_BYTES
    ds = ct(Instance(study="large", rows=SIDE, columns=SIDE))
    ds.NumberOfFrames = str(frames)
    ds.PixelData = b""
    head = DicomBytesIO()
    dcmwrite(head, ds, enforce_file_format=True)
    content = head.getvalue()
    start = len(content)
    with path.open("wb") as file:
        file.write(content[:-4] + (frames * FRAME_BYTES).to_bytes(4, "little"))
        for number in range(frames):
            file.seek(start + number * FRAME_BYTES)
            file.write(hashlib.shake_128(number.to_bytes(4)).digest(_BLOCK_BYTES))
        file.truncate(start + frames * FRAME_BYTES)
    return path


def pixel_digest(path: Path, size_mib: int) -> str:
    """Return SHA-256 of the frames, which stand at the end in any native transfer syntax."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(-size_mib * MIB, 2)
        while content := file.read(_CHUNK_BYTES):
            digest.update(content)
    return digest.hexdigest()


@contextmanager
def two_receivers(root: Path, url: str) -> Iterator[tuple[Up, StoreSCP, StoreSCP]]:
    """Run an installation with a receiver that takes everything, and one that takes Implicit VR alone."""
    with store_scp(root, title="PACS") as pacs, store_scp(root, title="OLD", options=("+xi",)) as old:
        manifests = {
            "ct1.yaml": device("ct1", more=QUICK),
            "pacs.yaml": device("pacs", pacs.port),
            "old.yaml": device("old", old.port),
            "route.yaml": _ROUTE,
        }
        with installation(root, manifests, more=("--database", url)) as up:
            yield up, pacs, old


def through(root: Path, url: str, size_mib: int, *, deadline_s: float) -> Costs:
    """Send a small object, then a large one, through an installation of its own below ``root``."""
    with two_receivers(root, url) as (up, pacs, old):
        _send(up, write(ct(), root / "small.dcm"), deliveries=2, deadline_s=deadline_s)
        pids = {str(e["process"]): int(e["pid"]) for e in up.events("child.started")}
        pids["supervisor"] = up.child.pid
        idle = {name: rss_bytes(pid) for name, pid in pids.items()}
        for pid in pids.values():
            forget_peak(pid)
        large = make_large(root / "large.dcm", size_mib)
        _send(up, large, deliveries=4, deadline_s=deadline_s)
        growth = {name: peak_rss_bytes(pid) - idle[name] for name, pid in pids.items()}
        wrong = [f"{e['process']} ended by itself" for e in up.events("child.exited")]
        wanted = pixel_digest(large, size_mib)
        for receiver in (pacs, old):
            (came,) = [p for p in receiver.received() if p.stat().st_size > size_mib * MIB]
            if pixel_digest(came, size_mib) != wanted:
                wrong.append(f"{receiver.title} did not get the frames that were sent")
    fsck = aegate("fsck", "--settled", "0", "--data", up.data, "--database", url, timeout_s=deadline_s)
    return Costs(growth, wrong if fsck.returncode == 0 else [*wrong, fsck.stdout])


def _send(up: Up, path: Path, *, deliveries: int, deadline_s: float) -> None:
    to = (f"127.0.0.1:{up.dicom_port}", "--calling", "CT1", "--called", "AEGATE")
    sent = aegate("send", *to, path, timeout_s=deadline_s)
    assert sent.returncode == 0, sent.stdout + sent.stderr

    def done() -> bool:
        nodes = up.ask(_STATES)["queueItems"]["nodes"]
        assert not [n for n in nodes if n["instancesFailed"]], nodes
        return [n["state"] for n in nodes] == ["COMPLETED"] * deliveries

    eventually(done, deadline_s=deadline_s, what=f"{path.name} is at both receivers")
