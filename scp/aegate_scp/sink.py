"""A plain DICOM receiver for `aegate sink`, the demo and tests: stock pynetdicom, each object one Part 10 file.

It stands for somebody else's PACS and knows nothing of the rest of aegate: no spool, no index, no configuration.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, _config, evt
from pynetdicom.pdu_primitives import A_RELEASE

from aegate_core.errors import InvalidInput

# pynetdicom logs identifiers and whole PDUs unless it is told not to; both hold patient data.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False

_VERIFICATION = "1.2.840.10008.1.1"
_SUCCESS = 0x0000


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """How the receiver behaves; what is left out is as permissive as can be."""

    folder: Path
    host: str = "127.0.0.1"
    port: int = 0
    """0: any free one; `Sink.port` tells which."""
    title: str = "SINK"
    calling_titles: tuple[str, ...] = ()
    """Who may call; everybody else is rejected (1,1,3). Empty: all may."""
    transfer_syntaxes: tuple[str, ...] = ()
    """UIDs it takes, best first. Empty: all that pynetdicom knows."""
    max_associations: int = 1000
    delay_ms: int = 0
    """Before each C-STORE is answered."""
    statuses: Mapping[int | str, int] = field(default_factory=dict)
    """What to answer instead of 0x0000, by SOP Instance UID or by the number of the C-STORE, from 1."""


@dataclass(frozen=True, slots=True)
class Received:
    """One object that was answered with success."""

    sop_instance_uid: str
    path: Path
    calling_title: str
    transfer_syntax: str


class Sink:
    """Receive from `start` to `stop`; usable as a context manager."""

    def __init__(self, options: SinkOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._received: list[Received] = []
        self._open: set[int] = set()
        self._peak = 0
        self._stores = 0
        self._associations = 0
        self._server: Any = None
        self.port = options.port

    def start(self) -> None:
        """Bind and receive. Raises InvalidInput when folder or port cannot be used."""
        options = self._options
        ae = AE(ae_title=options.title)
        ae.maximum_associations = options.max_associations
        ae.require_calling_aet = list(options.calling_titles)
        accepted = [UID(uid) for uid in options.transfer_syntaxes] or ALL_TRANSFER_SYNTAXES
        for context in AllStoragePresentationContexts:
            if context.abstract_syntax is not None:
                ae.add_supported_context(context.abstract_syntax, accepted)
        ae.add_supported_context(_VERIFICATION)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_ESTABLISHED, self._count_in),
            (evt.EVT_ACSE_RECV, self._count_released_out),
            (evt.EVT_ABORTED, self._count_out),
            (evt.EVT_CONN_CLOSE, self._count_out),
        ]
        try:
            options.folder.mkdir(parents=True, exist_ok=True)
            self._server = ae.start_server((options.host, options.port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise InvalidInput(
                f"sink needs a folder and a free port, got {error.strerror} for {options.folder} and "
                f"{options.host}:{options.port}: choose others"
            ) from error
        self.port = int(self._server.socket.getsockname()[1])

    def stop(self) -> None:
        """Stop receiving and abort what is open."""
        if self._server is not None:
            for association in self._server.active_associations:
                association.abort()
            self._server.shutdown()
            self._server = None

    def __enter__(self) -> Sink:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def received(self) -> tuple[Received, ...]:
        """What was taken so far, in order."""
        with self._lock:
            return tuple(self._received)

    @property
    def associations(self) -> int:
        """How many associations there have been."""
        return self._associations

    @property
    def open_associations(self) -> int:
        """How many associations there are now."""
        return len(self._open)

    @property
    def peak_associations(self) -> int:
        """The most associations there were at once."""
        return self._peak

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        with self._lock:
            self._stores += 1
            number = self._stores
        time.sleep(self._options.delay_ms / 1000)
        status = self._options.statuses.get(uid, self._options.statuses.get(number, _SUCCESS))
        if status != _SUCCESS:
            return status
        path = self._write(uid, event.encoded_dataset(include_meta=True))
        calling = str(event.assoc.requestor.ae_title).strip()
        with self._lock:
            self._received.append(Received(uid, path, calling, str(event.context.transfer_syntax)))
        return _SUCCESS

    def _write(self, uid: str, content: bytes) -> Path:
        """Write ``<uid>.dcm``, or ``<uid>-2.dcm`` and so on when it came before."""
        name = "".join(c for c in uid if c.isdigit() or c == ".") or "unnamed"
        copy = 1
        while True:
            path = self._options.folder / (f"{name}.dcm" if copy == 1 else f"{name}-{copy}.dcm")
            try:
                with path.open("xb") as file:
                    file.write(content)
            except FileExistsError:
                copy += 1
            else:
                return path

    def _count_in(self, event: Any) -> None:
        with self._lock:
            self._associations += 1
            self._open.add(id(event.assoc))
            self._peak = max(self._peak, len(self._open))

    def _count_released_out(self, event: Any) -> None:
        """Count out before the A-RELEASE-RP is sent: a sender may call again at once."""
        if isinstance(event.primitive, A_RELEASE):
            self._count_out(event)

    def _count_out(self, event: Any) -> None:
        with self._lock:
            self._open.discard(id(event.assoc))
