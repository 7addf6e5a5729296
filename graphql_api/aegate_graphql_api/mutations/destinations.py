"""Hold a destination, let it go on, probe it; ask the routes again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Union, cast

import strawberry

from aegate_core.database import Database
from aegate_core.dicom.identifiers import ResourceKey, parse_resource_key
from aegate_core.services import deliveries, studies
from aegate_core.stores.index.list_studies import UNITS
from aegate_core.stores.partitions import partition_of
from aegate_core.stores.queue.list_items import DESTINATIONS
from aegate_graphql_api.connections import Id
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.mutations.arguments import Reason
from aegate_graphql_api.mutations.change import Outcome, change
from aegate_graphql_api.mutations.problems import (
    NotFoundProblem,
    UnavailableProblem,
    ValidationProblem,
)
from aegate_graphql_api.mutations.selection import check_reason, must_see
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.close_unit import CloseOutcome
from aegate_graphql_api.schema.destination import Destination, by_ae
from aegate_graphql_api.schema.node import key_of, number_of


@strawberry.type(description="A destination after the change.", directives=[QUEUE])
class DestinationChanged:
    """A destination after the change."""

    ae: strawberry.Private[str]
    changed: bool = strawberry.field(description="False: it was so already, or it is not in trouble.")

    @strawberry.field(description="As it is now.")
    async def destination(self, info: Info) -> Destination | None:
        """Load it after the change."""
        return await by_ae(info.context, self.ae)


DestinationResult = Annotated[
    Union[DestinationChanged, ValidationProblem, NotFoundProblem, UnavailableProblem],  # noqa: UP007 - strawberry names a Union
    strawberry.union(
        "DestinationResult", description="The destination after the change, or why nothing was changed."
    ),
]


async def hold_destination(info: Info, id: Id, reason: Reason = None) -> DestinationResult:
    """Hold all that goes to a destination; what is being sent stops between two instances."""
    actor, now = info.context.caller.name, info.context.now

    async def act(tx: Database, ae: ResourceKey) -> bool:
        return await deliveries.hold_destination(tx, ae, actor=actor, reason=reason, now=now)

    return await _change(info.context, "holdDestination", id, reason, act)


async def resume_destination(info: Info, id: Id, reason: Reason = None) -> DestinationResult:
    """Let a held destination go on."""
    actor, now = info.context.caller.name, info.context.now

    async def act(tx: Database, ae: ResourceKey) -> bool:
        return await deliveries.resume_destination(tx, ae, actor=actor, reason=reason, now=now)

    return await _change(info.context, "resumeDestination", id, reason, act)


async def retry_destination(info: Info, id: Id, reason: Reason = None) -> DestinationResult:
    """Probe a destination in trouble at once."""
    now = info.context.now

    async def act(tx: Database, ae: ResourceKey) -> bool:
        return await deliveries.probe_destination(tx, ae, now=now)

    return await _change(info.context, "retryDestination", id, reason, act)


async def _change(
    context: Context,
    action: str,
    id: strawberry.ID,
    reason: str | None,
    act: Callable[[Database, ResourceKey], Awaitable[bool]],
) -> DestinationResult:
    async def work(tx: Database) -> Outcome:
        check_reason(reason)
        ae = key_of(id, "Destination")
        await must_see(tx, context, DESTINATIONS, "ae", [ae])
        changed = await act(tx, parse_resource_key(ae))
        detail: dict[str, object] = {"changed": changed, "reason": reason}
        answer = DestinationChanged(ae=ae, changed=changed)
        partition = await partition_of(tx, "Destination", [ae])
        return Outcome(answer, f"Destination:{ae}", detail, partition=partition)

    return cast("DestinationResult", await change(context, action, work))


@strawberry.type(description="What the routes made of it now.", directives=[QUEUE])
class Rerouted:
    """What the routes made of it now."""

    outcome: CloseOutcome = strawberry.field(description="What came of it.")
    queued: int = strawberry.field(description="New queue items.")


RerouteResult = Annotated[
    Union[Rerouted, ValidationProblem, NotFoundProblem, UnavailableProblem],  # noqa: UP007 - strawberry names a Union
    strawberry.union("RerouteResult", description="What the routes made of it, or why nothing was changed."),
]


async def reroute(
    info: Info,
    close_unit_id: Annotated[
        strawberry.ID,
        strawberry.argument(
            description="The id of what is complete and goes nowhere, or not where it should."
        ),
    ],
) -> RerouteResult:
    """Ask the routes again about a unit; enqueue what they now want and no destination has."""
    context = info.context

    async def work(tx: Database) -> Outcome:
        unit = number_of(close_unit_id, "CloseUnit")
        await must_see(tx, context, UNITS, "id", [unit])
        closed = await studies.reroute(tx, unit, actor=context.caller.name, now=context.now)
        answer = Rerouted(outcome=CloseOutcome(closed.outcome), queued=closed.deliveries)
        detail: dict[str, object] = {"outcome": closed.outcome, "queued": closed.deliveries}
        partition = await partition_of(tx, "CloseUnit", [unit])
        return Outcome(answer, f"CloseUnit:{unit}", detail, partition=partition)

    return cast("RerouteResult", await change(context, "reroute", work))
