"""One C-STORE on an association (PS3.7 9.1.1): the data set goes out in pieces, the answer that counts is its own.

The surprise: pynetdicom puts a whole message into its sending queue, so memory would grow with the object, and the
wait for the answer would begin before the object is out. Here a piece is made only when the one before it is gone.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from pynetdicom import _config
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.pdu_primitives import A_ASSOCIATE, A_P_ABORT, P_DATA
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined] # made at import time

from aegate_scu import reactor
from aegate_scu.answers import MAX_PDU_BYTES, Answers

_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False

MOST_PDU_BYTES = 128 * 1024
"""What we put into one P-DATA-TF at most, also where the peer takes any length: a piece stands in memory whole."""

LEAST_PDU_BYTES = 16
"""A peer that takes less (PS3.8 D.1.1) cannot be sent to: a PDV needs 6 bytes before the first of its data."""

_QUICKACK = getattr(socket, "TCP_QUICKACK", None)
"""Linux only."""

_PIECES = 16
"""How many pieces may wait to be sent. By feel: enough that the sending thread never runs dry."""

_LOOK_S = 0.5

_READ_BYTES = 64 * 1024

_DATA_TRANSFER = "Sta6"
_WITHOUT_ANSWER = ("Sta8", "Sta13")
"""States in which no answer may come any more (PS3.8 9.2): the peer has asked for release, or it is over."""

_REJECTIONS = (1, 2)
"""Results that are no acceptance: permanent, transient."""

_ECHO_ID = 1

_LEAVE_S = 2.0
"""How long an abort may take to reach the peer; then the connection is cut."""


def takes_data(association: Any) -> bool:
    """Whether the peer says which PDUs it takes, as it must (PS3.7 D.3.3.1), and they can hold anything."""
    longest = association.dimse.maximum_pdu_size
    return longest is not None and (longest == 0 or longest >= LEAST_PDU_BYTES)


def hear_rejection(association: Any) -> None:
    """Note an A-ASSOCIATE-RJ (PS3.8 9.3.4) that pynetdicom did not look at: call it when ``associate`` has returned.

    pynetdicom asks whether the connection stands after it could have ended again; to a thread that runs late, a peer
    that rejects at once is then one that does not answer.
    """
    if association.is_established or association.acceptor.primitive is not None:
        return
    primitive = association.dul.receive_pdu(wait=False)
    if isinstance(primitive, A_ASSOCIATE) and primitive.result in _REJECTIONS:
        association.acceptor.primitive = primitive
        association.is_rejected, association.is_aborted = True, False


def prepare_socket(association: Any, timeout_s: float) -> None:
    """Send at once, acknowledge at once, and never hang on a peer that stopped reading, or sends bit by bit.

    Nagle's algorithm costs 40 ms an object, ours as well as the peer's, whose answer waits for our acknowledgement.
    Call it when the connection opens, before pynetdicom's reactor runs.
    """
    reactor.install(association)
    transport = association.dul.socket
    sock = transport.socket if transport is not None else None
    if sock is None:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Not SO_RCVTIMEO and SO_SNDTIMEO: under TLS Python reads on for ever when these run out.
    sock.settimeout(timeout_s)

    def receive(size: int) -> bytearray:
        """Read a header or the rest of a PDU, within the time for what is waited for: pynetdicom's own has no end."""
        if size > MAX_PDU_BYTES:
            raise OSError(errno.EMSGSIZE, "longer than any PDU that we are to get")
        is_for_data = association.dul.state_machine.current_state == _DATA_TRANSFER
        limit_s = timeout_s if is_for_data else association.acse_timeout or timeout_s
        try:
            return _receive(sock, size, time.monotonic() + limit_s)
        finally:
            with contextlib.suppress(OSError):
                sock.settimeout(timeout_s)

    def send(content: bytes) -> None:
        """Send a PDU within its time: a peer that takes a byte now and then would hold us for good."""
        try:
            _send_all(sock, content, time.monotonic() + timeout_s)
        except (OSError, ValueError):
            transport.event_queue.put("Evt17")  # as pynetdicom's own has it: the connection is lost

    transport.recv, transport.send = receive, send
    # pynetdicom's own does not close what cannot be shut any more.
    transport._shutdown_socket = lambda: close(transport.socket)
    association.answers = Answers(association)
    _outlive_nonsense(association)


def _send_all(sock: socket.socket, content: bytes, end_s: float) -> None:
    left = memoryview(content)
    while left:
        if time.monotonic() > end_s:
            raise TimeoutError("the peer takes too long to take one PDU")
        left = left[sock.send(left) :]


def _receive(sock: socket.socket, size: int, end_s: float) -> bytearray:
    """Return ``size`` bytes, or fewer where the peer ends the connection. Raises OSError when they take too long."""
    content = bytearray()
    while len(content) < size:
        if _QUICKACK is not None:
            sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)  # it does not last
        sock.settimeout(max(end_s - time.monotonic(), 0.001))
        received = sock.recv(min(size - len(content), _READ_BYTES))
        if not received:
            break
        content += received
    return content


