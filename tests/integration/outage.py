"""A study that comes while nothing can be indexed: it lies in the spool, longer than it would take to be complete.

When the outage ends, all of it makes one delivery a destination, as if there had been none.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aegate_scp.sink import Sink, SinkOptions
from tests.dicom import ct_study, write
from tests.integration.cli.installations import Up, device, installation
from tests.integration.peers import run_dcmtk
from tests.integration.waiting import eventually

BEFORE = 20
"""Images that are indexed before the outage: their study waits to be complete."""
QUIET_S = 4
_STUDY = f"  study: {{quietPeriodSeconds: {QUIET_S}, maxAgeSeconds: 3600}}\n"
_ROUTE = """
apiVersion: aegate.dev/v1alpha1
kind: ImageRoute
metadata: {name: all}
spec: {to: [pacs, ws]}
"""
_STUDIES = "{ studies { nodes { instanceCount } } }"
_ITEMS = "{ queueItems { nodes { destinationAe state instancesTotal supplementary } } }"

Outage = Callable[[Up], AbstractContextManager[None]]
"""Nothing can be indexed within its block."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    deliveries: list[tuple[str, str, int]]
    """Destination, state and images of every delivery there is, sorted."""
    received: dict[str, set[str]]
    """SOP Instance UIDs by destination."""
    spooled: int
    """How many images waited in the spool at the end of the outage."""
    sent: set[str]


@contextmanager
def indexer_paused(up: Up) -> Iterator[None]:
    """Stop the indexer where it stands."""
    pid = up.pid_of("indexer")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def through(
    root: Path, url: str, count: int, outage: Outage, *, lasts_s: float, deadline_s: float
) -> Outcome:
    """Send a study of ``count`` images, most of it during an outage that lasts so long after the last one."""
    study = ct_study("study", count)
    files = [write(ds, root / "outgoing" / f"{n}.dcm") for n, ds in enumerate(study)]
    with ExitStack() as stack:
        sinks = {
            name: stack.enter_context(Sink(SinkOptions(root / name, title=name.upper())))
            for name in ("pacs", "ws")
        }
        manifests = {f"{name}.yaml": device(name, sink.port) for name, sink in sinks.items()}
        manifests |= {"ct1.yaml": device("ct1", more=_STUDY), "route.yaml": _ROUTE}
        up = stack.enter_context(installation(root, manifests, more=("--database", url)))
        _send(up, files[:BEFORE], deadline_s)
        eventually(
            lambda: _counted(up) == BEFORE and not _spooled(up),
            deadline_s=deadline_s,
            what="the first images are indexed",
        )
        with outage(up):
            _send(up, files[BEFORE:], deadline_s)
            end = time.monotonic() + lasts_s
            eventually(lambda: time.monotonic() > end, deadline_s=lasts_s + 10, what="the outage lasts")
            spooled = len(_spooled(up))
            arrived = sum(len(sink.received) for sink in sinks.values())
            assert arrived == 0, "something was sent before the study was complete"
        eventually(
            lambda: all(len(sink.received) >= count for sink in sinks.values()),
            deadline_s=deadline_s,
            what="both receivers have all",
        )
        eventually(lambda: {s for _, s, _ in _deliveries(up)} == {"COMPLETED"}, deadline_s=deadline_s)
        received = {name: {r.sop_instance_uid for r in sink.received} for name, sink in sinks.items()}
        return Outcome(_deliveries(up), received, spooled, {str(ds.SOPInstanceUID) for ds in study})


def _send(up: Up, files: Sequence[Path], deadline_s: float) -> None:
    to = ("-aet", "CT1", "-aec", "AEGATE", "127.0.0.1", str(up.dicom_port))
    sent = run_dcmtk("storescu", *to, *files, timeout_s=deadline_s)
    assert sent.returncode == 0, sent.stdout[-1000:]


def _spooled(up: Up) -> list[Path]:
    return list(up.data.glob("spool/*/*/*/*.dcm"))


def _counted(up: Up) -> int:
    return sum(n["instanceCount"] for n in up.ask(_STUDIES)["studies"]["nodes"])


def _deliveries(up: Up) -> list[tuple[str, str, int]]:
    nodes = up.ask(_ITEMS)["queueItems"]["nodes"]
    return sorted((n["destinationAe"], n["state"], n["instancesTotal"]) for n in nodes)
