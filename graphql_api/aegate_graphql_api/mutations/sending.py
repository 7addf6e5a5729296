"""Send studies, series or single images to destinations by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Union, cast

import strawberry

from aegate_core.database import Database
from aegate_core.dicom.identifiers import ResourceKey, parse_resource_key
from aegate_core.resources.values import Level
from aegate_core.services import deliveries
from aegate_core.services.deliveries import SendByHand
from aegate_core.services.wanted import Wanted
from aegate_core.stores.index.list_studies import (
    INSTANCE_ORDER,
    INSTANCES,
    SERIES,
    SERIES_ORDER,
    STUDIES,
    STUDY_ORDERS,
)
from aegate_core.stores.listing import EVERYTHING, Filter, Order, Source
from aegate_core.stores.partitions import partition_of
from aegate_core.stores.queue.list_items import DESTINATIONS
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.mutations.arguments import ASKED
from aegate_graphql_api.mutations.change import Outcome, change
from aegate_graphql_api.mutations.many import Many, begun, chosen, counted
from aegate_graphql_api.mutations.problems import (
    ConflictProblem,
    NotFoundProblem,
    UnavailableProblem,
    ValidationProblem,
    invalid,
)
from aegate_graphql_api.mutations.queue_items import OperationStarted
from aegate_graphql_api.mutations.selection import MOST_AT_ONCE, ChangeGuard, check_count, check_key, must_see
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.node import key_of, number_of
from aegate_graphql_api.schema.queue_item import QueueItem, load_items
from aegate_graphql_api.schema.series_where import InstanceWhere, SeriesWhere
from aegate_graphql_api.schema.study import StudyWhere, studies_filter


@strawberry.type(
    description="What was put into the queue; with the same idempotencyKey, what was then.",
    directives=[QUEUE],
)
class StudiesSent:
    """Queue items made by hand."""

    keys: strawberry.Private[tuple[int, ...]]
    dry_run: bool = strawberry.field(description="true: nothing was put into the queue.")
    counted: strawberry.Private[int | None] = None
    """How many there would be, where that was only counted."""

    @strawberry.field(description="How many queue items; with dryRun, how many there would be.")
    def count(self) -> int:
        """Count."""
        return len(self.keys) if self.counted is None else self.counted

    @strawberry.field(description="The queue items; none with dryRun.")
    async def items(self, info: Info) -> list[QueueItem]:
        """Load them after the change. What a dry run made was taken back, and another may have its ids by now."""
        if self.dry_run:
            return []
        found = await info.context.loader(load_items).load_many(list(self.keys))
        return [item for item in cast("list[QueueItem | None]", found) if item is not None]


SendResult = Annotated[
    Union[  # noqa: UP007 - strawberry names a Union
        StudiesSent,
        OperationStarted,
        ValidationProblem,
        NotFoundProblem,
        ConflictProblem,
        UnavailableProblem,
    ],
    strawberry.union(
        "SendResult", description="What was put into the queue, or will be, or why nothing was."
    ),
]


MOST_DESTINATIONS = 20
"""Of one request. By feel: each makes a queue item of each study."""

_DESTINATIONS = "Ids of destinations: the AEs that get them, such as a PACS."
_KEY = "1 to 128 characters, such as a UUID: with the same one, each goes to each receiver once, however often you ask."
_PRIORITY = "0 to 100, the highest goes first; a point is worth a minute of waiting."
_DRY_RUN = "Send nothing, say how many queue items there would be."
_COUNT = (
    "How many {} must match, or nothing is sent; required with search or where, but for a dry run, whose count is "
    "that times the destinations."
)


@strawberry.input(
    description="Which studies go where, by hand: those of some ids, or all that a search and filter find."
)
class SendStudiesInput:
    """Which studies go where."""

    destination_ids: list[strawberry.ID] = strawberry.field(description=_DESTINATIONS)
    idempotency_key: str = strawberry.field(description=_KEY)
    study_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Ids of studies, at most 4,900; one queue item each."
    )
    search: str | None = strawberry.field(default=None, description="As in studies; instead of studyIds.")
    where: StudyWhere | None = strawberry.field(
        default=None, description="As in studies; instead of studyIds, beside search or alone."
    )
    expected_count: int | None = strawberry.field(
        default=None,
        description=_COUNT.format("studies"),
    )
    priority: int = strawberry.field(default=50, description=_PRIORITY)
    dry_run: bool = strawberry.field(default=False, description=_DRY_RUN)


@strawberry.input(
    description="Which series go where, by hand: those of some ids, or all that a search and filter find."
)
class SendSeriesInput:
    """Which series go where."""

    destination_ids: list[strawberry.ID] = strawberry.field(description=_DESTINATIONS)
    idempotency_key: str = strawberry.field(description=_KEY)
    series_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Ids of series, at most 4,900; one queue item each."
    )
    search: str | None = strawberry.field(
        default=None,
        description="As in studies; instead of seriesIds. All series of the studies that it finds, but for modality:, "
        "which is the series' own.",
    )
    where: SeriesWhere | None = strawberry.field(
        default=None, description="Instead of seriesIds, beside search or alone."
    )
    expected_count: int | None = strawberry.field(default=None, description=_COUNT.format("series"))
    priority: int = strawberry.field(default=50, description=_PRIORITY)
    dry_run: bool = strawberry.field(default=False, description=_DRY_RUN)


@strawberry.input(
    description="Which single images go where, by hand: those of some ids, or all that a search and filter find."
)
class SendInstancesInput:
    """Which images go where."""

    destination_ids: list[strawberry.ID] = strawberry.field(description=_DESTINATIONS)
    idempotency_key: str = strawberry.field(description=_KEY)
    instance_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Ids of images (instances), at most 4,900; one queue item each."
    )
    search: str | None = strawberry.field(
        default=None,
        description="As in studies; instead of instanceIds. All images of the studies that it finds, but for "
        "modality:, which is their series' own, and ae:, which is who sent the image last.",
    )
    where: InstanceWhere | None = strawberry.field(
        default=None, description="Instead of instanceIds, beside search or alone."
    )
    expected_count: int | None = strawberry.field(default=None, description=_COUNT.format("images"))
    priority: int = strawberry.field(default=50, description=_PRIORITY)
    dry_run: bool = strawberry.field(default=False, description=_DRY_RUN)


async def send_studies(info: Info, input: Annotated[SendStudiesInput, ASKED]) -> SendResult:
    """Send studies to destinations by hand."""
    return await _send(info.context, "sendStudies", Level.STUDY, input.study_ids, input)


async def send_series(info: Info, input: Annotated[SendSeriesInput, ASKED]) -> SendResult:
    """Send series to destinations by hand."""
    return await _send(info.context, "sendSeries", Level.SERIES, input.series_ids, input)


async def send_instances(info: Info, input: Annotated[SendInstancesInput, ASKED]) -> SendResult:
    """Send images to destinations by hand."""
    return await _send(info.context, "sendInstances", Level.IMAGE, input.instance_ids, input)


_KINDS: dict[Level, tuple[str, Source, Order]] = {
    Level.STUDY: ("Study", STUDIES, STUDY_ORDERS["OLDEST_ARRIVAL"]),
    Level.SERIES: ("Series", SERIES, SERIES_ORDER),
    Level.IMAGE: ("Instance", INSTANCES, INSTANCE_ORDER),
}
_IDS = {Level.STUDY: "studyIds", Level.SERIES: "seriesIds", Level.IMAGE: "instanceIds"}

_Input = SendStudiesInput | SendSeriesInput | SendInstancesInput


async def _send(
    context: Context, action: str, level: Level, ids: Sequence[strawberry.ID] | None, input: _Input
) -> SendResult:
    kind, source, _ = _KINDS[level]
    is_filter = input.search is not None or input.where is not None

    async def work(tx: Database) -> Outcome:
        if (ids is not None) == is_filter:
            raise invalid("input", f"give one of {_IDS[level]}, or of search and where")
        guard = ChangeGuard(expected_count=input.expected_count, dry_run=input.dry_run)
        if ids is None:
            found = await studies_filter(context, input.search, input.where)
            return await _many(tx, context, _Many(action, level, input, guard, found))
        if len(ids) * len(input.destination_ids) > MOST_AT_ONCE:
            numbers = chosen(ids, kind, None, None)
            return await _many(tx, context, _Many(action, level, input, guard, EVERYTHING, numbers))
        request = _request(context.caller.name, level, ids, input)
        check_count(len(request.ids), guard)
        await must_see(tx, context, DESTINATIONS, "ae", [str(d) for d in request.destinations])
        await must_see(tx, context, source, "id", request.ids)
        keys = await deliveries.send_by_hand(tx, request, now=context.now)
        answer = StudiesSent(keys=keys, dry_run=input.dry_run)
        detail: dict[str, object] = {
            "items": list(keys),
            "destinations": [str(d) for d in request.destinations],
            "idempotencyKey": _digest(request.idempotency_key),
        }
        target = f"{kind}:" + ",".join(str(s) for s in request.ids)
        partition = await partition_of(tx, kind, request.ids)
        return Outcome(answer, target, detail, dry_run=input.dry_run, partition=partition)

    return cast("SendResult", await change(context, action, work))


def _digest(key: str) -> str:
    """Return what tells keys apart in the audit, which keeps no text that a caller chose.

    >>> _digest("k")
    '8254c329a92850f6'
    """
    return hashlib.sha256(key.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Many:
    """More than is sent in one transaction: ``ids``, or what ``where`` finds."""

    action: str
    level: Level
    input: _Input
    guard: ChangeGuard
    where: Filter
    ids: tuple[int, ...] | None = None


async def _many(tx: Database, context: Context, many: _Many) -> Outcome:
    """Begin an operation that sends them; of a dry run say how many there would be, as counted."""
    input, caller = many.input, context.caller
    _check(input)
    destinations = _destinations(input)
    await must_see(tx, context, DESTINATIONS, "ae", [str(d) for d in destinations])
    wanted = Wanted(
        many.action,
        caller.name,
        caller.address,
        priority=input.priority,
        destinations=tuple(str(d) for d in destinations),
    )
    _, source, order = _KINDS[many.level]
    guard = replace(many.guard, idempotency_key=input.idempotency_key)
    asked = Many(wanted, guard, input, source, many.ids, many.where, order)
    if input.dry_run:
        total = await counted(tx, context, asked)
        answer = StudiesSent(keys=(), counted=total * len(destinations), dry_run=True)
        return Outcome(answer, "", dry_run=True)
    return await begun(tx, context, asked)


def _destinations(input: _Input) -> tuple[ResourceKey, ...]:
    return tuple(dict.fromkeys(parse_resource_key(key_of(i, "Destination")) for i in input.destination_ids))


def _check(input: _Input) -> None:
    """Raise Refused for what can be told without the database."""
    if not 1 <= len(input.destination_ids) <= MOST_DESTINATIONS:
        raise invalid("input.destinationIds", f"must be 1 to {MOST_DESTINATIONS}: send in several requests")
    check_key("input.idempotencyKey", input.idempotency_key)
    if not 0 <= input.priority <= 100:
        raise invalid("input.priority", f"must be 0 to 100, got {input.priority}")


def _request(actor: str, level: Level, ids: Sequence[strawberry.ID], input: _Input) -> SendByHand:
    if not ids:
        raise invalid("input", "must name what is sent, got nothing: give at least one id")
    _check(input)
    kind, _, _ = _KINDS[level]
    return SendByHand(
        ids=tuple(dict.fromkeys(number_of(i, kind) for i in ids)),
        destinations=_destinations(input),
        actor=actor,
        idempotency_key=input.idempotency_key,
        priority=input.priority,
        level=level,
    )
