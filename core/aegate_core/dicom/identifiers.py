"""Identifiers that are not just strings: UIDs, arrival ids, names of resources."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType

from aegate_core.errors import InvalidValue

UID = NewType("UID", str)
"""A DICOM UID (PS3.5 9.1): digits and dots, at most 64 characters."""

ArrivalId = NewType("ArrivalId", str)
"""32 hex digits, time-ordered (UUIDv7, RFC 9562 5.7): made by the listener, key of spool file, blob and row."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_ARRIVAL = re.compile(r"[0-9a-f]{32}")


def parse_uid(text: str) -> UID:
    """Return ``text`` as UID without trailing NUL. Leading zeros, which devices do send, are let pass.

    Raises InvalidValue.
    """
    uid = text.rstrip("\0 ")
    if len(uid) > 64 or not _UID.fullmatch(uid):
        raise InvalidValue(
            f"UID must be at most 64 digits and dots (PS3.5 9.1), got {len(uid)} characters of another form"
        )
    return UID(uid)


def parse_arrival_id(text: str) -> ArrivalId:
    """Return ``text`` as arrival id. Raises InvalidValue: so a file name can never leave its folder."""
    if not _ARRIVAL.fullmatch(text):
        raise InvalidValue(f"arrival id must be 32 hex digits, got {len(text)} characters of another form")
    return ArrivalId(text)


@dataclass(frozen=True, slots=True, order=True)
class ResourceKey:
    """namespace/name of a resource: its identity over deletion and re-creation. One of the whole cluster has none."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def parse_resource_key(text: str) -> ResourceKey:
    """Return ``namespace/name`` as key. Raises InvalidValue."""
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise InvalidValue(f"expected namespace/name such as default/ct1, got {text!r}")
    return ResourceKey(namespace, name)
