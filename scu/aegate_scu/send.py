"""Send files that lie on a disk: what `aegate send` and the demo's modalities do. No index, no queue.

Every object goes in the transfer syntax it has, byte for byte as it stands in its file; nothing is converted. A file
that cannot be sent is one outcome among the others and never stops the rest.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import build_context

from aegate_core.decisions.retry import Verdict, judge_status
from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.part10 import read_file_meta
from aegate_core.errors import NotDICOM, PeerError
from aegate_scu import reactor, storing

MOST_CONTEXTS = 128
"""Presentation contexts of one association (PS3.8 9.3.2.2: odd numbers up to 255)."""
VERIFICATION = "1.2.840.10008.1.1"
_PRIORITY_MEDIUM = 0


@dataclass(frozen=True, slots=True)
class Remote:
    """Whom we call, and how."""

    host: str
    port: int
    called_title: AETitle
    calling_title: AETitle
    connect_timeout_s: float = 10.0
    acse_timeout_s: float = 30.0
    dimse_timeout_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that can be offered to a peer."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_offset: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file: the peer's status, or why there is none."""

    path: Path
    sop_instance_uid: str = ""
    status: int | None = None
    problem: str = ""

    @property
    def is_stored(self) -> bool:
        """Whether the peer says that it has the object: success or warning (PS3.4 B.2.3)."""
        return judge_status(self.status) in (Verdict.STORED, Verdict.WARNING)


def prepare(path: Path) -> Prepared:
    """Read what must be known to offer the file. Raises NotDICOM, saying what was expected, or OSError."""
    with path.open("rb") as file:
        meta = read_file_meta(file)
        file.seek(0)
        try:
            sop_class, sop_instance = _uids(file)
        except (
            InvalidDicomError, EOFError, ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError,
            OSError, RuntimeError, struct.error, zlib.error,
        ) as error:  # fmt: skip # pydicom raises all of these; RecursionError for what is nested too deep
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise NotDICOM(
                "the data set cannot be read: it ends early, is damaged, or nested too deep"
            ) from error
    if not sop_class or not sop_instance:
        raise NotDICOM(
            "expected SOPClassUID and SOPInstanceUID (PS3.4 B.3), got none: this is no image to send"
        )
    return Prepared(path, sop_class, sop_instance, str(meta.transfer_syntax_uid), meta.data_offset)


