"""How far a caller's permissions reach: which patient partitions, and which namespaces with AE_EDITOR.

The surprise: None is everything, an empty list nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aegate_core.dicom.identifiers import parse_resource_key
from aegate_core.errors import InvalidValue
from aegate_core.resources.names import dns1123_label, dns1123_subdomain


@dataclass(frozen=True, slots=True)
class Reach:
    """Partitions as namespace/name, and namespaces; None: all."""

    partitions: frozenset[str] | None = None
    namespaces: frozenset[str] | None = None


EVERYWHERE = Reach()


def reach_of(partitions: Iterable[str] | None, namespaces: Iterable[str] | None) -> Reach:
    """Return them, checked. Raises InvalidValue for a name that nothing can have."""
    return Reach(
        None if partitions is None else frozenset(_partition(p) for p in partitions),
        None if namespaces is None else frozenset(_namespace(n) for n in namespaces),
    )


def _partition(text: str) -> str:
    key = parse_resource_key(text)
    if dns1123_label(key.namespace) or dns1123_subdomain(key.name):
        raise InvalidValue(
            "a partition must be namespace/name, each of lower-case letters, digits and -, got another form: "
            "take it from `kubectl get patientpartitions -A`, or default/default"
        )
    return text


def _namespace(text: str) -> str:
    if wrong := dns1123_label(text):
        raise InvalidValue(f"a namespace {wrong[0]}, got {len(text)} characters of another form: correct it")
    return text
