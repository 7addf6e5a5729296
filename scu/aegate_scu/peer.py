"""One association with a peer as pynetdicom's SCU, and the C-STOREs on it: bytes go out as they are given.

The surprise: the data set is never a pydicom Dataset here. pynetdicom would decode, and encode it anew.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined] # made at import time
from pynetdicom.transport import AssociationSocket

from aegate_core.decisions.contexts import ProposedContext
from aegate_core.decisions.retry import Verdict, judge_rejection
from aegate_core.errors import PeerError
from aegate_core.resources.values import ApplicationEntity
from aegate_scu import reactor, storing
from aegate_scu.outgoing import Outgoing

_PRIORITY_MEDIUM = 0


class NoAssociation(PeerError):
    """The peer did not give us an association."""

    code = "NO_ASSOCIATION"

    def __init__(self, message: str, verdict: Verdict = Verdict.TROUBLE) -> None:
        super().__init__(message)
        self.verdict = verdict


class NoContext(PeerError):
    """The peer took none of the presentation contexts."""

    code = "NO_CONTEXT"


class _ClosingAE(AE):
    """pynetdicom leaves a socket open that never connected: its shutdown fails, and close comes after it."""

    def _create_socket(self, *arguments: Any) -> AssociationSocket:
        made = super()._create_socket(*arguments)
        made._shutdown_socket = lambda: storing.close(made.socket)  # type: ignore[method-assign] # see above
        return made


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Whom we call, as whom, and how long we wait."""

    entity: ApplicationEntity
    calling_title: str
    tls: ssl.SSLContext | None = None


class PeerAssociation:
    """An established association. Close it with `release`, or `abort` when something is wrong."""

    def __init__(self, assoc: Association, again: Callable[[], PeerAssociation]) -> None:
        self._assoc = assoc
        self._again = again
        self._message_id = 0
        self._contexts = {
            ProposedContext(str(c.abstract_syntax), str(c.transfer_syntax[0])): c.context_id
            for c in assoc.accepted_contexts
            if c.context_id is not None
        }

    @property
    def accepted(self) -> frozenset[ProposedContext]:
        """The contexts that the peer took."""
        return frozenset(self._contexts)

    @property
    def is_alive(self) -> bool:
        """Whether it may still be used."""
        return bool(self._assoc.is_established)

    def store(self, sop_class: str, sop_instance: str, syntax: str, made: Outgoing) -> int | None:
        """Send one object and return the peer's status; None when it gave none, or the association broke.

        Raises OSError where the object's file cannot be read to its end; the association is over then.
        """
        if not self.is_alive:
            return None
        self._message_id = self._message_id % 65535 + 1
        request = C_STORE()
        request.MessageID = self._message_id
        request.Priority = _PRIORITY_MEDIUM
        request.AffectedSOPClassUID = UID(sop_class)
        request.AffectedSOPInstanceUID = UID(sop_instance)
        request._dataset_path = (made.path, made.offset)
        return storing.store(self._assoc, request, self._contexts[ProposedContext(sop_class, syntax)])

    def renew(self) -> None:
        """Open it again, after the peer ended it. Raises NoAssociation or NoContext."""
        new = self._again()
        if new.accepted != self.accepted:
            new.abort()
            raise NoAssociation("CHANGED: the peer takes other presentation contexts than a moment ago")
        self._assoc, self._contexts, self._message_id = new._assoc, new._contexts, 0

    def echo(self) -> int | None:
        """Send a C-ECHO and return the status; None when there was no answer."""
        # Whatever transfer syntax it was taken in: there is no data set.
        taken = [n for context, n in self._contexts.items() if context.sop_class == VERIFICATION.sop_class]
        return storing.echo(self._assoc, taken[0]) if taken else None

    def release(self) -> None:
        """Release in good order (PS3.8 7.2); abort when the peer does not answer."""
        if self.is_alive:
            reactor.hold(self._assoc)
            self._assoc.release()

    def abort(self) -> None:
        """End at once."""
        storing.abort(self._assoc)


