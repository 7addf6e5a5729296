"""One admitted association: pynetdicom's Association on the event-driven upper layer, with a slot of its AE.

Its thread sleeps until the upper layer wakes it: for a message that is not C-STORE, a release, an abort, or a timeout.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, _config, build_context, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import _STORAGE_CLASSES
from pynetdicom.transport import AddressInformation, AssociationSocket

from aegate_core.decisions.listener_config import ListenerEntity
from aegate_core.events import ASSOCIATION_ACCEPTED, ASSOCIATION_ENDED, PROCESS_FAILED, Log
from aegate_scp.association_log import AssociationLog
from aegate_scp.messages import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from aegate_scp.negotiation import choose_transfer_syntax
from aegate_scp.reactor import MAX_PDU_BYTES, VERIFICATION, EventDrivenDUL
from aegate_scp.receive import Intake, Peer, StoreReceiver

# pynetdicom logs identifiers and whole PDUs unless it is told not to; both hold patient data.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False

_PROVIDED = frozenset(str(uid) for uid in _STORAGE_CLASSES.values()) | {VERIFICATION}
_IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_NO_SOP_CLASS = UID("2.999")
"""Nobody's (the OID arc for examples): for a context without abstract syntax, which PS3.8 9.3.2.2 requires.

It is refused like one that we do not know; pynetdicom fails over it, and the whole association with it.
"""
_ABOVE_OUR_LIMITS = 1_000_000
"""pynetdicom's own maximum_associations: the slots of each AE decide, before pynetdicom hears of it."""


def local_ae() -> Any:
    """Return the pynetdicom AE that all associations of a process share."""
    ae = AE(ae_title="AEGATE")
    ae.maximum_associations = _ABOVE_OUR_LIMITS
    ae.maximum_pdu_size = MAX_PDU_BYTES
    return ae


@dataclass(frozen=True, slots=True)
class Arrived:
    """A connection with its A-ASSOCIATE-RQ whole, and who may come in by it."""

    socket: socket.socket
    request: bytes
    peer: Peer
    entity: ListenerEntity
    local_address: tuple[str, int]
    remote_address: tuple[str, int]


