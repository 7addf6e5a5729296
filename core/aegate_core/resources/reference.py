"""What names a resource among all kinds. An AE and a route may share their namespace and name."""

from __future__ import annotations

from dataclasses import dataclass

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.manifest_of import kind_of
from aegate_core.resources.values import Resource


@dataclass(frozen=True, slots=True, order=True)
class ResourceRef:
    """kind namespace/name: the identity of one resource over all its lives."""

    kind: str
    key: ResourceKey

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


def ref_of(resource: Resource) -> ResourceRef:
    """Return the reference of ``resource``."""
    return ResourceRef(kind_of(resource), resource.key)
