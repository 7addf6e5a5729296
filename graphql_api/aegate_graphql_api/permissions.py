"""Who may do what: two permissions, neither implying the other, and the directive by which fields declare needs.

Default deny: a field whose type and itself declare nothing is refused to everybody. The whole operation is checked
once, before it runs (`authorisation.py`): nothing is half done for somebody who may do only half of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import strawberry
from strawberry.schema_directive import Location

from aegate_core.stores.scope import Scope
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.schema.enums import in_words

in_words(
    "What a token may do.",
    TOKEN="Held by every valid token: ask who you are.",
    DICOM_QUEUE="The image queue and its settings: see studies and patients, hold, resume, retry, cancel, send, edit "
    "routes, keep the worklist.",
    AE_EDITOR="Application Entities, locations and patient partitions: see and change them.",
)(Permission)


@strawberry.schema_directive(
    locations=[Location.OBJECT, Location.INTERFACE, Location.FIELD_DEFINITION],
    description="Who may read this field, or all fields of this type: whoever holds any one of the permissions.",
)
class Access:
    """The need of a field, or of all fields of a type that declare nothing themselves."""

    any_of: list[Permission] = strawberry.field(description="One of these must hold, too.")


ANYONE = Access(any_of=[Permission.TOKEN])
QUEUE = Access(any_of=[Permission.DICOM_QUEUE])
ENTITIES = Access(any_of=[Permission.AE_EDITOR])
EITHER = Access(any_of=[Permission.DICOM_QUEUE, Permission.AE_EDITOR])


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the authenticator found; ``permissions`` always hold TOKEN."""

    name: str
    permissions: frozenset[Permission]
    expires_at: datetime | None = None
    address: str = ""
    partitions: frozenset[str] | None = None
    """The patient partitions (namespace/name) whose rows the caller sees; None: all of them."""
    namespaces: frozenset[str] | None = None
    """The namespaces whose Application Entities the caller may see and change with AE_EDITOR; None: all of them."""

    @property
    def scope(self) -> Scope:
        """Which rows the caller sees: none of those for which the permission is not held at all."""
        sees_queue = Permission.DICOM_QUEUE in self.permissions
        sees_entities = Permission.AE_EDITOR in self.permissions
        return Scope(
            self.partitions if sees_queue else frozenset(), self.namespaces if sees_entities else frozenset()
        )

    def holds_any(self, needed: frozenset[Permission]) -> bool:
        """Whether one of ``needed`` is held."""
        return not needed.isdisjoint(self.permissions)