class ListenerAssociation(Association):
    """Negotiate, receive until released or aborted, and give the slot back before the peer hears of the end."""

    dul: EventDrivenDUL

    def __init__(
        self,
        ae: Any,
        arrived: Arrived,
        intake: Intake,
        told: AssociationLog,
        free_slot: Callable[[], None],
    ) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self.peer = arrived.peer
        self.how = "connection_lost"
        self._entity = arrived.entity
        self._intake = intake
        self._told = told
        self._was_accepted = False
        self._free_slot = free_slot
        self._log = Log("scp")
        self._wake = threading.Event()
        self._started_s = time.monotonic()
        self._receiver = StoreReceiver(intake, arrived.peer)
        self.name = f"association-{arrived.peer.association}"
        self.acceptor.address_info = AddressInformation.from_tuple(arrived.local_address)
        self.requestor.address_info = AddressInformation.from_tuple(arrived.remote_address)
        self._socket = arrived.socket
        self.dul = EventDrivenDUL(self, arrived.socket, arrived.request, self._receiver)
        self.acse_timeout = arrived.entity.acse_timeout_s
        self.network_timeout = arrived.entity.network_idle_s
        self.dimse_timeout = arrived.entity.network_idle_s
        self.set_socket(AssociationSocket(self, client_socket=arrived.socket))
        self.acceptor.maximum_length = MAX_PDU_BYTES
        self.acceptor.ae_title = ae.ae_title
        self.acceptor.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        self.acceptor.implementation_version_name = IMPLEMENTATION_VERSION
        self.bind(evt.EVT_REQUESTED, self._choose_contexts)
        self.bind(evt.EVT_ACCEPTED, self._say_accepted)

    def start(self) -> None:
        """Begin. Raises RuntimeError when there is no thread to be had: the socket is then as it was."""
        try:
            super().start()
        except RuntimeError:
            self.dul.give_back(with_socket=False)
            raise

    def wake(self) -> None:
        """Let the association look around."""
        self._wake.set()

    def end(self, how: str) -> None:
        """Abort from any thread, at once, even in the middle of a PDU; ``how`` goes to log and metric."""
        self.how = how
        self._free_slot()
        self._abort_blocking(block=False)
        self._kill = True
        self.wake()

    def run_reactor(self) -> None:
        """Run the association to its end, whatever the end is."""
        try:
            self._socket.settimeout(self._entity.network_idle_s)
            super().run_reactor()
        except Exception as error:
            # The outermost loop of this thread. A text of pynetdicom may quote the peer: only the type is logged.
            self.how = "failed"
            self._free_slot()
            self._abort_blocking(block=False)
            self._log(PROCESS_FAILED, process=self.name, error=type(error).__name__, code="ASSOCIATION")
            if not self._started_dul:
                self.dul.give_back()
        finally:
            self.dul.stop_dul()
            self._free_slot()
            self._say_ended()

    def kill(self) -> None:
        """End the upper layer when it has sent what is queued."""
        self._kill = True
        self.is_established = False
        self.dul.stop_dul()

    def _run_reactor(self) -> None:
        """Serve messages until a release, an abort or a timeout (pynetdicom's loop, woken instead of polling)."""
        while not self._kill:
            self._wake.wait(self._until_timeout_s())
            self._wake.clear()
            context_id, message = self.dimse.get_msg(block=False)
            while message and context_id is not None:
                self._serve_request(message, context_id)
                context_id, message = self.dimse.get_msg(block=False)
            if self._has_ended():
                return

    def _has_ended(self) -> bool:
        if self.is_established and self.acse.is_release_requested():
            # The slot first: a device may call again as soon as it has our answer.
            self.how = "released"
            self._free_slot()
            self.acse.send_release(is_response=True)
            self.is_released = True
        elif self.acse.is_aborted():
            if self.acse.is_aborted("a-abort"):
                self.how = "peer_aborted"
            self.is_aborted = True
        elif not self.dul.has_ended.is_set() and self._until_timeout_s() <= 0:
            self.end("idle" if self.dul.idle_timer_expired() else "too_long")
        elif not self._kill and not self.dul.has_ended.is_set():
            return False
        self._free_slot()
        self.kill()
        return True

    def _until_timeout_s(self) -> float:
        idle_s = float(self._entity.network_idle_s if self.dul.is_storing else self.dul._idle_timer.remaining)
        longest_s = self._entity.longest_association_s
        if longest_s is None:
            return idle_s
        return min(idle_s, longest_s - (time.monotonic() - self._started_s))

    def _abort_blocking(self, block: bool = True) -> None:
        """Send A-ABORT; with ``block`` wait until it is out."""
        if self._sent_abort or self.is_released:
            return
        self._sent_abort = True
        if self.how == "connection_lost":
            self.how = "aborted"
        self.acse.send_abort(0x00)
        if block:
            self.kill()

    def _choose_contexts(self, event: Any) -> None:
        """Leave pynetdicom one transfer syntax a context: ours by the requestor's order, not by the acceptor's."""
        request = self.requestor.primitive
        provided = _PROVIDED | frozenset(self._entity.extra_sop_classes)
        accepted: dict[str, list[str]] = {}
        for context in (
            request.presentation_context_definition_list if isinstance(request, A_ASSOCIATE) else ()
        ):
            if context.abstract_syntax is None:
                context.abstract_syntax = _NO_SOP_CLASS
            chosen = choose_transfer_syntax([str(uid) for uid in context.transfer_syntax])
            context.transfer_syntax = [chosen or _IMPLICIT_LITTLE_ENDIAN]
            if chosen and str(context.abstract_syntax) in provided:
                accepted.setdefault(str(context.abstract_syntax), []).append(chosen)
        contexts: list[PresentationContext] = [
            build_context(a, list(dict.fromkeys(t))) for a, t in accepted.items()
        ]
        self.acceptor.supported_contexts = contexts

    def _say_accepted(self, event: Any) -> None:
        self._was_accepted = True
        self._told.accepted(self.peer, len(self._accepted_cx))
        self._log(
            ASSOCIATION_ACCEPTED,
            association=self.peer.association,
            ae=str(self.peer.ae),
            calling=self.peer.calling_title,
            called=self.peer.called_title,
            peer=self.peer.address,
            contexts=len(self._accepted_cx),
        )

    def _say_ended(self) -> None:
        self._intake.metrics.ended_associations.labels(str(self.peer.ae), self.how).inc()
        seconds = round(time.monotonic() - self._started_s, 3)
        instances, size_bytes = self._receiver.instances, self._receiver.size_bytes
        if self._was_accepted:
            of_it = {"how": self.how, "instances": instances, "sizeBytes": size_bytes, "seconds": seconds}
            self._told.ended(self.peer, of_it)
        with contextlib.suppress(ValueError):
            self._log(
                ASSOCIATION_ENDED,
                association=self.peer.association,
                ae=str(self.peer.ae),
                peer=self.peer.address,
                how=self.how,
                instances=instances,
                size_bytes=size_bytes,
                seconds=seconds,
            )
