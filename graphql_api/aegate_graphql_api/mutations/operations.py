"""End an operation before it is through, or let it go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Union, cast

import strawberry

from aegate_core.database import Database
from aegate_core.services import operations
from aegate_core.stores.listing import read_by
from aegate_core.stores.partitions import partition_of
from aegate_core.stores.queue.operations import OPERATIONS
from aegate_graphql_api.connections import Id
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.mutations.change import Outcome, change
from aegate_graphql_api.mutations.problems import (
    NotFoundProblem,
    UnavailableProblem,
    ValidationProblem,
    not_found,
)
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.node import number_of
from aegate_graphql_api.schema.operation import Operation, load_operations


@strawberry.type(description="An operation after the change.", directives=[QUEUE])
class OperationChanged:
    """An operation after the change."""

    key: strawberry.Private[int]
    changed: bool = strawberry.field(
        description="False: it had ended already; of one to be resumed: it goes on already, or nothing is left."
    )

    @strawberry.field(description="As it is now.")
    async def operation(self, info: Info) -> Operation | None:
        """Load it after the change."""
        return cast("Operation | None", await info.context.loader(load_operations).load(self.key))


CancelOperationResult = Annotated[
    Union[OperationChanged, ValidationProblem, NotFoundProblem, UnavailableProblem],  # noqa: UP007 - strawberry names a Union
    strawberry.union(
        "CancelOperationResult", description="The operation after the change, or why nothing was changed."
    ),
]


async def cancel_operation(info: Info, id: Id) -> CancelOperationResult:
    """End an operation before its next batch."""
    context = info.context

    async def end(tx: Database, key: int) -> bool:
        return await operations.cancel(tx, key, actor=context.caller.name, now=context.now)

    return await _change(context, "cancelOperation", id, end)


async def resume_operation(info: Info, id: Id) -> CancelOperationResult:
    """Let an operation that failed or was cancelled go on."""
    context = info.context

    async def go_on(tx: Database, key: int) -> bool:
        return await operations.reopen(tx, key, now=context.now)

    return await _change(context, "resumeOperation", id, go_on)


async def _change(
    context: Context, action: str, id: strawberry.ID, act: Callable[[Database, int], Awaitable[bool]]
) -> CancelOperationResult:
    async def work(tx: Database) -> Outcome:
        key = number_of(id, "Operation")
        if not await read_by(tx, OPERATIONS, "id", [key], context.scope):
            raise not_found("there is no such operation: read the list again")
        changed = await act(tx, key)
        answer = OperationChanged(key=key, changed=changed)
        partition = await partition_of(tx, "Operation", [key])
        return Outcome(answer, f"Operation:{key}", {"changed": changed}, partition=partition)

    return cast("CancelOperationResult", await change(context, action, work))
