"""Create, change, delete, enable and suspend Application Entities where they are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Union, cast

import strawberry

from aegate_core.services.manifests import Wish
from aegate_core.stores.index.projections import Projection
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.inputs.specs import ApplicationEntitySpecInput, to_json
from aegate_graphql_api.mutations.arguments import ASKED
from aegate_graphql_api.mutations.declaring import CREATE, DELETE, UPDATE, Asked, declare
from aegate_graphql_api.mutations.resource_inputs import (
    ANSWERED,
    CHANGED_SPEC,
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
from aegate_graphql_api.permissions import ENTITIES
from aegate_graphql_api.schema.declared import node_of
from aegate_graphql_api.schema.resources import ApplicationEntity
from aegate_graphql_api.schema.scalars import StringMap

KIND = "ApplicationEntity"


@strawberry.type(
    description="An Application Entity after the change, as it is written.", directives=[ENTITIES]
)
class ApplicationEntityChanged:
    """An AE after the change; of a deleted one, as it was."""

    application_entity: ApplicationEntity = strawberry.field(description=ANSWERED)
    dry_run: bool = strawberry.field(description=WAS_DRY_RUN)


ApplicationEntityResult = Annotated[
    Union[ApplicationEntityChanged, ResourceProblems],  # noqa: UP007 - strawberry names a Union
    strawberry.union(
        "ApplicationEntityResult",
        description="The Application Entity after the change, or why nothing was changed.",
    ),
]


@strawberry.input(description="A new Application Entity.")
class CreateApplicationEntityInput:
    """A new AE."""

    namespace: str = strawberry.field(default="default", description=NAMESPACE)
    name: str | None = strawberry.field(
        default=None,
        description="Name, by which routes know it. Absent: the title in lower case with - for _, space and dot.",
    )
    labels: StringMap | None = strawberry.field(
        default=None, description="Labels, by which routes may select it."
    )
    spec: ApplicationEntitySpecInput = strawberry.field(
        description="What it is; title, node and port are needed."
    )


@strawberry.input(
    description="What is to change of an Application Entity; what is not given stays, null removes."
)
class UpdateApplicationEntityInput:
    """What is to change of an AE."""

    id: strawberry.ID = strawberry.field(description="Its id, from an answer of this API.")
    labels: StringMap | None = strawberry.field(default=None, description=LABELS)
    spec: ApplicationEntitySpecInput | None = strawberry.field(
        default=None,
        description=CHANGED_SPEC,
    )
    version: str | None = strawberry.field(default=None, description=VERSION)
    take_over: bool = strawberry.field(default=False, description=TAKE_OVER)


@strawberry.input(
    description="An Application Entity that is to be made, or one that is to change: give one of both."
)
class ValidateApplicationEntityInput:
    """What is to be judged."""

    create: CreateApplicationEntityInput | None = strawberry.field(
        default=None, description="One that is to be made."
    )
    update: UpdateApplicationEntityInput | None = strawberry.field(
        default=None, description="One that is to change."
    )


async def create_application_entity(
    info: Info, input: Annotated[CreateApplicationEntityInput, ASKED]
) -> ApplicationEntityResult:
    """Create an AE."""
    context = info.context
    return await _declare(
        context, lambda: Asked("createApplicationEntity", CREATE, _creation(context, input), _answer)
    )


async def update_application_entity(
    info: Info, input: Annotated[UpdateApplicationEntityInput, ASKED]
) -> ApplicationEntityResult:
    """Change an AE."""
    context = info.context
    return await _declare(
        context, lambda: Asked("updateApplicationEntity", UPDATE, change_of(context, KIND, input), _answer)
    )


async def delete_application_entity(
    info: Info, input: Annotated[ChooseResourceInput, ASKED]
) -> ApplicationEntityResult:
    """Delete an AE."""
    context = info.context
    return await _declare(
        context,
        lambda: Asked(
            "deleteApplicationEntity", DELETE, wish_of(context, KIND, input, dry_run=input.dry_run), _answer
        ),
    )


async def set_application_entity_enabled(
    info: Info,
    input: Annotated[ChooseResourceInput, ASKED],
    enabled: Annotated[bool, strawberry.argument(description="true: on. false: off.")],
) -> ApplicationEntityResult:
    """Switch an AE on or off."""
    return await _switch(info.context, "setApplicationEntityEnabled", input, {"enabled": enabled})


async def set_application_entity_suspended(
    info: Info,
    input: Annotated[ChooseResourceInput, ASKED],
    suspended: Annotated[
        bool, strawberry.argument(description="true: the operator leaves it alone. false: it looks after it.")
    ],
) -> ApplicationEntityResult:
    """Have the operator leave an AE alone, or take it up again."""
    return await _switch(info.context, "setApplicationEntitySuspended", input, {"suspend": suspended})


async def validate_application_entity(
    info: Info, input: Annotated[ValidateApplicationEntityInput, ASKED]
) -> ApplicationEntityResult:
    """Judge an AE without writing."""
    context = info.context
    judged = Judged("validateApplicationEntity", KIND, lambda create: _creation(context, create), _answer)
    return await _declare(context, lambda: validation(context, judged, input.create, input.update))


async def _switch(
    context: Context, action: str, input: ChooseResourceInput, spec: dict[str, object]
) -> ApplicationEntityResult:
    return await _declare(
        context,
        lambda: Asked(
            action, UPDATE, replace(wish_of(context, KIND, input, dry_run=input.dry_run), spec=spec), _answer
        ),
    )


def _creation(context: Context, input: CreateApplicationEntityInput) -> Wish:
    name = input.name if input.name is not None else _name_of(str(to_json(input.spec).get("title") or ""))
    return creation_of(context, KIND, input, name)


async def _declare(context: Context, asked: Callable[[], Asked]) -> ApplicationEntityResult:
    return cast("ApplicationEntityResult", await declare(context, asked))


def _answer(found: Projection, *, dry_run: bool) -> ApplicationEntityChanged:
    shown = cast("ApplicationEntity", node_of(found))
    return ApplicationEntityChanged(application_entity=shown, dry_run=dry_run)


def _name_of(title: str) -> str:
    """Return the one name that an AE of that title may have (the CRD's rule)."""
    return "".join("-" if c in "_ ." else c for c in title.lower())
