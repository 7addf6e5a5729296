"""Operation: a change of many that goes on by itself, how far it is, and what became of each thing.

Read with DICOM_QUEUE; imports of locations also by those who may import, see `visible`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, cast

import strawberry

from aegate_core.database import as_datetime, as_json
from aegate_core.services.locations import IMPORT
from aegate_core.stores.listing import EVERYTHING, AllOf, AnyOf, Compare, Filter, Op, read_where
from aegate_core.stores.queue.operations import OPERATION_ORDER, OPERATIONS, RESULT_ORDER, RESULTS
from aegate_graphql_api.connections import (
    DEFAULT_FIRST,
    After,
    Asked,
    Before,
    Connection,
    First,
    Id,
    Last,
    Listing,
    connection,
)
from aegate_graphql_api.context import Context, Info, moment
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import EITHER, QUEUE, Caller
from aegate_graphql_api.schema.node import Node, global_id, number_of


@strawberry.enum(description="How an operation goes.")
class OperationState(Enum):
    """States of an operation."""

    SCHEDULED = strawberry.enum_value("SCHEDULED", description="It begins within a second.")
    RUNNING = strawberry.enum_value(
        "RUNNING", description="Some batches are done, more follow by themselves."
    )
    COMPLETED = strawberry.enum_value(
        "COMPLETED", description="All is done; some may have been left as they were."
    )
    CANCELED = strawberry.enum_value(
        "CANCELED", description="Somebody ended it; what was changed before stays changed."
    )
    FAILED = strawberry.enum_value(
        "FAILED", description="It cannot go on, errorCode says why; what was changed before stays changed."
    )


@strawberry.enum(description="What became of one thing of an operation.")
class OperationOutcome(Enum):
    """Outcomes of one thing."""

    CHANGED = strawberry.enum_value("CHANGED", description="It was changed.")
    ASKED = strawberry.enum_value(
        "ASKED", description="It was being sent: it takes effect between two images, within a second."
    )
    LEFT = strawberry.enum_value("LEFT", description="Not possible; because says why.")


@strawberry.type(description="What became of one thing of an operation.", directives=[QUEUE])
class OperationResult:
    """One thing's outcome."""

    n: int = strawberry.field(description="Its place in the operation, from 1.")
    target_id: strawberry.ID = strawberry.field(
        description="The id of what it is about, such as a QueueItem: ask for it with node(id)."
    )
    outcome: OperationOutcome | None = strawberry.field(description="Null: not yet.")
    because: str | None = strawberry.field(
        description="Why it was left: the state it was in, such as COMPLETED, or NOT_FOUND, IMAGES_REMOVED, "
        "CONFLICT, INVALID_VALUE; UNCHANGED: it was so already, or no route wants more of it."
    )


