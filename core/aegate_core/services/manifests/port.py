"""The port: what a person may want of a resource, and what comes of it.

The surprise: nothing here writes the index. What was changed is answered by whoever keeps the manifests, and the rows
follow by the operator or the supervisor, as they follow a change by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from aegate_core.resources.reference import ResourceRef
from aegate_core.stores.index.projections import Projection

REQUESTED_BY = "aegate.dev/requested-by"
"""The annotation that names the person for whom a program changed a resource."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of one resource."""

    ref: ResourceRef
    requested_by: str
    spec: Mapping[str, object] = field(default_factory=dict)
    """What is to change (RFC 7386): objects are merged, lists replaced, null removes; the rest stays."""
    labels: Mapping[str, str | None] = field(default_factory=dict)
    """The same for labels."""
    version: str | None = None
    """As the caller saw it (`spec_version`); None: whatever it is now."""
    take_over: bool = False
    """Change also what belongs to another manager that does not watch over it."""
    dry_run: bool = False
    """Say what would come of it, and change nothing."""


class Manifests(Protocol):
    """Where manifests are kept.

    Every method raises InvalidManifest, ManagedElsewhere, VersionConflict, NotFound, ClusterError or StorageError, and
    has changed nothing then; but for an error that says that nobody answered: then nobody knows.
    """

    @property
    def is_local(self) -> bool:
        """Whether a dry run asks nobody over a network."""

    async def create(self, wish: Wish) -> Projection:
        """Make a resource and return it. Raises VersionConflict when it is there already."""

    async def update(self, wish: Wish) -> Projection:
        """Change a resource and return it as it is now."""

    async def delete(self, wish: Wish) -> Projection:
        """Delete a resource and return it as it was."""

    async def read(self, ref: ResourceRef) -> Projection | None:
        """Return it as it is now; None where there is none."""
