"""pynetdicom's upper layer, driven by events instead of a poll a millisecond, with a short way for C-STORE's data.

States, timers, negotiation and every other message stay pynetdicom's own (PS3.8 9.2). In state Sta6 the PDVs of a
C-STORE go from the receive buffer straight to `StoreReceiver`, and the answer straight back, in this one thread.
Lengths are checked against what was negotiated before anything is read for them. Whatever goes wrong in here ends in
an abort: an object is acknowledged in one place only, after `StoreReceiver.finish`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE
from pynetdicom.pdu_primitives import A_ABORT, P_DATA

from aegate_core.dicom.command_set import MAX_COMMAND_BYTES, parse_command
from aegate_core.errors import InvalidInput
from aegate_core.events import PROCESS_FAILED, Log
from aegate_core.steps import Step, reached
from aegate_scp import messages
from aegate_scp.receive import PROCESSING_FAILURE, Answer, StoreReceiver
from aegate_scp.wire import ConnectionLost, Interrupted, Wire

if TYPE_CHECKING:
    from pynetdicom.pdu_primitives import _PDUPrimitiveType
    from pynetdicom.transport import AssociationSocket

    from aegate_scp.association import ListenerAssociation

MAX_PDU_BYTES = 131072
"""What we announce (PS3.8 D.1): the most that dcmtk sends, and few enough PDUs for a CT slice."""

_SLACK_BYTES = 12
"""Above that for senders that count the headers of PDU and PDV in; chosen by feel, no such device is at hand."""

_MAX_CONTROL_BYTES = 64 * 1024
"""Of any PDU but P-DATA-TF after the A-ASSOCIATE-RQ: the longest that is legal there has 4."""

_MAX_IDENTIFIER_BYTES = 1024 * 1024
"""Of the data set of any message but C-STORE: pynetdicom keeps that in memory."""

_LINGER_S = 3.0
"""How long a peer may take to read our last PDU and close; chosen by feel."""

VERIFICATION = "1.2.840.10008.1.1"
INVALID_OBJECT_INSTANCE = 0x0117
SOP_CLASS_NOT_SUPPORTED = 0x0122

_PDU = struct.Struct(">BBL")
_PDV = struct.Struct(">LBB")
_P_DATA_TF = 0x04
_A_ABORT = 0x07
_ABORTED = _PDU.pack(_A_ABORT, 0, 4) + bytes(4)

_DECODE_ERRORS = (ValueError, KeyError, IndexError, AttributeError, TypeError, AssertionError, struct.error)
"""What pynetdicom's decoders raise on bytes that are no such PDU or message."""


class Malformed(Exception):
    """The peer sent what PS3.8 does not allow, or more than was negotiated."""


