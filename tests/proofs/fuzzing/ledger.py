"""What was acknowledged, what may be in the spool, and what is: by SOP Instance UID and digest, counted."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from pathlib import Path

from aegate_core.stores.spool import scan
from tests.proofs.fuzzing.reading import Message

Content = tuple[str, str]
"""SOP Instance UID and SHA-256 of the data set's bytes."""


def content_of(message: Message) -> Content:
    """Return what a C-STORE request brings."""
    return message.sop_instance_uid, message.sha256


class Ledger:
    """Filled by all who send, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: Counter[Content] = Counter()
        self._acknowledged: Counter[Content] = Counter()
        self._spooled: Counter[Content] = Counter()

    @property
    def acknowledged(self) -> int:
        """How many objects were."""
        return self._acknowledged.total()

    def note(self, sent: list[Content], acknowledged: list[Content]) -> None:
        """Note what one association said whole, and what was answered with 0x0000."""
        with self._lock:
            self._sent.update(sent)
            self._acknowledged.update(acknowledged)

    def settle(self, spool: Path) -> list[str]:
        """Take what is in the spool as an indexer would, and return what is missing there, or should not be.

        Others may go on sending meanwhile.
        """
        with self._lock:
            acknowledged = self._acknowledged.copy()
        for arrival in scan(spool):
            content = arrival.path.read_bytes()[arrival.side.data_offset :]
            self._spooled[arrival.side.sop_instance_uid, hashlib.sha256(content).hexdigest()] += 1
            arrival.path.unlink()
            arrival.side_path.unlink()
        with self._lock:
            missing = acknowledged - self._spooled
            invented = self._spooled - self._sent
        return [
            *(
                f"acknowledged and not in the spool with these bytes: {n} of {uid}"
                for (uid, _), n in missing.items()
            ),
            *(f"in the spool and never sent so: {n} of {uid}" for (uid, _), n in invented.items()),
        ]