def _uids(file: BinaryIO) -> tuple[str, str]:
    header = dcmread(file, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    information: Dataset = header.file_meta
    return (
        str(header.get("SOPClassUID") or information.get("MediaStorageSOPClassUID") or ""),
        str(header.get("SOPInstanceUID") or information.get("MediaStorageSOPInstanceUID") or ""),
    )


def send_files(paths: Iterable[Path], remote: Remote) -> Iterator[Outcome]:
    """Send all files, in their order as far as one association's contexts allow; yield an outcome for each.

    Raises PeerError when no association could be had at all; what had been yielded before stands.
    """
    ready: list[Prepared] = []
    for path in paths:
        try:
            ready.append(prepare(path))
        except NotDICOM as error:
            yield Outcome(path, problem=f"not DICOM: {error.message}")
        except OSError as error:
            yield Outcome(path, problem=f"cannot be read: {error.strerror}")
    for batch in batches(ready):
        yield from _send_batch(batch, remote)


def batches(files: Sequence[Prepared]) -> Iterator[list[Prepared]]:
    """Divide files into associations of at most 128 presentation contexts, one a pair of SOP class and syntax."""
    pairs = list(dict.fromkeys((f.sop_class_uid, f.transfer_syntax_uid) for f in files))
    left = iter(pairs)
    while chunk := set(islice(left, MOST_CONTEXTS)):
        yield [f for f in files if (f.sop_class_uid, f.transfer_syntax_uid) in chunk]


def echo(remote: Remote) -> int:
    """Send a C-ECHO and return the peer's status; 0 is success. Raises PeerError."""
    association = _associate(remote, [(VERIFICATION, "1.2.840.10008.1.2")])
    try:
        context = next((c.context_id for c in association.accepted_contexts), None)
        status = storing.echo(association, context) if context is not None else None
    finally:
        _close(association)
    if status is None:
        raise PeerError(
            f"{remote.called_title} took the association and did not answer C-ECHO: look into its log"
        )
    return status


def _send_batch(batch: list[Prepared], remote: Remote) -> Iterator[Outcome]:
    contexts = dict.fromkeys((f.sop_class_uid, f.transfer_syntax_uid) for f in batch)
    association = _associate(remote, list(contexts))
    accepted = {
        (str(c.abstract_syntax), str(c.transfer_syntax[0])): c.context_id
        for c in association.accepted_contexts
        if c.context_id is not None
    }
    try:
        for number, file in enumerate(batch):
            context_id = accepted.get((file.sop_class_uid, file.transfer_syntax_uid))
            yield _send_one(file, association, context_id, message_id=number % 65535 + 1)
    finally:
        _close(association)


def _send_one(
    file: Prepared, association: Association, context_id: int | None, *, message_id: int
) -> Outcome:
    problem, status = "", None
    if context_id is None:
        problem = f"the peer takes no {file.sop_class_uid} in {file.transfer_syntax_uid}"
    elif not association.is_established:
        problem = "the association had ended before it was sent"
    else:
        try:
            # Open before the first byte goes out: a file that is gone by now does not cost the association.
            with file.path.open("rb"):
                status = storing.store(association, _request(file, message_id), context_id)
        except (ValueError, OSError) as error:
            problem = f"cannot be sent ({type(error).__name__}): the file may have changed meanwhile"
        else:
            problem = "" if status is not None else "no answer: the peer aborted or was too slow"
    return Outcome(file.path, file.sop_instance_uid, status, problem)


def _request(file: Prepared, message_id: int) -> C_STORE:
    request = C_STORE()
    request.MessageID = message_id
    request.Priority = _PRIORITY_MEDIUM
    request.AffectedSOPClassUID = UID(file.sop_class_uid)
    request.AffectedSOPInstanceUID = UID(file.sop_instance_uid)
    request._dataset_path = (file.path, file.data_offset)
    return request


def _associate(remote: Remote, contexts: Sequence[tuple[str, str]]) -> Association:
    """Open an association that offers ``contexts``. Raises PeerError in words."""
    ae = AE(ae_title=remote.calling_title.value)
    ae.connection_timeout = remote.connect_timeout_s
    ae.acse_timeout = remote.acse_timeout_s
    ae.dimse_timeout = remote.dimse_timeout_s
    ae.network_timeout = remote.dimse_timeout_s
    heard: list[str] = []

    def prepare(event: evt.Event) -> None:
        storing.prepare_socket(event.assoc, remote.dimse_timeout_s)

    association = ae.associate(
        remote.host,
        remote.port,
        contexts=[build_context(abstract, transfer) for abstract, transfer in contexts],
        ae_title=remote.called_title.value,
        max_pdu=0,
        evt_handlers=[(evt.EVT_CONN_OPEN, prepare), (evt.EVT_ACSE_RECV, _note_rejection(heard))],
    )
    storing.hear_rejection(association)
    if association.is_established and storing.takes_data(association):
        return association
    if not association.is_established:
        storing.leave(association)
    where = f"{remote.called_title} at {remote.host}:{remote.port}"
    if association.is_rejected:
        raise PeerError(f"{where} rejected the association {_why_rejected(association, remote, heard)}")
    if association.acceptor.primitive is None and not heard:
        raise PeerError(f"{where} does not answer: check host and port, and that it runs")
    _close(association)
    raise PeerError(f"{where} aborted the association, or takes none of what was offered: look into its log")


def _why_rejected(association: Association, remote: Remote, heard: Sequence[str]) -> str:
    """Return the peer's reason and what to do: a transient rejection (PS3.8 9.3.4) says nothing of the titles."""
    reason = ", ".join(heard) or "no reason given"
    if getattr(association.acceptor.primitive, "result", None) == 2:
        return f"({reason}): it has no room or no association free just now: try again later"
    return (
        f"({reason}): it must know the calling title {remote.calling_title} "
        f"and answer to the called title {remote.called_title} (--calling, --called)"
    )


def _note_rejection(heard: list[str]) -> Callable[[Any], None]:
    def note(event: Any) -> None:
        primitive = event.primitive
        result = getattr(primitive, "result", None)
        if result in (1, 2):
            heard.append(f"{primitive.result_str}, {primitive.reason_str}")
        elif type(primitive).__name__ == "A_ASSOCIATE":
            heard.append("accepted")

    return note


def _close(association: Association) -> None:
    if association.is_established:
        reactor.hold(association)
        association.release()
    elif association.is_alive():
        association.abort()
