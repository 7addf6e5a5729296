"""Our sender under test: the code of `aegate send` and of the workers, call after call, in a process of its own.

``python -m tests.proofs.fuzzing.calling NOTES FILE…`` reads a line of JSON a call and answers with what it reports as
stored. It dies with nobody's mutant: that is the point.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from aegate_core.decisions.contexts import ProposedContext
from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import PeerError
from aegate_core.events import configure_logging
from aegate_core.resources.values import ApplicationEntity, Metadata, Timeouts
from aegate_scu.outgoing import Outgoing
from aegate_scu.peer import VERIFICATION, PeerAddress, associate
from aegate_scu.send import Prepared, Remote, prepare, send_files
from tests.proofs.fuzzing.observed import note_transitions

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
CONTEXTS = [
    (CT, "1.2.840.10008.1.2.1"),
    (MR, "1.2.840.10008.1.2"),
    ("1.2.840.10008.1.1", "1.2.840.10008.1.2"),
]
"""What the files need, and Verification."""

PATIENCE_S = 1
"""For an answer to the association, a release or an object."""

Statuses = list[int | None]
"""What our side reports of each file; None: not stored, as far as it knows."""


def call_by_files(
    port: int, files: Sequence[Path], *, calling: str = "AEGATE", patience_s: float = 30
) -> Statuses:
    """Send as `aegate send` does."""
    remote = Remote("127.0.0.1", port, AETitle("SINK"), AETitle(calling), 5.0, patience_s, patience_s)
    statuses: Statuses = []
    try:
        for outcome in send_files(files, remote):
            statuses.append(outcome.status)
    except PeerError:
        pass
    return statuses


def call_as_worker(
    port: int, files: Sequence[Path], *, calling: str = "AEGATE", patience_s: int = 30
) -> Statuses:
    """Send as a worker does: one association, object after object; between the last two there is a pause."""
    prepared = [prepare(path) for path in files]
    try:
        assoc = associate(
            _peer(port, calling, patience_s), list(dict.fromkeys(_context(p) for p in prepared))
        )
    except PeerError:
        return []
    statuses: Statuses = []
    for number, file in enumerate(prepared, 1):
        if number == len(prepared):
            threading.Event().wait(0.03)
        context = _context(file)
        if assoc.is_alive and context in assoc.accepted:
            data = Outgoing(file.path, file.data_offset)
            statuses.append(
                assoc.store(file.sop_class_uid, file.sop_instance_uid, context.transfer_syntax, data)
            )
        else:
            statuses.append(None)
    assoc.release()
    return statuses


def probe(port: int, *, patience_s: int = 30) -> Statuses:
    """Ask as a worker does whether a destination is well again."""
    try:
        assoc = associate(_peer(port, "AEGATE", patience_s), [VERIFICATION])
    except PeerError:
        return []
    status = assoc.echo()
    assoc.release()
    return [status]


def _peer(port: int, calling: str, patience_s: int) -> PeerAddress:
    times = Timeouts(connect_s=5, acse_s=patience_s, dimse_response_s=patience_s, network_idle_s=patience_s)
    key = Metadata(ResourceKey("default", "sink"))
    return PeerAddress(ApplicationEntity(key, AETitle("SINK"), "127.0.0.1", port, timeouts=times), calling)


def _context(file: Prepared) -> ProposedContext:
    return ProposedContext(file.sop_class_uid, file.transfer_syntax_uid)


def main() -> int:
    """Answer calls until the input ends."""
    notes, *names = sys.argv[1:]
    note_transitions(Path(notes))
    configure_logging(terminal=False)
    files = [Path(name) for name in names]
    jobs: dict[str, Callable[[int], Statuses]] = {
        "files": lambda port: call_by_files(port, files, patience_s=PATIENCE_S),
        "worker": lambda port: call_as_worker(port, files, patience_s=PATIENCE_S),
        "probe": lambda port: probe(port, patience_s=PATIENCE_S),
    }
    for line in sys.stdin:
        wanted = json.loads(line)
        began = time.monotonic()
        statuses = jobs[wanted["job"]](wanted["port"])
        print(json.dumps({"statuses": statuses, "seconds": time.monotonic() - began}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
