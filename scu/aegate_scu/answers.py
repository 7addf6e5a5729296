"""What a peer may say on an association that we opened: whole responses, and only to what it has been sent.

pynetdicom joins fragments whatever they are, decodes a command set as far as it goes, keeps what it is sent however
much that is, and gives any message to whoever asks next. So a garbled response, or one to an object that is not out
yet, would count as stored.
"""

from __future__ import annotations

from typing import Any

from aegate_core.decisions.retry import Verdict, judge_status
from aegate_core.dicom.command_set import MAX_COMMAND_BYTES, number_of, parse_command
from aegate_core.errors import InvalidInput

MAX_PDU_BYTES = 1024 * 1024
"""Of any PDU of a peer; an A-ASSOCIATE-AC of 128 contexts has 6 kB."""

_INVALID_PDU = "Evt19"
_RESPONSES = (0x8001, 0x8030)
"""C-STORE-RSP and C-ECHO-RSP."""
_NO_DATA_SET = 0x0101
_COMMAND, _LAST = 1, 2


class Answers:
    """Judge every fragment in the thread that reads it, before pynetdicom gets it.

    That thread also sends. So when it reads a response while pieces of the request still wait to be sent, the peer
    cannot have had all of the object.
    """

    def __init__(self, association: Any) -> None:
        """Take the place of the association's ``receive_primitive``."""
        self._dul = association.dul
        self._receive = association.dimse.receive_primitive
        self._command = bytearray()
        self._message_id = self._highest = 0
        self._is_queued = True
        association.dimse.receive_primitive = self._receive_primitive

    def begin(self, message_id: int) -> None:
        """Say which request goes out from now on."""
        self._message_id, self._is_queued = message_id, False
        self._highest = max(self._highest, message_id)

    def last_piece(self) -> None:
        """Say that the end of that request is the next to be queued."""
        self._is_queued = True

    def _receive_primitive(self, primitive: Any) -> None:
        try:
            for _, value in primitive.presentation_data_value_list:
                self._fragment(value[0], value[1:])
        except InvalidInput:
            # The association ends by an A-ABORT, as after any PDU that is none (PS3.8 9.2, AA-8).
            self._dul.event_queue.put(_INVALID_PDU)
        else:
            self._receive(primitive)

    def _fragment(self, control: int, content: bytes) -> None:
        if not control & _COMMAND:
            raise InvalidInput("no response to what we ask has a data set (PS3.7 9.3), got one")
        if len(self._command) + len(content) > MAX_COMMAND_BYTES:
            raise InvalidInput(f"command set must have at most {MAX_COMMAND_BYTES} bytes, got more")
        self._command += content
        if control & _LAST:
            elements = parse_command(bytes(self._command))
            self._command.clear()
            if number_of(elements, 0x0800) != _NO_DATA_SET:
                raise InvalidInput("command set must say that no data set follows, got another type")
            if number_of(elements, 0x0100) not in _RESPONSES:
                # pynetdicom takes a C-STORE-RQ that has a status for a response.
                raise InvalidInput("message must be a response to C-STORE or C-ECHO, got another kind")
            self._response(elements)

    def _response(self, elements: dict[int, bytes]) -> None:
        message_id, status = number_of(elements, 0x0120), number_of(elements, 0x0900)
        is_to_this = message_id == self._message_id
        is_out = self._is_queued and not self._dul.to_provider_queue.queue
        has_it = judge_status(status) in (Verdict.STORED, Verdict.WARNING)
        if not 0 < message_id <= self._highest or (is_to_this and has_it and not is_out):
            raise InvalidInput("a request must be out before it is answered, got the answer first")
