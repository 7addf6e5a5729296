"""Create, change and delete patient partitions where they are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Union, cast

import strawberry

from aegate_core.stores.index.projections import Projection
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.inputs.specs import PatientPartitionSpecInput
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
from aegate_graphql_api.permissions import ENTITIES
from aegate_graphql_api.schema.declared import node_of
from aegate_graphql_api.schema.resources import PatientPartition
from aegate_graphql_api.schema.scalars import StringMap

KIND = "PatientPartition"


@strawberry.type(description="A patient partition after the change, as it is written.", directives=[ENTITIES])
class PatientPartitionChanged:
    """A patient partition after the change; of a deleted one, as it was."""

    patient_partition: PatientPartition = strawberry.field(description=ANSWERED)
    dry_run: bool = strawberry.field(description=WAS_DRY_RUN)


PatientPartitionResult = Annotated[
    Union[PatientPartitionChanged, ResourceProblems],  # noqa: UP007 - strawberry names a Union
    strawberry.union(
        "PatientPartitionResult",
        description="The patient partition after the change, or why nothing was changed.",
    ),
]


@strawberry.input(description="A new patient partition.")
class CreatePatientPartitionInput:
    """A new patient partition."""

    name: str = strawberry.field(description="Its name, such as main-house, in lower case.")
    namespace: str = strawberry.field(default="default", description=NAMESPACE)
    labels: StringMap | None = strawberry.field(
        default=None, description='Its labels: {"department": "radiology"}.'
    )
    spec: PatientPartitionSpecInput = strawberry.field(
        description="Who issues its patient ids, and how long things are kept."
    )
    dry_run: bool = strawberry.field(default=False, description=DRY_RUN)


@strawberry.input(
    description="What is to change of a patient partition; what is not given stays, null removes."
)
class UpdatePatientPartitionInput:
    """What is to change of a patient partition."""

    id: strawberry.ID = strawberry.field(description="Its id, from an answer of this API.")
    labels: StringMap | None = strawberry.field(default=None, description=LABELS)
    spec: PatientPartitionSpecInput | None = strawberry.field(
        default=None,
        description=CHANGED_SPEC,
    )
    version: str | None = strawberry.field(default=None, description=VERSION)
    take_over: bool = strawberry.field(default=False, description=TAKE_OVER)
    dry_run: bool = strawberry.field(default=False, description=DRY_RUN)


@strawberry.input(description="A patient partition to be judged: either a new one, or a change of one.")
class ValidatePatientPartitionInput:
    """A patient partition to be judged."""

    create: CreatePatientPartitionInput | None = strawberry.field(
        default=None, description="A new one, as in createPatientPartition."
    )
    update: UpdatePatientPartitionInput | None = strawberry.field(
        default=None, description="A change of one, as in updatePatientPartition."
    )


async def validate_patient_partition(
    info: Info, input: Annotated[ValidatePatientPartitionInput, ASKED]
) -> PatientPartitionResult:
    """Judge a patient partition without writing."""
    context = info.context
    judged = Judged(
        "validatePatientPartition",
        KIND,
        lambda create: creation_of(context, KIND, create, create.name),
        _answer,
    )
    return await _declare(context, lambda: validation(context, judged, input.create, input.update))


async def create_patient_partition(
    info: Info, input: Annotated[CreatePatientPartitionInput, ASKED]
) -> PatientPartitionResult:
    """Create a patient partition."""
    context = info.context
    return await _declare(
        context,
        lambda: Asked(
            "createPatientPartition",
            CREATE,
            creation_of(context, KIND, input, input.name, dry_run=input.dry_run),
            _answer,
        ),
    )


async def update_patient_partition(
    info: Info, input: Annotated[UpdatePatientPartitionInput, ASKED]
) -> PatientPartitionResult:
    """Change a patient partition."""
    context = info.context
    return await _declare(
        context,
        lambda: Asked(
            "updatePatientPartition", UPDATE, change_of(context, KIND, input, dry_run=input.dry_run), _answer
        ),
    )


async def delete_patient_partition(
    info: Info, input: Annotated[ChooseResourceInput, ASKED]
) -> PatientPartitionResult:
    """Delete a patient partition."""
    context = info.context
    return await _declare(
        context,
        lambda: Asked(
            "deletePatientPartition", DELETE, wish_of(context, KIND, input, dry_run=input.dry_run), _answer
        ),
    )


async def _declare(context: Context, asked: Callable[[], Asked]) -> PatientPartitionResult:
    return cast("PatientPartitionResult", await declare(context, asked))


def _answer(found: Projection, *, dry_run: bool) -> PatientPartitionChanged:
    return PatientPartitionChanged(
        patient_partition=cast("PatientPartition", node_of(found)), dry_run=dry_run
    )
