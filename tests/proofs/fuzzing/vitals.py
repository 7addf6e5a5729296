"""What a process holds: it must not grow by what it is sent, and must say nothing that it should not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests import sentinel

MOST_MORE_BYTES = 64 * 1024 * 1024
MOST_MORE_DESCRIPTORS = 3
MOST_MORE_THREADS = 1

_COMPLAINTS = re.compile(
    r"Traceback|process\.failed|Exception in thread|Fatal Python error|Segmentation fault"
    r"|(Error|Exception|Failed|NotImplemented) at \w+\.py:\d+ in "
)
"""Also as `aegate_core.events.fault_text` says an exception that nobody expected."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """Memory, descriptors and threads of a process."""

    rss_bytes: int
    descriptors: int
    threads: int

    @staticmethod
    def of(pid: int) -> Vitals:
        """Look at a process."""
        proc = Path(f"/proc/{pid}")
        status = (proc / "status").read_text()
        return Vitals(
            int(status.split("VmRSS:")[1].split()[0]) * 1024,
            len(list((proc / "fd").iterdir())),
            int(status.split("Threads:")[1].split()[0]),
        )

    def has_settled(self, since: Vitals) -> bool:
        """Say whether everything was given back since a process was idle before."""
        return (
            self.descriptors <= since.descriptors + MOST_MORE_DESCRIPTORS
            and self.threads <= since.threads + MOST_MORE_THREADS
        )

    def has_grown(self, since: Vitals) -> bool:
        """Say whether it holds more memory than a handful of connections may cost."""
        return self.rss_bytes > since.rss_bytes + MOST_MORE_BYTES

    def __str__(self) -> str:
        return f"{self.rss_bytes >> 20} MiB, {self.descriptors} descriptors, {self.threads} threads"


def complaints(log: Path) -> list[str]:
    """Return what must not stand in a log: failures that nobody expected, and patient data.

    What pynetdicom says of bytes that it could not read, or of a peer that was too slow, is no failure of ours.
    """
    text = log.read_text(errors="replace")
    ours = [line for line in text.splitlines() if '"component":"pynetdicom' not in line]
    found = [f"the log says: {line[:300]}" for line in ours if _COMPLAINTS.search(line)]
    try:
        sentinel.assert_absent(text, f"the log {log.name}")
    except sentinel.PatientDataLeaked as leak:
        found.append(str(leak))
    return found[:5]
