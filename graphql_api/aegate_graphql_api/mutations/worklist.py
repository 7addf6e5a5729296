"""Put patients on the worklist, change what is scheduled, cancel it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Union, cast

import strawberry
from strawberry.utils.str_converters import to_camel_case

from aegate_core.database import Database
from aegate_core.dicom.worklist import StepStatus
from aegate_core.errors import InvalidAttributes, VersionConflict
from aegate_core.services import worklist
from aegate_core.services.worklist import Changed, Seen, Wished
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.inputs.worklist import WorklistItemAttributesInput, given_of
from aegate_graphql_api.mutations.arguments import ASKED
from aegate_graphql_api.mutations.change import Outcome, change
from aegate_graphql_api.mutations.problems import (
    FieldError,
    NotFoundProblem,
    Problem,
    Refused,
    UnavailableProblem,
    ValidationProblem,
    invalid,
)
from aegate_graphql_api.mutations.selection import check_key
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.node import number_of
from aegate_graphql_api.schema.worklist import WorklistItem, load_items

_ID = "Its id, from an answer of this API."
_VERSION = "The version that it must have, or nothing is changed; left out: any."


@strawberry.input(description="Who is put on the worklist, for what.")
class CreateWorklistItemInput:
    """A new worklist item."""

    partition: str = strawberry.field(
        description="namespace/name of the patient partition that it belongs to, such as default/default."
    )
    attributes: WorklistItemAttributesInput = strawberry.field(
        description="What is scheduled. Needed are patientName, patientId, scheduledStationAeTitle, "
        "scheduledProcedureStepStartDate, scheduledProcedureStepStartTime, modality, and what is to be done, in words "
        "or as codes. Ids that are not given are made up: scheduledProcedureStepId, requestedProcedureId, "
        "studyInstanceUid; and what was requested is then what is to be done."
    )
    idempotency_key: str | None = strawberry.field(
        default=None,
        description="1 to 128 characters, such as a UUID: asked again with the same one, nothing is made a second "
        "time, and the answer is the item that was made then.",
    )


@strawberry.input(description="What is to change of a worklist item; what is not given stays, null empties.")
class UpdateWorklistItemInput:
    """What is to change of a worklist item."""

    worklist_item_id: strawberry.ID = strawberry.field(description=_ID)
    attributes: WorklistItemAttributesInput | None = strawberry.field(
        default=None, description="What is to be otherwise. The scheduledProcedureStepId stays as it is."
    )
    status: StepStatus | None = strawberry.field(
        default=None, description="SCHEDULED takes a cancelled item up again; others cannot be given."
    )
    version: int | None = strawberry.field(default=None, description=_VERSION)


@strawberry.input(description="Which worklist item is cancelled.")
class CancelWorklistItemInput:
    """Which worklist item is cancelled."""

    worklist_item_id: strawberry.ID = strawberry.field(description=_ID)
    version: int | None = strawberry.field(default=None, description=_VERSION)


@strawberry.type(description="A worklist item after the change.", directives=[QUEUE])
class WorklistItemChanged:
    """A worklist item after the change."""

    key: strawberry.Private[int]
    changed: bool = strawberry.field(description="false: it was so already.")

    @strawberry.field(description="The worklist item, as it is now.")
    async def worklist_item(self, info: Info) -> WorklistItem | None:
        """Load it after the change."""
        return cast("WorklistItem | None", await info.context.loader(load_items).load(self.key))


@strawberry.type(
    description="The worklist item is not as you saw it, is there already, or is not to be changed any more.",
    directives=[QUEUE],
)
class WorklistConflictProblem(Problem):
    """It is not as the caller believed."""

    key: strawberry.Private[int | None]

    @strawberry.field(description="The item that stands in the way, as it is now.")
    async def current(self, info: Info) -> WorklistItem | None:
        """Load it."""
        if self.key is None:
            return None
        return cast("WorklistItem | None", await info.context.loader(load_items).load(self.key))


WorklistItemResult = Annotated[
    Union[  # noqa: UP007 - strawberry names a Union
        WorklistItemChanged, ValidationProblem, NotFoundProblem, WorklistConflictProblem, UnavailableProblem
    ],
    strawberry.union(
        "WorklistItemResult", description="The worklist item after the change, or why nothing was changed."
    ),
]


async def create_worklist_item(
    info: Info, input: Annotated[CreateWorklistItemInput, ASKED]
) -> WorklistItemResult:
    """Put a patient on the worklist."""
    context = info.context

    async def work(tx: Database) -> Outcome:
        if input.idempotency_key is not None:
            check_key("input.idempotencyKey", input.idempotency_key)
        wished = Wished(
            input.partition, given_of(input.attributes), context.caller.name, input.idempotency_key
        )
        made = await worklist.create(tx, wished, context.scope, now=context.now)
        return Outcome(
            WorklistItemChanged(key=made.id, changed=made.is_new),
            f"WorklistItem:{made.id}",
            partition=input.partition,
            repeated=not made.is_new,
        )

    return await _changing(context, "createWorklistItem", work)


async def update_worklist_item(
    info: Info, input: Annotated[UpdateWorklistItemInput, ASKED]
) -> WorklistItemResult:
    """Change a worklist item."""
    context = info.context

    async def work(tx: Database) -> Outcome:
        if input.status not in (None, StepStatus.SCHEDULED):
            raise invalid("input.status", "must be SCHEDULED: use cancelWorklistItem to cancel it")
        given = {} if input.attributes is None else given_of(input.attributes)
        done = await worklist.update(
            tx,
            _seen(context, input.worklist_item_id, input.version),
            given,
            reschedule=input.status is not None,
            now=context.now,
        )
        return _outcome(done)

    return await _changing(context, "updateWorklistItem", work)


async def cancel_worklist_item(
    info: Info, input: Annotated[CancelWorklistItemInput, ASKED]
) -> WorklistItemResult:
    """Cancel a worklist item."""
    context = info.context

    async def work(tx: Database) -> Outcome:
        seen = _seen(context, input.worklist_item_id, input.version)
        return _outcome(await worklist.cancel(tx, seen, now=context.now))

    return await _changing(context, "cancelWorklistItem", work)


def _seen(context: Context, id: strawberry.ID, version: int | None) -> Seen:
    return Seen(number_of(id, "WorklistItem"), context.scope, version)


def _outcome(done: Changed) -> Outcome:
    """Return the answer, and what the audit says: which attributes are others now, never what they are."""
    answer = WorklistItemChanged(key=done.id, changed=bool(done.names))
    detail: dict[str, object] = {"attributes": sorted(to_camel_case(name) for name in done.names)}
    target = f"WorklistItem:{done.id}"
    return Outcome(answer, target, detail, partition=done.partition, repeated=not done.names)


async def _changing(
    context: Context, action: str, work: Callable[[Database], Awaitable[Outcome]]
) -> WorklistItemResult:
    """Run a change; what is wrong with attributes is told by argument, and a conflict with the item as it is."""

    async def told(tx: Database) -> Outcome:
        try:
            return await work(tx)
        except InvalidAttributes as error:
            listed = [
                FieldError(field=f"input.attributes.{to_camel_case(name)}", message=said)
                for name, said in error.faults
            ]
            text = "; ".join(f"{fault.field}: {fault.message}" for fault in listed)
            problem = ValidationProblem(code="INVALID_VALUE", message=text, field_errors=listed)
            raise Refused(problem) from error
        except VersionConflict as error:
            key = error.current if isinstance(error.current, int) else None
            raise Refused(WorklistConflictProblem(code="CONFLICT", message=error.message, key=key)) from error

    return cast("WorklistItemResult", await change(context, action, told))
