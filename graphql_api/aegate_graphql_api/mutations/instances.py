"""Send single images of a queue item again."""

from __future__ import annotations

from typing import Annotated, Union, cast

import strawberry

from aegate_core.database import Database
from aegate_core.services import deliveries
from aegate_core.stores.partitions import partition_of
from aegate_core.stores.queue.history import Note
from aegate_graphql_api.context import Info
from aegate_graphql_api.mutations.arguments import ASKED
from aegate_graphql_api.mutations.change import Outcome, change
from aegate_graphql_api.mutations.problems import (
    ConflictProblem,
    NotFoundProblem,
    UnavailableProblem,
    ValidationProblem,
    invalid,
)
from aegate_graphql_api.mutations.selection import MOST_AT_ONCE, ChangeGuard, check_reason, there
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.node import number_of
from aegate_graphql_api.schema.queue_item import QueueItem, load_items


@strawberry.input(description="Which images of an item are sent again.")
class RetryInstancesInput:
    """Which images of an item."""

    queue_item_id: strawberry.ID = strawberry.field(description="The id of the queue item.")
    arrival_ids: list[str] = strawberry.field(
        description="arrivalId of each image, as instances of the item has it; 1 to 500."
    )
    reason: str | None = strawberry.field(default=None, description="Why, at most 256 characters.")
    version: int | None = strawberry.field(
        default=None, description="The version that the item must have, or nothing is changed."
    )
    dry_run: bool = strawberry.field(default=False, description="Do nothing, say what would be done.")


@strawberry.type(description="What was done to single images of a queue item.", directives=[QUEUE])
class InstancesRetried:
    """What was done."""

    key: strawberry.Private[int]
    dry_run: bool = strawberry.field(description="True: nothing was changed.")
    retried: list[str] = strawberry.field(description="arrivalId of those that are sent again.")
    left: list[str] = strawberry.field(
        description="arrivalId of those that are not of the item, were not given up or cancelled, or whose image "
        "retention removed."
    )

    @strawberry.field(description="The item, as it is now.")
    async def queue_item(self, info: Info) -> QueueItem | None:
        """Load it after the change."""
        return cast("QueueItem | None", await info.context.loader(load_items).load(self.key))


RetryInstancesResult = Annotated[
    Union[InstancesRetried, ValidationProblem, NotFoundProblem, ConflictProblem, UnavailableProblem],  # noqa: UP007 - strawberry names a Union
    strawberry.union(
        "RetryInstancesResult", description="Which images are sent again, or why nothing was changed."
    ),
]


async def retry_instances(info: Info, input: Annotated[RetryInstancesInput, ASKED]) -> RetryInstancesResult:
    """Send single images of an item again."""
    context = info.context

    async def work(tx: Database) -> Outcome:
        check_reason(input.reason)
        wanted = list(dict.fromkeys(input.arrival_ids))
        if not 1 <= len(wanted) <= MOST_AT_ONCE or any("\0" in a for a in wanted):
            raise invalid("input.arrivalIds", f"must be 1 to {MOST_AT_ONCE} arrivalIds, got {len(wanted)}")
        key = number_of(input.queue_item_id, "QueueItem")
        await there(tx, context, [key], ChangeGuard(version=input.version))
        note = Note(context.caller.name, context.now, "RETRIED", input.reason)
        retried = await deliveries.retry_instances(tx, key, wanted, note=note)
        left = [a for a in wanted if a not in retried]
        answer = InstancesRetried(key=key, dry_run=input.dry_run, retried=list(retried), left=left)
        # What is left may be of no item at all: whatever a caller wrote there. The audit keeps its rows for ever.
        detail: dict[str, object] = {
            "retried": list(retried),
            "leftCount": len(left),
            "reason": input.reason,
        }
        partition = await partition_of(tx, "QueueItem", [key])
        return Outcome(answer, f"QueueItem:{key}", detail, dry_run=input.dry_run, partition=partition)

    return cast("RetryInstancesResult", await change(context, "retryQueueItemInstances", work))