def associate(peer: PeerAddress, contexts: Sequence[ProposedContext]) -> PeerAssociation:
    """Return an association that proposes one context for each pair. Raises NoAssociation or NoContext.

    A name of several addresses is called at one after another, until one takes the connection.
    """
    connected: list[bool] = []
    for address in _addresses(peer.entity):
        assoc = _call(peer, address, contexts, connected)
        if not assoc.is_established:
            storing.leave(assoc)
        if connected:
            break
    if not assoc.is_established:
        raise _why_not(assoc, peer.entity, connected=bool(connected))
    if not storing.takes_data(assoc):
        storing.abort(assoc)
        longest = assoc.dimse.maximum_pdu_size
        raise NoAssociation(
            f"PDU_LENGTH: {peer.entity.title} takes PDUs of {longest} bytes, too short for data"
            if longest
            else f"PDU_LENGTH: {peer.entity.title} does not say how long a PDU it takes"
        )
    return PeerAssociation(assoc, lambda: associate(peer, contexts))


def _call(
    peer: PeerAddress, address: str, contexts: Sequence[ProposedContext], connected: list[bool]
) -> Association:
    """Return what came of calling at one address; ``connected`` gets an entry when there was a connection."""
    entity, times = peer.entity, peer.entity.timeouts
    ae = _ClosingAE(ae_title=peer.calling_title)
    ae.connection_timeout = times.connect_s
    ae.acse_timeout = times.acse_s
    ae.dimse_timeout = times.dimse_response_s
    ae.network_timeout = times.network_idle_s
    name = (entity.push.tls and entity.push.tls.server_name) or entity.node

    def prepare(event: evt.Event) -> None:
        connected.append(True)
        storing.prepare_socket(event.assoc, times.dimse_response_s)

    assoc = ae.associate(
        address,
        entity.port,
        contexts=[build_context(c.sop_class, [c.transfer_syntax]) for c in contexts],
        ae_title=entity.title.value,
        tls_args=(peer.tls, name) if peer.tls else None,
        evt_handlers=[(evt.EVT_CONN_OPEN, prepare)],
    )
    storing.hear_rejection(assoc)
    return assoc


def _addresses(entity: ApplicationEntity) -> list[str]:
    _ensure_descriptor()
    try:
        found = socket.getaddrinfo(entity.node, entity.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NoAssociation(f"CONNECT: the name of {entity.key} cannot be resolved") from error
    return list(dict.fromkeys(str(f[4][0]) for f in found))


def _ensure_descriptor() -> None:
    """Raise NoAssociation when no connection can be made for want of a descriptor: it is no fault of the peer."""
    try:
        socket.socket().close()
    except OSError as error:
        raise NoAssociation(
            "DESCRIPTORS: this worker has no file descriptor left: raise its limit (ulimit -n)"
        ) from error


def not_connected(entity: ApplicationEntity) -> str:
    """Return what is said of a peer that no connection came to."""
    kind = "TLS_OR_CONNECT" if entity.push.tls else "CONNECT"
    return f"{kind}: {entity.node}:{entity.port} refused the connection or did not answer"


def _why_not(assoc: Association, entity: ApplicationEntity, *, connected: bool) -> PeerError:
    answer = assoc.acceptor.primitive
    if assoc.is_rejected and answer is not None and answer.result is not None:
        triple = f"({answer.result},{answer.result_source},{answer.diagnostic})"
        return NoAssociation(
            f"REJECTED: {entity.title} answered A-ASSOCIATE-RJ {triple}", judge_rejection(answer.result)
        )
    if not connected:
        return NoAssociation(not_connected(entity))
    if answer is not None and answer.result == 0:
        if not _tells_of_contexts(assoc):
            return NoAssociation(
                f"MALFORMED: {entity.title} accepted the association and told of no presentation context"
            )
        return NoContext(f"NO_CONTEXT: {entity.title} took none of the presentation contexts")
    return NoAssociation(f"ABORTED: {entity.title} did not answer the association request")


def _tells_of_contexts(assoc: Association) -> bool:
    """Whether the acceptor answered about anything that was proposed; it must, about all (PS3.8 9.3.3.2)."""
    proposed = {c.context_id for c in assoc.requestor.requested_contexts}
    answer = assoc.acceptor.primitive
    return answer is not None and any(
        c.context_id in proposed for c in answer.presentation_context_definition_results_list
    )


VERIFICATION = ProposedContext(str(Verification), "1.2.840.10008.1.2")
