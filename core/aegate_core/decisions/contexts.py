"""Which presentation contexts a push proposes, and in which transfer syntax an object then goes out.

One context for each SOP class and transfer syntax: so the peer tells of each whether it takes it (PS3.8 9.3.2.2). Every
object that can be converted is also offered in Explicit and Implicit VR Little Endian (PS3.5 10.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
DEFLATED_LE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE = "1.2.840.10008.1.2.2"

NATIVE = frozenset({IMPLICIT_LE, EXPLICIT_LE, DEFLATED_LE, EXPLICIT_BE})

DECODABLE = frozenset(
    {
        "1.2.840.10008.1.2.5",  # RLE Lossless
        "1.2.840.10008.1.2.4.50",  # JPEG Baseline
        "1.2.840.10008.1.2.4.51",  # JPEG Extended
        "1.2.840.10008.1.2.4.57",  # JPEG Lossless
        "1.2.840.10008.1.2.4.70",  # JPEG Lossless SV1
        "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
        "1.2.840.10008.1.2.4.81",  # JPEG-LS Near-lossless
        "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless
        "1.2.840.10008.1.2.4.91",  # JPEG 2000
    }
)
"""Compressed syntaxes that we can decompress; others (video, JPIP, HTJ2K) go out as they are or not at all."""

MOST_CONTEXTS = 128
"""Presentation context ids are the odd numbers of a byte (PS3.8 9.3.2.2)."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectKind:
    """What decides about an object's contexts."""

    sop_class: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True, order=True)
class ProposedContext:
    """One presentation context with one transfer syntax."""

    sop_class: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class PlannedAssociation:
    """The contexts of one association, and the kinds of objects that go over it."""

    contexts: tuple[ProposedContext, ...]
    kinds: frozenset[ObjectKind]


def offers(transfer_syntax: str) -> tuple[str, ...]:
    """Return the transfer syntaxes in which an object may go out, the best first."""
    if transfer_syntax in NATIVE or transfer_syntax in DECODABLE:
        return tuple(dict.fromkeys((transfer_syntax, EXPLICIT_LE, IMPLICIT_LE)))
    return (transfer_syntax,)


def plan_associations(kinds: Iterable[ObjectKind]) -> tuple[PlannedAssociation, ...]:
    """Return the associations, one after another, that offer every kind; each with at most 128 contexts.

    Kinds are taken in the order of their UIDs, so a plan is repeatable.
    """
    chunks: list[tuple[list[ProposedContext], list[ObjectKind]]] = []
    for kind in sorted(set(kinds)):
        wanted = [ProposedContext(kind.sop_class, syntax) for syntax in offers(kind.transfer_syntax)]
        if chunks:
            contexts, members = chunks[-1]
            missing = [c for c in wanted if c not in contexts]
            if len(contexts) + len(missing) <= MOST_CONTEXTS:
                contexts += missing
                members.append(kind)
                continue
        chunks.append((wanted, [kind]))
    return tuple(PlannedAssociation(tuple(contexts), frozenset(members)) for contexts, members in chunks)


def choose_syntax(kind: ObjectKind, accepted: Set[ProposedContext]) -> str | None:
    """Return the transfer syntax in which an object of ``kind`` goes out, or None when the peer takes none."""
    for syntax in offers(kind.transfer_syntax):
        if ProposedContext(kind.sop_class, syntax) in accepted:
            return syntax
    return None
