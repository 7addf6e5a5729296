"""What the inputs of all kinds of resources share."""

from __future__ import annotations

from typing import Protocol

import strawberry

from aegate_core.dicom.identifiers import parse_resource_key
from aegate_core.resources.reference import ResourceRef
from aegate_core.services.manifests import Wish
from aegate_graphql_api.context import Context
from aegate_graphql_api.schema.node import key_of

VERSION = "The version that you saw; if it is another by now, nothing is changed. Absent: whatever it is."
TAKE_OVER = (
    "true: change also fields that belong to another manager that does not watch over them, such as kubectl."
)
LABELS = "Labels to set, by which routes may select it; null removes one. Absent: they stay."


@strawberry.input(description="Which resource, and in which version it was seen.")
class ChooseResourceInput:
    """Which resource."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    version: str | None = strawberry.field(default=None, description=VERSION)
    take_over: bool = strawberry.field(default=False, description=TAKE_OVER)


class Chosen(Protocol):
    """An input that names a resource."""

    id: strawberry.ID
    version: str | None
    take_over: bool


def wish_of(context: Context, kind: str, which: Chosen) -> Wish:
    """Return a wish about the resource that an input names. Raises RequestRefused NOT_FOUND."""
    ref = ResourceRef(kind, parse_resource_key(key_of(which.id, kind)))
    return Wish(ref, context.caller.name, version=which.version, take_over=which.take_over)
