"""One C-STORE after another of one association: bytes into the spool as they arrive, and the status to answer.

0x0000 is returned only when `SpoolFile.commit` has returned, and for an AE with ``acknowledge: Indexed`` only when an
indexer has taken the object besides. When that takes too long, the object stays and the device hears a failure: sent
again, it is a duplicate, and nothing is lost either way. Memory does not grow with the object: nothing is kept
here but the open file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from aegate_core.dicom.arrival_ids import new_arrival_id
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import AegateError, StorageError
from aegate_core.events import INSTANCE_REFUSED, INSTANCE_SPOOLED, Log, fault_text
from aegate_core.stores.spool import Departure, SideRecord, SpoolFile, SpoolFolder
from aegate_scp.congestion import Congestion
from aegate_scp.messages import StoreCommand, part10_header
from aegate_scp.metrics import ListenerMetrics

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
OUT_OF_RESOURCES = 0xA700
_NO_ROOM = "no room: try again later"

_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.002, 0.05
"""How often the spool is looked at for an object that must be indexed: each wait half as long again."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What all associations of a listener share."""

    spool: SpoolFolder
    congestion: Congestion
    metrics: ListenerMetrics


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sends: the same for every object of an association."""

    association: str
    """A short id that ties log lines together."""
    ae: ResourceKey
    calling_title: str
    called_title: str
    address: str
    index_wait_s: int | None = None
    """How long an answer waits for the indexer; None: not at all."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The status of a C-STORE-RSP (PS3.4 B.2.3) and its ErrorComment."""

    status: int
    comment: str = ""


class StoreReceiver:
    """Receive the objects of one association, one at a time, in the thread that reads its socket."""

    def __init__(self, intake: Intake, peer: Peer) -> None:
        self._intake = intake
        self._peer = peer
        self._log = Log("scp")
        self._file: SpoolFile | None = None
        self._record: SideRecord | None = None
        self._refusal: Answer | None = None
        self._started_s = 0.0
        self.instances = 0
        self.size_bytes = 0
        """Acknowledged so far."""

    def refuse(self, answer: Answer) -> None:
        """Let the data set that follows go by, and answer so."""
        self._refuse(answer.status, answer.comment, answer.comment)

    def begin(self, command: StoreCommand, abstract_syntax: str, transfer_syntax: str) -> None:
        """Open the spool file for the data set that follows. Never raises: `finish` answers."""
        self._started_s = time.monotonic()
        self._refusal = None
        try:
            self._begin(command, abstract_syntax, transfer_syntax)
        except Exception as error:  # whatever it is, the device hears a failure and the association goes on
            self._fail(error)

    def _begin(self, command: StoreCommand, abstract_syntax: str, transfer_syntax: str) -> None:
        header = part10_header(command, transfer_syntax, self._peer.calling_title)
        self._record = SideRecord(
            arrival_id=new_arrival_id(),
            ae=self._peer.ae,
            calling_title=self._peer.calling_title,
            called_title=self._peer.called_title,
            peer_address=self._peer.address,
            received_at=datetime.now(UTC),
            abstract_syntax=abstract_syntax,
            transfer_syntax=transfer_syntax,
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
            data_offset=len(header),
            size_bytes=0,
        )
        trouble = self._intake.congestion.trouble()
        if trouble:
            self._refuse(OUT_OF_RESOURCES, _NO_ROOM, trouble)
            return
        self._file = self._intake.spool.begin(self._peer.ae, self._record.arrival_id, header)

    def write(self, data: memoryview) -> None:
        """Append a fragment of the data set, or let it go by when the object is refused already.

        Above the watermark an object that has begun is refused, too: one that never ends would fill the disk.
        """
        if self._file is None:
            return
        try:
            trouble = self._intake.congestion.trouble()
            if trouble:
                self._refuse(OUT_OF_RESOURCES, _NO_ROOM, trouble)
                return
            self._file.write(data)
        except Exception as error:  # as in `begin`
            self._fail(error)

    def finish(self, is_interrupted: Callable[[], bool]) -> Answer:
        """Make the object durable and return what to answer; ``is_interrupted`` ends a wait for the indexer."""
        answer = None
        if self._file is not None and self._record is not None:
            # Received when it is whole: an object that is minutes on its way does not close its study on arrival.
            now = datetime.now(UTC)
            record = replace(self._record, size_bytes=self._file.size_bytes, received_at=now)
            try:
                if self._keep(self._file, record, is_interrupted):
                    self._accept(record)
                    answer = Answer(SUCCESS)
            except Exception as error:  # as in `begin`; what is durable by now stays: sent again, a duplicate
                self._fail(error)
        answer = answer or self._refusal or Answer(PROCESSING_FAILURE)
        self._file = self._record = self._refusal = None
        self._intake.metrics.instances.labels(str(self._peer.ae), f"0x{answer.status:04X}").inc()
        return answer

    def discard(self) -> None:
        """Forget an object whose rest will not come. Safe to repeat."""
        if self._file is not None:
            self._file.discard()
        self._file = self._record = self._refusal = None

    def _keep(self, file: SpoolFile, record: SideRecord, is_interrupted: Callable[[], bool]) -> bool:
        """Commit, wait for the indexer if the AE wants that, and say whether it came. Raises what the spool raises."""
        wait_s = self._peer.index_wait_s
        with ExitStack() as stack:
            departure = stack.enter_context(closing(file.watch())) if wait_s is not None else None
            file.commit(record)
            if wait_s is None or departure is None or _is_over(departure, wait_s, is_interrupted):
                return True
        self._refuse(
            OUT_OF_RESOURCES,
            "kept, but not indexed in time: send again later",
            f"arrival {record.arrival_id} is in the spool but was not indexed within {wait_s} s",
        )
        return False

    def _accept(self, record: SideRecord) -> None:
        seconds = time.monotonic() - self._started_s
        self.instances += 1
        self.size_bytes += record.size_bytes
        self._intake.metrics.instance_bytes.labels(str(self._peer.ae)).inc(record.size_bytes)
        self._intake.metrics.receive_seconds.observe(seconds)
        self._log(
            INSTANCE_SPOOLED,
            association=self._peer.association,
            ae=str(self._peer.ae),
            arrival=record.arrival_id,
            size_bytes=record.size_bytes,
            seconds=round(seconds, 4),
        )

    def _fail(self, error: Exception) -> None:
        self._intake.congestion.doubt()
        if isinstance(error, StorageError):
            self._refuse(OUT_OF_RESOURCES, "cannot be stored now: try again later", error.message)
        else:
            reason = error.code if isinstance(error, AegateError) else fault_text(error)
            self._refuse(PROCESSING_FAILURE, "processing failure", reason)

    def _refuse(self, status: int, comment: str, reason: str) -> None:
        if self._file is not None:
            self._file.discard()
            self._file = None
        self._refusal = Answer(status, comment)
        self._log(
            INSTANCE_REFUSED,
            association=self._peer.association,
            ae=str(self._peer.ae),
            status=f"0x{status:04X}",
            reason=reason,
        )


def _is_over(departure: Departure, wait_s: float, is_interrupted: Callable[[], bool]) -> bool:
    """Wait until an indexer has taken the object; False when it has not within ``wait_s``, or we are interrupted."""
    deadline_s = time.monotonic() + wait_s
    pause_s = _FIRST_LOOK_S
    while not departure.is_over():
        if is_interrupted() or time.monotonic() >= deadline_s:
            return False
        time.sleep(pause_s)
        pause_s = min(1.5 * pause_s, _LONGEST_LOOK_S)
    return True
