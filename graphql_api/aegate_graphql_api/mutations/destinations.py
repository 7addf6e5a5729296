"""Hold a destination, let it go on, probe it; send studies by hand; ask the routes again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Union, cast

import strawberry

from aegate_core.database import Database
from aegate_core.dicom.identifiers import ResourceKey, parse_resource_key
from aegate_core.services import deliveries, studies
from aegate_core.services.deliveries import SendByHand
from aegate_core.stores.index.list_studies import STUDIES, UNITS
from aegate_core.stores.listing import Source, read_by
from aegate_core.stores.queue.list_items import DESTINATIONS
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.mutations.change import Outcome, change
from aegate_graphql_api.mutations.problems import (
    NotFoundProblem,
    UnavailableProblem,
    ValidationProblem,
    invalid,
    not_found,
)
from aegate_graphql_api.mutations.selection import MOST_AT_ONCE, check_key, check_reason
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.close_unit import CloseOutcome
from aegate_graphql_api.schema.destination import Destination, by_ae
from aegate_graphql_api.schema.node import key_of, number_of
from aegate_graphql_api.schema.queue_item import QueueItem, load_items


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
    strawberry.union("DestinationResult"),
]


async def hold_destination(info: Info, id: strawberry.ID, reason: str | None = None) -> DestinationResult:
    """Hold all that goes to a destination; what is being sent stops between two instances."""
    actor, now = info.context.caller.name, info.context.now

    async def act(tx: Database, ae: ResourceKey) -> bool:
        return await deliveries.hold_destination(tx, ae, actor=actor, reason=reason, now=now)

    return await _change(info.context, "holdDestination", id, reason, act)


async def resume_destination(info: Info, id: strawberry.ID, reason: str | None = None) -> DestinationResult:
    """Let a held destination go on."""
    actor, now = info.context.caller.name, info.context.now

    async def act(tx: Database, ae: ResourceKey) -> bool:
        return await deliveries.resume_destination(tx, ae, actor=actor, reason=reason, now=now)

    return await _change(info.context, "resumeDestination", id, reason, act)


async def retry_destination(info: Info, id: strawberry.ID, reason: str | None = None) -> DestinationResult:
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
        await _must_see(tx, context, DESTINATIONS, "ae", [ae])
        changed = await act(tx, parse_resource_key(ae))
        detail: dict[str, object] = {"changed": changed, "reason": reason}
        return Outcome(DestinationChanged(ae=ae, changed=changed), f"Destination:{ae}", detail)

    return cast("DestinationResult", await change(context, action, work))


async def _must_see(
    tx: Database, context: Context, source: Source, column: str, keys: Sequence[object]
) -> None:
    """Raise Refused NOT_FOUND unless the caller sees a row for each key: what is somebody else's is not there."""
    found = await read_by(tx, source, column, keys, context.scope)
    if len(found) < len(keys):
        raise not_found(f"{len(keys) - len(found)} of {len(keys)} are not there: read the list again")


@strawberry.type(
    description="What was put into the queue; with the same idempotencyKey, what was then.",
    directives=[QUEUE],
)
class StudiesSent:
    """Queue items made by hand."""

    keys: strawberry.Private[tuple[int, ...]]
    dry_run: bool

    @strawberry.field(description="How many queue items; with dryRun, how many there would be.")
    def count(self) -> int:
        """Count."""
        return len(self.keys)

    @strawberry.field(description="The queue items; none with dryRun.")
    async def items(self, info: Info) -> list[QueueItem]:
        """Load them after the change. What a dry run made was taken back, and another may have its ids by now."""
        if self.dry_run:
            return []
        found = await info.context.loader(load_items).load_many(list(self.keys))
        return [item for item in cast("list[QueueItem | None]", found) if item is not None]


SendResult = Annotated[
    Union[StudiesSent, ValidationProblem, NotFoundProblem, UnavailableProblem],  # noqa: UP007 - strawberry names a Union
    strawberry.union("SendResult"),
]


@strawberry.input(description="Which studies go where, by hand.")
class SendStudiesInput:
    """Which studies go where."""

    study_ids: list[strawberry.ID]
    destination_ids: list[strawberry.ID]
    idempotency_key: str = strawberry.field(description="1 to 128 characters; the same one sends once.")
    priority: int = 50
    dry_run: bool = False


async def send_studies(info: Info, input: SendStudiesInput) -> SendResult:
    """Send studies to destinations by hand."""
    context = info.context

    async def work(tx: Database) -> Outcome:
        request = _request(input, context.caller.name)
        await _must_see(tx, context, DESTINATIONS, "ae", [str(d) for d in request.destinations])
        await _must_see(tx, context, STUDIES, "id", request.study_ids)
        keys = await deliveries.send_studies(tx, request, now=context.now)
        answer = StudiesSent(keys=keys, dry_run=input.dry_run)
        detail: dict[str, object] = {
            "items": list(keys),
            "destinations": [str(d) for d in request.destinations],
            "idempotencyKey": request.idempotency_key,
        }
        target = "Study:" + ",".join(str(s) for s in request.study_ids)
        return Outcome(answer, target, detail, dry_run=input.dry_run)

    return cast("SendResult", await change(context, "sendStudies", work))


def _request(input: SendStudiesInput, actor: str) -> SendByHand:
    if not 1 <= len(input.study_ids) * len(input.destination_ids) <= MOST_AT_ONCE:
        raise invalid(
            "input", f"studies times destinations must be 1 to {MOST_AT_ONCE}: send in several requests"
        )
    check_key("input.idempotencyKey", input.idempotency_key)
    if not 0 <= input.priority <= 100:
        raise invalid("input.priority", f"must be 0 to 100, got {input.priority}")
    return SendByHand(
        study_ids=tuple(dict.fromkeys(number_of(i, "Study") for i in input.study_ids)),
        destinations=tuple(
            dict.fromkeys(parse_resource_key(key_of(i, "Destination")) for i in input.destination_ids)
        ),
        actor=actor,
        idempotency_key=input.idempotency_key,
        priority=input.priority,
    )


@strawberry.type(description="What the routes made of it now.", directives=[QUEUE])
class Rerouted:
    """What the routes made of it now."""

    outcome: CloseOutcome
    queued: int = strawberry.field(description="New queue items.")


RerouteResult = Annotated[
    Union[Rerouted, ValidationProblem, NotFoundProblem, UnavailableProblem],  # noqa: UP007 - strawberry names a Union
    strawberry.union("RerouteResult"),
]


async def reroute(info: Info, close_unit_id: strawberry.ID) -> RerouteResult:
    """Ask the routes again about a unit; enqueue what they now want and no destination has."""
    context = info.context

    async def work(tx: Database) -> Outcome:
        unit = number_of(close_unit_id, "CloseUnit")
        await _must_see(tx, context, UNITS, "id", [unit])
        closed = await studies.reroute(tx, unit, actor=context.caller.name, now=context.now)
        answer = Rerouted(outcome=CloseOutcome(closed.outcome), queued=closed.deliveries)
        detail: dict[str, object] = {"outcome": closed.outcome, "queued": closed.deliveries}
        return Outcome(answer, f"CloseUnit:{unit}", detail)

    return cast("RerouteResult", await change(context, "reroute", work))
