"""Create, change and delete routes where they are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Union, cast

import strawberry

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.reference import ResourceRef
from aegate_core.services.manifests import Wish
from aegate_core.stores.index.projections import Projection
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.inputs.specs import ImageRouteSpecInput, to_json
from aegate_graphql_api.mutations.declaring import CREATE, DELETE, UPDATE, Asked, declare
from aegate_graphql_api.mutations.problems import NotFoundProblem, UnavailableProblem, ValidationProblem
from aegate_graphql_api.mutations.resource_inputs import (
    LABELS,
    TAKE_OVER,
    VERSION,
    ChooseResourceInput,
    wish_of,
)
from aegate_graphql_api.mutations.resource_problems import (
    ForbiddenProblem,
    ManagedElsewhereProblem,
    ResourceConflictProblem,
)
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.declared import node_of
from aegate_graphql_api.schema.resources import ImageRoute
from aegate_graphql_api.schema.scalars import StringMap

KIND = "ImageRoute"


@strawberry.type(description="A route after the change, as it is written.", directives=[QUEUE])
class ImageRouteChanged:
    """A route after the change; of a deleted one, as it was."""

    image_route: ImageRoute = strawberry.field(
        description="As the cluster, or the folder of manifests, answered; of a deleted one, as it was."
    )
    dry_run: bool = strawberry.field(description="true: nothing was changed, this is what would be.")


ImageRouteResult = Annotated[
    Union[  # noqa: UP007 - strawberry names a Union
        ImageRouteChanged,
        ValidationProblem,
        NotFoundProblem,
        ForbiddenProblem,
        ManagedElsewhereProblem,
        ResourceConflictProblem,
        UnavailableProblem,
    ],
    strawberry.union("ImageRouteResult"),
]


@strawberry.input(description="A new route.")
class CreateImageRouteInput:
    """A new route."""

    name: str = strawberry.field(description="Its name, such as ct-to-pacs, in lower case.")
    namespace: str = strawberry.field(
        default="default", description="Namespace of the cluster; locally any word."
    )
    labels: StringMap | None = strawberry.field(default=None, description="Its labels.")
    spec: ImageRouteSpecInput = strawberry.field(
        description="What it takes, and where it goes; to is needed."
    )
    dry_run: bool = strawberry.field(
        default=False, description="true: say what would be, and change nothing."
    )


@strawberry.input(description="What is to change of a route; what is not given stays, null removes.")
class UpdateImageRouteInput:
    """What is to change of a route."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    labels: StringMap | None = strawberry.field(default=None, description=LABELS)
    spec: ImageRouteSpecInput | None = strawberry.field(
        default=None,
        description="What is to change; objects are merged, lists replaced, null takes away. Absent: nothing.",
    )
    version: str | None = strawberry.field(default=None, description=VERSION)
    take_over: bool = strawberry.field(default=False, description=TAKE_OVER)
    dry_run: bool = strawberry.field(
        default=False, description="true: say what would be, and change nothing."
    )


async def create_image_route(info: Info, input: CreateImageRouteInput) -> ImageRouteResult:
    """Create a route."""
    context = info.context
    return await _declare(
        context, lambda: Asked("createImageRoute", CREATE, _creation(context, input), _answer)
    )


async def update_image_route(info: Info, input: UpdateImageRouteInput) -> ImageRouteResult:
    """Change a route."""
    context = info.context
    return await _declare(
        context, lambda: Asked("updateImageRoute", UPDATE, _update(context, input), _answer)
    )


async def delete_image_route(info: Info, input: ChooseResourceInput) -> ImageRouteResult:
    """Delete a route."""
    context = info.context
    return await _declare(
        context, lambda: Asked("deleteImageRoute", DELETE, wish_of(context, KIND, input), _answer)
    )


def _creation(context: Context, input: CreateImageRouteInput) -> Wish:
    ref = ResourceRef(KIND, ResourceKey(input.namespace, input.name))
    spec, labels = to_json(input.spec), dict(input.labels or {})
    return Wish(ref, context.caller.name, spec, labels, dry_run=input.dry_run)


def _update(context: Context, input: UpdateImageRouteInput) -> Wish:
    spec, labels = to_json(input.spec) or {}, dict(input.labels or {})
    return replace(wish_of(context, KIND, input), spec=spec, labels=labels, dry_run=input.dry_run)


async def _declare(context: Context, asked: Callable[[], Asked]) -> ImageRouteResult:
    return cast("ImageRouteResult", await declare(context, asked))


def _answer(found: Projection, *, dry_run: bool) -> ImageRouteChanged:
    return ImageRouteChanged(image_route=cast("ImageRoute", node_of(found)), dry_run=dry_run)
