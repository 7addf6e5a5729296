"""What the inputs of all kinds of resources share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import strawberry

from aegate_core.dicom.identifiers import ResourceKey, parse_resource_key
from aegate_core.resources.reference import ResourceRef
from aegate_core.services.manifests import Wish
from aegate_graphql_api.context import Context
from aegate_graphql_api.inputs.specs import to_json
from aegate_graphql_api.schema.node import key_of
from aegate_graphql_api.schema.scalars import StringMap

VERSION = "The version that you saw; if it is another by now, nothing is changed. Absent: whatever it is."
TAKE_OVER = (
    "true: change also fields that belong to another manager that does not watch over them, such as kubectl."
)
LABELS = "Labels to set, by which routes may select it; null removes one. Absent: they stay."
NAMESPACE = "Namespace of the cluster; locally any word."
CHANGED_SPEC = "What is to change; objects are merged, lists replaced, null takes away. Absent: nothing."
DRY_RUN = "true: say what would be, and change nothing."
ANSWERED = "As the cluster, or the folder of manifests, answered; of a deleted one, as it was."
WAS_DRY_RUN = "true: nothing was changed, this is what would be."


@strawberry.input(description="Which resource, and in which version it was seen.")
class ChooseResourceInput:
    """Which resource."""

    id: strawberry.ID = strawberry.field(description="Its id, from an answer of this API.")
    version: str | None = strawberry.field(default=None, description=VERSION)
    take_over: bool = strawberry.field(default=False, description=TAKE_OVER)
    dry_run: bool = strawberry.field(default=False, description=DRY_RUN)


class Chosen(Protocol):
    """An input that names a resource."""

    id: strawberry.ID
    version: str | None
    take_over: bool


def wish_of(context: Context, kind: str, which: Chosen, *, dry_run: bool = False) -> Wish:
    """Return a wish about the resource that an input names. Raises RequestRefused NOT_FOUND."""
    ref = ResourceRef(kind, parse_resource_key(key_of(which.id, kind)))
    return Wish(ref, context.caller.name, version=which.version, take_over=which.take_over, dry_run=dry_run)


class Created(Protocol):
    """An input of a resource that is to be made."""

    namespace: str
    labels: StringMap | None
    spec: Any


class Changed(Chosen, Protocol):
    """An input that says what is to change of a resource."""

    labels: StringMap | None
    spec: Any


def creation_of(context: Context, kind: str, input: Created, name: str, *, dry_run: bool = False) -> Wish:
    """Return the wish for a new resource."""
    ref = ResourceRef(kind, ResourceKey(input.namespace, name))
    return Wish(ref, context.caller.name, to_json(input.spec), dict(input.labels or {}), dry_run=dry_run)


def change_of(context: Context, kind: str, input: Changed, *, dry_run: bool = False) -> Wish:
    """Return the wish for a change. Raises RequestRefused NOT_FOUND."""
    spec, labels = to_json(input.spec) or {}, dict(input.labels or {})
    return replace(wish_of(context, kind, input, dry_run=dry_run), spec=spec, labels=labels)
