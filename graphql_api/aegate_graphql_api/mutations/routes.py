"""Create, change and delete routes where they are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Union, cast

import strawberry

from aegate_core.stores.index.projections import Projection
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.inputs.specs import ImageRouteSpecInput
from aegate_graphql_api.mutations.arguments import ASKED
from aegate_graphql_api.mutations.declaring import CREATE, DELETE, UPDATE, Asked, declare
from aegate_graphql_api.mutations.resource_inputs import (
    ANSWERED,
    CHANGED_SPEC,
    DRY_RUN,
    LABELS,
    NAMESPACE,
    TAKE_OVER,
    VERSION,
    WAS_DRY_RUN,
    ChooseResourceInput,
    change_of,
    creation_of,
    wish_of,
)
from aegate_graphql_api.mutations.resource_problems import ResourceProblems
from aegate_graphql_api.mutations.validating import Judged, validation
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.declared import node_of
from aegate_graphql_api.schema.resources import ImageRoute
from aegate_graphql_api.schema.scalars import StringMap

KIND = "ImageRoute"


@strawberry.type(description="A route after the change, as it is written.", directives=[QUEUE])
class ImageRouteChanged:
    """A route after the change; of a deleted one, as it was."""

    image_route: ImageRoute = strawberry.field(description=ANSWERED)
    dry_run: bool = strawberry.field(description=WAS_DRY_RUN)


ImageRouteResult = Annotated[
    Union[ImageRouteChanged, ResourceProblems],  # noqa: UP007 - strawberry names a Union
    strawberry.union(
        "ImageRouteResult", description="The route after the change, or why nothing was changed."
    ),
]


@strawberry.input(description="A new route.")
class CreateImageRouteInput:
    """A new route."""

    name: str = strawberry.field(description="Its name, such as ct-to-pacs, in lower case.")
    namespace: str = strawberry.field(default="default", description=NAMESPACE)
    labels: StringMap | None = strawberry.field(
        default=None, description='Its labels: {"department": "radiology"}.'
    )
    spec: ImageRouteSpecInput = strawberry.field(
        description="What it takes, and where it goes; to is needed."
    )
    dry_run: bool = strawberry.field(default=False, description=DRY_RUN)


@strawberry.input(description="What is to change of a route; what is not given stays, null removes.")
class UpdateImageRouteInput:
    """What is to change of a route."""

    id: strawberry.ID = strawberry.field(description="Its id, from an answer of this API.")
    labels: StringMap | None = strawberry.field(default=None, description=LABELS)
    spec: ImageRouteSpecInput | None = strawberry.field(
        default=None,
        description=CHANGED_SPEC,
    )
    version: str | None = strawberry.field(default=None, description=VERSION)
    take_over: bool = strawberry.field(default=False, description=TAKE_OVER)
    dry_run: bool = strawberry.field(default=False, description=DRY_RUN)


@strawberry.input(description="A route to be judged: either a new one, or a change of one.")
class ValidateImageRouteInput:
    """A route to be judged."""

    create: CreateImageRouteInput | None = strawberry.field(
        default=None, description="A new one, as in createImageRoute."
    )
    update: UpdateImageRouteInput | None = strawberry.field(
        default=None, description="A change of one, as in updateImageRoute."
    )


async def validate_image_route(
    info: Info, input: Annotated[ValidateImageRouteInput, ASKED]
) -> ImageRouteResult:
    """Judge a route without writing."""
    context = info.context
    judged = Judged(
        "validateImageRoute", KIND, lambda create: creation_of(context, KIND, create, create.name), _answer
    )
    return await _declare(context, lambda: validation(context, judged, input.create, input.update))


async def create_image_route(info: Info, input: Annotated[CreateImageRouteInput, ASKED]) -> ImageRouteResult:
    """Create a route."""
    context = info.context
    return await _declare(
        context,
        lambda: Asked(
            "createImageRoute",
            CREATE,
            creation_of(context, KIND, input, input.name, dry_run=input.dry_run),
            _answer,
        ),
    )


async def update_image_route(info: Info, input: Annotated[UpdateImageRouteInput, ASKED]) -> ImageRouteResult:
    """Change a route."""
    context = info.context
    return await _declare(
        context,
        lambda: Asked(
            "updateImageRoute", UPDATE, change_of(context, KIND, input, dry_run=input.dry_run), _answer
        ),
    )


async def delete_image_route(info: Info, input: Annotated[ChooseResourceInput, ASKED]) -> ImageRouteResult:
    """Delete a route."""
    context = info.context
    return await _declare(
        context,
        lambda: Asked(
            "deleteImageRoute", DELETE, wish_of(context, KIND, input, dry_run=input.dry_run), _answer
        ),
    )


async def _declare(context: Context, asked: Callable[[], Asked]) -> ImageRouteResult:
    return cast("ImageRouteResult", await declare(context, asked))


def _answer(found: Projection, *, dry_run: bool) -> ImageRouteChanged:
    return ImageRouteChanged(image_route=cast("ImageRoute", node_of(found)), dry_run=dry_run)