def _outlive_nonsense(association: Any) -> None:
    """End the association when pynetdicom fails over what the peer sent; its thread would die and leave it open.

    Nor does pynetdicom wake whoever waits for an answer when it aborts by itself.
    """
    machine = association.dul.state_machine
    act = machine.do_action

    def guarded(event: str) -> None:
        try:
            act(event)
        except Exception:  # whatever pynetdicom runs into: an AttributeError for a response of no kind
            association.is_established, association.is_aborted, association._kill = False, True, True
            association.dul.kill_dul()
            if association.dul.socket is not None:
                association.dul.socket.close()
            # Whoever waits for an answer, of DIMSE or of ACSE, waits no longer.
            association.dimse.msg_queue.put((None, None))
            association.dul.to_user_queue.put(A_P_ABORT())
        else:
            if machine.current_state in _WITHOUT_ANSWER:
                association.dimse.msg_queue.put((None, None))

    machine.do_action = guarded


def store(association: Any, request: C_STORE, context_id: int) -> int | None:
    """Send one object and return the peer's status for it.

    None: it gave none, its answer has no status, or the association broke. Raises OSError where the object's file
    cannot be read to its end. In all these cases the association is over: half a message may be out.
    """
    return _ask(association, request, lambda: _send(association, request, context_id))


def echo(association: Any, context_id: int) -> int | None:
    """Send a C-ECHO and return the status of the response to it; None where the peer gave none."""
    request = C_ECHO()
    request.MessageID, request.AffectedSOPClassUID = _ECHO_ID, Verification

    def send() -> bool:
        _hear_out(association.dul)
        association.answers.last_piece()
        association.dimse.send_msg(request, context_id)
        return True

    return _ask(association, request, send)


def _ask(association: Any, request: C_STORE | C_ECHO, send: Callable[[], bool]) -> int | None:
    """Let ``send`` send a request whole, and return the status of the response; without one, abort."""
    status = None
    reactor.hold(association)
    association.answers.begin(request.MessageID)
    try:
        if send():
            status = _answer(association, request)
    finally:
        association._reactor_checkpoint.set()
        if status is None:
            abort(association)
    return status


def abort(association: Any) -> None:
    """End an association at once, whatever its peer does meanwhile; harmless where it has ended."""
    if association.is_established:
        association.abort(block=False)
        leave(association)


def leave(association: Any) -> None:
    """Let out what waits to be sent, for a moment, then close the connection: pynetdicom does not always."""
    dul = association.dul
    sock = dul.socket.socket if dul.socket is not None else None
    if dul.is_alive():
        dul.join(_LEAVE_S)
    if dul.is_alive() and sock is not None:
        # It stands in the middle of a PDU, to be sent or to come.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    association.kill()
    close(sock)


def close(sock: socket.socket | None) -> None:
    """Close a socket, also one that cannot be shut any more, or was never connected."""
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()


def _send(association: Any, request: C_STORE, context_id: int) -> bool:
    """Send a request piece by piece; return whether all of it went into the connection."""
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    longest = min(int(association.dimse.maximum_pdu_size) or MOST_PDU_BYTES, MOST_PDU_BYTES)
    # PDVs hold an even number of bytes (PS3.8 Annex E).
    _hear_out(association.dul)
    pieces = message.encode_msg(context_id, longest & ~1)
    piece: P_DATA | None = next(pieces)
    while piece is not None:
        following = next(pieces, None)
        if following is None:
            _hear_out(association.dul)
            association.answers.last_piece()
        if not _wait_for_room(association.dul):
            return False
        association.dul.send_pdu(piece)
        piece = following
    return True


def _hear_out(dul: Any) -> None:
    """Let pynetdicom read what lies there: an answer from before an object was out must not pass for one to it."""
    end = time.monotonic() + _LOOK_S
    while dul.is_alive() and _has_come(dul.socket) and time.monotonic() < end:
        time.sleep(0.0005)


def _has_come(transport: Any) -> bool:
    """Say whether something can be read. Only the descriptor is asked: the TLS layer belongs to the reading thread."""
    sock = transport.socket if transport is not None else None
    poll = select.poll()
    try:
        if sock is not None:
            poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return False


def _wait_for_room(dul: Any) -> bool:
    """Return when another piece may wait; False when nobody sends any more."""
    waiting = dul.to_provider_queue
    with waiting.not_full:
        while len(waiting.queue) >= _PIECES:
            if not dul.is_alive():
                return False
            waiting.not_full.wait(_LOOK_S)
    return bool(dul.is_alive())


def _answer(association: Any, request: C_STORE | C_ECHO) -> int | None:
    """Return the status of the response to ``request``; one to an earlier message says nothing of this one."""
    end = time.monotonic() + (association.dimse_timeout or 0)
    while True:
        _, response = association.dimse.get_msg(block=True)
        is_one = isinstance(response, type(request)) and response.is_valid_response
        if not is_one or response.Status is None:
            return None
        if response.MessageIDBeingRespondedTo == request.MessageID:
            return int(response.Status)
        if time.monotonic() > end:
            return None
