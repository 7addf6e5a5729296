"""Who may associate, and in which transfer syntax: pure answers to an A-ASSOCIATE-RQ (PS3.8 9.3.2 to 9.3.4).

What would surprise: a wrong source address is answered like an unknown title. Which of the two it was goes to log and
metric, never to a peer that may be guessing.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydicom.uid import AllTransferSyntaxes, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from aegate_core.decisions.listener_config import ListenerEntity
from aegate_core.dicom.ae_title import clean_title
from aegate_core.dicom.identifiers import ResourceKey

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_KNOWN_TRANSFER_SYNTAXES = frozenset(str(uid) for uid in AllTransferSyntaxes)
_CALLED, _CALLING = slice(10, 26), slice(26, 42)


class Reason(StrEnum):
    """Why an association was rejected, for log and metric."""

    UNKNOWN_CALLING_TITLE = "unknown_calling_title"
    WRONG_SOURCE_ADDRESS = "wrong_source_address"
    WRONG_CALLED_TITLE = "wrong_called_title"
    LOCAL_LIMIT = "local_limit_exceeded"
    CONGESTION = "temporary_congestion"


_ANSWERS: Mapping[Reason, tuple[int, int, int]] = {
    Reason.UNKNOWN_CALLING_TITLE: (1, 1, 3),
    Reason.WRONG_SOURCE_ADDRESS: (1, 1, 3),
    Reason.WRONG_CALLED_TITLE: (1, 1, 7),
    Reason.LOCAL_LIMIT: (2, 3, 2),
    Reason.CONGESTION: (2, 3, 1),
}


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ, and for us the reason and the AE, if one is known."""

    reason: Reason
    ae: ResourceKey | None = None

    @property
    def answer(self) -> tuple[int, int, int]:
        """Result, source and diagnostic (PS3.8 table 9-21)."""
        return _ANSWERS[self.reason]

    def encode(self) -> bytes:
        """Return the PDU (PS3.8 9.3.4)."""
        return bytes((3, 0, 0, 0, 0, 4, 0, *self.answer))


@dataclass(frozen=True, slots=True)
class Request:
    """Who calls whom, from where; titles without padding, possibly empty."""

    called: str
    calling: str
    address: Address


def read_request(pdu: bytes, address: Address) -> Request:
    """Take the titles out of a whole A-ASSOCIATE-RQ PDU (PS3.8 table 9-11)."""
    return Request(clean_title(pdu[_CALLED]), clean_title(pdu[_CALLING]), address)


def normalised_request(pdu: bytes, request: Request) -> bytes:
    """Return the PDU with both titles padded by blanks as PS3.5 6.2 says: a NUL or a backslash stops pynetdicom."""
    titles = (title.replace("\\", "?") or "?" for title in (request.called, request.calling))
    return pdu[: _CALLED.start] + b"".join(t.ljust(16).encode() for t in titles) + pdu[_CALLING.stop :]


def parse_address(host: str) -> Address:
    """Return a peer's address from the socket; IPv4 in IPv6 becomes IPv4, a scope is dropped."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


@dataclass(frozen=True, slots=True)
class Load:
    """How things stand at this moment."""

    open_associations: Mapping[ResourceKey, int]
    is_congested: bool = False


class Directory:
    """The admitted AEs of one configuration, by title. Two AEs of one title are told apart by source address."""

    def __init__(self, entities: Iterable[ListenerEntity]) -> None:
        self._exact: dict[str, list[ListenerEntity]] = defaultdict(list)
        self._folded: dict[str, list[ListenerEntity]] = defaultdict(list)
        self._ranges: dict[ResourceKey, tuple[Network, ...]] = {}
        self.nodes: set[str] = set()
        """Every node that admission may have to resolve."""
        for entity in entities:
            self._exact[entity.title.value].append(entity)
            self._folded[entity.title.folded].append(entity)
            self._ranges[entity.ae] = tuple(ipaddress.ip_network(r) for r in entity.source_ranges)
            if entity.verify_node and not entity.source_ranges:
                self.nodes.add(entity.node)

    def admit(
        self, request: Request, addresses: Mapping[str, frozenset[Address]], load: Load
    ) -> ListenerEntity | Rejection:
        """Return the AE that calls, or the answer of ``design/intake.md``'s table.

        ``addresses`` are those of each node as last resolved; a node that is not in it matches nobody.
        """
        called_so = self._called(request.calling)
        if not called_so:
            return Rejection(Reason.UNKNOWN_CALLING_TITLE)
        entity = next((e for e in called_so if self._may_call_from(e, request.address, addresses)), None)
        if entity is None:
            return Rejection(Reason.WRONG_SOURCE_ADDRESS, called_so[0].ae)
        if entity.verify_called_title and request.called.casefold() != entity.called_title.folded:
            return Rejection(Reason.WRONG_CALLED_TITLE, entity.ae)
        if load.is_congested:
            return Rejection(Reason.CONGESTION, entity.ae)
        if load.open_associations.get(entity.ae, 0) >= entity.max_associations:
            return Rejection(Reason.LOCAL_LIMIT, entity.ae)
        return entity

    def nodes_of(self, calling: str) -> list[str]:
        """Return the nodes that have to be resolved to know whether somebody of that title is who he says."""
        return [entity.node for entity in self._called(calling) if entity.node in self.nodes]

    def _called(self, calling: str) -> list[ListenerEntity]:
        return self._exact.get(calling) or self._folded.get(calling.casefold(), [])

    def _may_call_from(
        self, entity: ListenerEntity, address: Address, addresses: Mapping[str, frozenset[Address]]
    ) -> bool:
        if not entity.verify_node:
            return True
        ranges = self._ranges[entity.ae]
        if ranges:
            return any(address in network for network in ranges)
        return address in addresses.get(entity.node, frozenset())


def choose_transfer_syntax(proposed: Sequence[str]) -> str | None:
    """Return the one to accept of a context: the first that is known, as the requestor ordered them.

    Explicit VR Little Endian goes before Implicit where both stand there: private elements keep their VR. A context
    of unknown ones alone is taken with its first: nothing is decoded on the way in. None when nothing is proposed.
    """
    known = [uid for uid in proposed if uid in _KNOWN_TRANSFER_SYNTAXES]
    first = next(iter(known or proposed), None)
    if first == ImplicitVRLittleEndian and ExplicitVRLittleEndian in known:
        return str(ExplicitVRLittleEndian)
    return first