class EventDrivenDUL(DULServiceProvider):
    """The upper layer of one association. The A-ASSOCIATE-RQ has been read already and is given as bytes."""

    def __init__(
        self, assoc: ListenerAssociation, sock: socket.socket, request: bytes, receiver: StoreReceiver
    ) -> None:
        super().__init__(assoc)
        self._association = assoc
        self._socket = sock
        self.daemon = True
        self.name = f"upper-layer-{assoc.peer.association}"
        self.has_ended = threading.Event()
        self.is_storing = False
        """The peer has sent all of an object and waits for us: its silence is not idleness."""
        self._log = Log("scp")
        self._request: bytes | None = request
        self._receiver = receiver
        self._wire = Wire(sock, is_interrupted=self._has_to_abort, on_data=self._idle_timer.restart)
        self._is_finishing = False
        self._linger_until_s: float | None = None
        self._command = bytearray()
        self._store: tuple[int, dict[int, bytes]] | None = None
        """Context and command of the C-STORE whose data set is coming in."""
        self._identifier_bytes: int | None = None
        """Length so far of another message's data set; None while none is coming in."""

    def send_pdu(self, primitive: _PDUPrimitiveType) -> None:
        """Queue a primitive for the peer and wake the reactor."""
        super().send_pdu(primitive)
        self._wire.wake()

    def kill_dul(self) -> None:
        """End the reactor at once."""
        super().kill_dul()
        self._wire.wake()

    def stop_dul(self) -> bool:
        """End the reactor once it has sent what is queued; wait for that, at most a few seconds."""
        self._is_finishing = True
        self._wire.wake()
        if threading.current_thread() is not self and not self.has_ended.wait(2 * _LINGER_S):
            self.kill_dul()
            self._shut_down(socket.SHUT_RDWR)
        return True

    def run_reactor(self) -> None:
        """Run until the association is over."""
        self._idle_timer.start()
        self.assoc._dul_ready.set()
        try:
            while not self._kill_thread:
                self._step()
        except Exception as error:
            # The outermost loop of this thread. A text of pynetdicom may quote the peer: only the type is logged.
            self._log(PROCESS_FAILED, process=self.name, error=type(error).__name__, code="UPPER_LAYER")
        finally:
            self.give_back()

    def give_back(self, *, with_socket: bool = True) -> None:
        """Close what is open and say so: at the end of the thread, or when there was none to be had."""
        self._receiver.discard()
        if with_socket:
            self._shut_down(socket.SHUT_RDWR)
            self._socket.close()
        self.has_ended.set()
        self._wire.close()
        self.to_user_queue.put(None)
        self._association.wake()

    def _step(self) -> None:
        """Do the one thing that is due, or wait for it."""
        if self._request is not None and self.state_machine.current_state == "Sta2":
            request, self._request = self._request, None
            self._decode(request)
        elif not self.event_queue.empty():
            self.state_machine.do_action(self.event_queue.get())
            self._association.wake()
        elif self.artim_timer.expired:
            self.event_queue.put("Evt18")
        elif self.to_provider_queue.queue:
            self._take_primitive()
        elif self.state_machine.current_state == "Sta13":
            self._linger()
        elif self._is_finishing:
            self.kill_dul()
        elif self._wire.has_data or self._wire.wait(self._until_artim_s()):
            self._read_pdu()

    def _take_primitive(self) -> None:
        """Turn what the local user wants into an event, unless the state no longer allows it."""
        self._process_recv_primitive()
        event = self.event_queue.queue[-1]
        if (event, self.state_machine.current_state) not in TRANSITION_TABLE:
            self.event_queue.get()
            self.to_provider_queue.get()

    def _until_artim_s(self) -> float | None:
        timer = self.artim_timer
        is_running = timer._start_time is not None and timer._end_time is None and timer.timeout is not None
        return max(0.0, timer.remaining) if is_running else None

    def _linger(self) -> None:
        """Sta13: let the peer read our last PDU and close. A close with unread data would reset the connection."""
        now_s = time.monotonic()
        if self._linger_until_s is None:
            self._linger_until_s = now_s + _LINGER_S
            self._shut_down(socket.SHUT_WR)
        remaining_s = self._linger_until_s - now_s
        is_over = remaining_s <= 0 or self._transport.socket is None
        if is_over or (self._wire.wait(remaining_s) and not self._wire.discard()):
            self._transport.close()
            if self.event_queue.empty():
                self.kill_dul()

    @property
    def _transport(self) -> AssociationSocket:
        assert self.socket is not None  # set before the thread starts, and never taken away
        return self.socket

    def _shut_down(self, how: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._socket.shutdown(how)

    def _has_to_abort(self) -> bool:
        return self._kill_thread or any(isinstance(p, A_ABORT) for p in list(self.to_provider_queue.queue))

    def _read_pdu(self) -> None:
        """Read one PDU and do, or put on the event queue, what follows from it."""
        try:
            kind, _, length = _PDU.unpack(header := self._wire.take(_PDU.size))
            if kind == _P_DATA_TF and length > MAX_PDU_BYTES + _SLACK_BYTES:
                raise Malformed
            if kind == _P_DATA_TF and self.state_machine.current_state == "Sta6":
                self._read_p_data(length)
            elif kind not in range(1, 8) or (kind != _P_DATA_TF and length > _MAX_CONTROL_BYTES):
                raise Malformed
            elif kind == _A_ABORT:
                # Devices name sources that the Standard reserves (PS3.8 9.3.8): it is an abort all the same.
                self._wire.take(length)
                self._decode(_ABORTED)
            else:
                self._decode(header + self._wire.take(length))
        except Malformed:
            self._receiver.discard()
            self.event_queue.put("Evt19")
        except ConnectionLost:
            self._receiver.discard()
            self.event_queue.put("Evt17")
        except Interrupted:
            self._receiver.discard()

    def _decode(self, encoded: bytes) -> None:
        """Let pynetdicom decode a whole PDU; what it cannot read is an invalid PDU (Evt19)."""
        try:
            pdu, event = self._decode_pdu(bytearray(encoded))
            pdu.to_primitive()  # as the state machine will: what cannot be one must not fail in there
        except _DECODE_ERRORS:
            self.event_queue.put("Evt19")
            return
        self.event_queue.put(event)
        self._recv_pdu.put(pdu)

    def _read_p_data(self, remaining: int) -> None:
        """Read the PDVs of a P-DATA-TF (PS3.8 9.3.5)."""
        while remaining:
            if remaining < _PDV.size:
                raise Malformed
            pdv_length, context_id, control = _PDV.unpack(self._wire.take(_PDV.size))
            size = pdv_length - 2
            remaining -= 4 + pdv_length
            if size < 0 or remaining < 0 or context_id not in self._association._accepted_cx:
                raise Malformed
            if control & 1:
                self._read_command(context_id, control, size)
            elif self._store is not None:
                self._read_data_set(context_id, control, size)
            else:
                self._read_identifier(context_id, control, size)

    def _read_command(self, context_id: int, control: int, size: int) -> None:
        is_within_message = self._store is not None or self._identifier_bytes is not None
        if is_within_message or len(self._command) + size > MAX_COMMAND_BYTES:
            raise Malformed
        self._command += self._wire.take(size)
        if not control & 2:
            return
        encoded, self._command = bytes(self._command), bytearray()
        try:
            elements = parse_command(encoded)
            field, has_data_set = messages.command_field(elements), messages.has_data_set(elements)
        except InvalidInput as error:
            raise Malformed from error
        if field == messages.C_STORE_RQ:
            self._begin_store(context_id, elements)
        else:
            self._identifier_bytes = 0 if has_data_set else None
            self._hand_over(context_id, control, encoded)

    def _begin_store(self, context_id: int, elements: dict[int, bytes]) -> None:
        context = self._association._accepted_cx[context_id]
        if not messages.has_data_set(elements):
            self._answer(context_id, elements, Answer(PROCESSING_FAILURE, "C-STORE-RQ without a data set"))
            return
        self._store = context_id, elements
        if context.abstract_syntax == VERIFICATION:
            self._receiver.refuse(Answer(SOP_CLASS_NOT_SUPPORTED, "context is for Verification"))
            return
        try:
            command = messages.store_command(elements)
        except InvalidInput:
            self._receiver.refuse(Answer(INVALID_OBJECT_INSTANCE, "UID or Message ID is none"))
            return
        self._receiver.begin(command, str(context.abstract_syntax), str(context.transfer_syntax[0]))

    def _read_data_set(self, context_id: int, control: int, size: int) -> None:
        if self._store is None or context_id != self._store[0]:
            raise Malformed
        while size:
            data = self._wire.some(size)
            size -= len(data)
            self._receiver.write(data)
        if control & 2:
            (_, elements), self._store = self._store, None
            self.is_storing = True
            answer = self._receiver.finish(self._has_to_abort)
            self._idle_timer.restart()
            self.is_storing = False
            self._answer(context_id, elements, answer)
            reached(Step.ANSWERED)

    def _answer(self, context_id: int, elements: dict[int, bytes], answer: Answer) -> None:
        response = messages.store_response(elements, answer.status, answer.comment)
        for pdu in messages.command_pdus(context_id, response, self.assoc.requestor.maximum_length or 0):
            self._transport.send(pdu)

    def _read_identifier(self, context_id: int, control: int, size: int) -> None:
        """Read a fragment of another message's data set, within bounds, for pynetdicom."""
        if self._identifier_bytes is None or self._identifier_bytes + size > _MAX_IDENTIFIER_BYTES:
            raise Malformed
        self._identifier_bytes = None if control & 2 else self._identifier_bytes + size
        self._hand_over(context_id, control, self._wire.take(size))

    def _hand_over(self, context_id: int, control: int, fragment: bytes) -> None:
        """Give a fragment to pynetdicom's DIMSE provider, as action DT-2 does."""
        primitive = P_DATA()
        # pynetdicom wants lists here, its annotation notwithstanding.
        primitive.presentation_data_value_list = [[context_id, bytes((control,)) + fragment]]  # type: ignore[list-item]
        try:
            self.assoc.dimse.receive_primitive(primitive)
        except _DECODE_ERRORS as error:
            raise Malformed from error
        self._association.wake()