@strawberry.type(
    description="A change of many. It is done in batches of at most 500, each with its audit row, by whichever API "
    "process has time: it goes on when one of them ends or is killed. An import of locations is one, "
    "too, over at once: AE_EDITOR for all namespaces reads it. All others need DICOM_QUEUE.",
    directives=[EITHER],
)
class Operation(Node):
    """A change of many."""

    key: strawberry.Private[int]
    target_kind: strawberry.Private[str]
    action: str = strawberry.field(
        description="The mutation that asked for it, such as holdQueueItems; importLocations: a file of locations."
    )
    state: OperationState = strawberry.field(description="How it goes.")
    requested_by: str = strawberry.field(description="Whose token asked for it.")
    reason: str | None = strawberry.field(description="What they gave as the reason.")
    total: int = strawberry.field(description="How many things it is about, as found when it was asked for.")
    processed: int = strawberry.field(description="How many of them are done with, in their order.")
    changed_count: int = strawberry.field(description="How many of these were changed.")
    asked_count: int = strawberry.field(
        description="How many of these were being sent: it takes effect between two images."
    )
    left_count: int = strawberry.field(description="How many of these were left as they were.")
    canceled_by: str | None = strawberry.field(description="Who ended it early.")
    error_code: str | None = strawberry.field(
        description="Why it failed, such as INTERNAL: the log of the API tells more."
    )
    error_message: str | None = strawberry.field(
        description="Why it failed, or why its batch has to be tried again, in words."
    )
    failures: int = strawberry.field(
        description="How often in a row its next batch failed; after 12 times it is FAILED."
    )
    retry_at: datetime | None = strawberry.field(description="When that batch is tried again.")
    dry_run: bool = strawberry.field(
        description="True: each thing is tried and taken back; the results tell what would become of it."
    )
    created_at: datetime = strawberry.field(description="When it was asked for.")
    started_at: datetime | None = strawberry.field(description="When its first batch was done.")
    finished_at: datetime | None = strawberry.field(description="When it ended, however it did.")

    @strawberry.field(
        description="What became of each thing, in its order; of an import of locations nothing is told.",
        directives=[QUEUE],
    )
    async def results(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
        self,
        info: Info,
        outcome: Annotated[
            OperationOutcome | None,
            strawberry.argument(description="Those of this outcome alone; left out: all."),
        ] = None,
        first: First = DEFAULT_FIRST,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[OperationResult]:
        """Page through the things."""
        where: list[Filter] = [Compare("operation", Op.EQ, self.key)]
        if outcome is not None:
            where.append(Compare("outcome", Op.EQ, outcome.value))
        asked = (self.key, outcome)
        listing = Listing("operationResults", RESULTS, RESULT_ORDER, AllOf(tuple(where)), asked)
        kind = self.target_kind
        return await connection(
            info.context, listing, lambda row: _result_of(row, kind), page=Asked(first, after, last, before)
        )


async def operations(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
    info: Info,
    state: Annotated[
        OperationState | None, strawberry.argument(description="Those in this state alone; left out: all.")
    ] = None,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[Operation]:
    """List operations, newest first."""
    parts = [visible(info.context.caller)]
    if state is not None:
        parts.append(Compare("state", Op.EQ, state.value))
    listing = Listing("operations", OPERATIONS, OPERATION_ORDER, AllOf(tuple(parts)), state)
    return await connection(info.context, listing, operation_of, page=Asked(first, after, last, before))


def visible(caller: Caller) -> Filter:
    """Return which operations ``caller`` may read, within their scope: without DICOM_QUEUE the imports of locations.

    These are of all namespaces, as locations are: nobody else may import any.
    """
    if Permission.DICOM_QUEUE in caller.permissions:
        return EVERYTHING
    if Permission.AE_EDITOR in caller.permissions and caller.namespaces is None:
        return Compare("action", Op.EQ, IMPORT)
    return AnyOf(())


async def operation(info: Info, id: Id) -> Operation | None:
    """Return one operation."""
    return cast(
        "Operation | None", await info.context.loader(load_operations).load(number_of(id, "Operation"))
    )


async def load_operations(context: Context, keys: list[int]) -> list[Operation | None]:
    """Load operations by their keys."""
    where = AllOf((Compare("id", Op.IN, keys), visible(context.caller)))
    rows = await read_where(context.db, OPERATIONS, where, context.scope)
    found = {int(str(r["id"])): operation_of(r) for r in rows}
    return [found.get(key) for key in keys]


def operation_of(row: Mapping[str, Any]) -> Operation:
    """Return a row of OPERATIONS as its type."""
    arguments = cast("Mapping[str, Any]", as_json(row["arguments"]))
    return Operation(
        id=global_id("Operation", row["id"]),
        key=int(row["id"]),
        target_kind=row["target_kind"],
        action=row["action"],
        state=OperationState(row["state"]),
        requested_by=row["actor"],
        reason=arguments.get("reason"),
        total=int(row["total"]),
        processed=int(row["processed"]),
        changed_count=int(row["changed"]),
        asked_count=int(row["asked"]),
        left_count=int(row["refused"]),
        canceled_by=row["canceled_by"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        failures=int(row["failures"] or 0),
        retry_at=moment(row["retry_at"]),
        dry_run=bool(arguments.get("dryRun")),
        created_at=as_datetime(row["created_at"]),
        started_at=moment(row["started_at"]),
        finished_at=moment(row["finished_at"]),
    )


def _result_of(row: Mapping[str, Any], kind: str) -> OperationResult:
    outcome = row["outcome"]
    return OperationResult(
        n=int(row["n"]),
        target_id=global_id(kind, row["target"]),
        outcome=OperationOutcome(outcome) if outcome else None,
        because=row["because"],
    )
