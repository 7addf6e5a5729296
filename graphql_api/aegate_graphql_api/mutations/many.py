"""reroute and resolveConflict for many: of a selection, or of all that a search and filter find, as an Operation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Union, cast

import strawberry

from aegate_core.database import Database
from aegate_core.decisions.resolutions import Resolution
from aegate_core.services import operations
from aegate_core.services.operations import MOST
from aegate_core.services.wanted import Wanted
from aegate_core.stores.index.list_studies import CONFLICTS, UNITS
from aegate_core.stores.listing import AllOf, Compare, Filter, Op, Order, Source
from aegate_core.stores.partitions import partition_of
from aegate_core.stores.queue.operations import Found, count_found
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.mutations.arguments import Guard
from aegate_graphql_api.mutations.change import Outcome, change
from aegate_graphql_api.mutations.problems import (
    ConflictProblem,
    NotFoundProblem,
    UnavailableProblem,
    ValidationProblem,
    invalid,
)
from aegate_graphql_api.mutations.queue_items import OperationStarted
from aegate_graphql_api.mutations.selection import (
    MOST_AT_ONCE,
    MOST_IDS,
    ChangeGuard,
    check_count,
    check_key,
    must_fit,
    must_see,
)
from aegate_graphql_api.mutations.troubles import note_of
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.close_unit import CloseUnitWhere
from aegate_graphql_api.schema.node import number_of
from aegate_graphql_api.schema.of_study import found_of_study
from aegate_graphql_api.schema.trouble import ConflictWhere

AT_ONCE = 1000
"""Ids that are looked up by one statement."""


@strawberry.input(
    description="Which complete units: by their ids, all of some studies, or all that a search and filter find. Give "
    "one of the three kinds."
)
class CloseUnitSelection:
    """Which units."""

    ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Ids of close units, at most 4,900."
    )
    study_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Ids of studies, at most 500: all their units."
    )
    search: str | None = strawberry.field(default=None, description="As in closeUnits.")
    where: CloseUnitWhere | None = strawberry.field(
        default=None, description="As in closeUnits, such as {outcome: {eq: NO_ROUTE}}."
    )


@strawberry.input(
    description="Which open conflicts: by their ids, all of some studies, or all that a search and filter find. Give "
    "one of the three kinds."
)
class ConflictSelection:
    """Which conflicts."""

    ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Ids of conflicts, at most 4,900."
    )
    study_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Ids of studies, at most 500: all their open conflicts."
    )
    search: str | None = strawberry.field(default=None, description="As in conflicts.")
    where: ConflictWhere | None = strawberry.field(
        default=None, description='As in conflicts, such as {kind: {eq: "PATIENT_MISMATCH"}}.'
    )


@strawberry.type(
    description="How many a selection finds: a dry run counts them. With asOperation it tries each and takes it back, "
    "and the operation's results tell what would become of it.",
    directives=[QUEUE],
)
class SelectionCounted:
    """How many."""

    matched: int = strawberry.field(description="How many it is about, such as 1200.")
    dry_run: bool = strawberry.field(description="True: nothing was changed.")


ManyResult = Annotated[
    Union[  # noqa: UP007 - strawberry names a Union
        SelectionCounted,
        OperationStarted,
        ValidationProblem,
        NotFoundProblem,
        ConflictProblem,
        UnavailableProblem,
    ],
    strawberry.union(
        "ManyResult", description="The operation that does it, how many it would be, or why nothing is done."
    ),
]


@dataclass(frozen=True, slots=True)
class Many:
    """A change of many, as it is asked for. ``ids``, or what a filter finds."""

    wanted: Wanted
    guard: ChangeGuard
    said: object
    """All that the caller said: an idempotency key stands for it."""
    source: Source
    ids: tuple[int, ...] | None
    where: Filter
    order: Order
    is_open: bool = True
    """Of a filter: nobody can say how many it finds. Not so of the rows of studies that are named."""

    @property
    def found(self) -> Found:
        """What the filter finds; one more than may be."""
        return Found(self.source, self.where, self.order, MOST + 1)


async def reroute_units(
    info: Info,
    selection: Annotated[CloseUnitSelection, strawberry.argument(description="Which units.")],
    guard: Guard = None,
) -> ManyResult:
    """Ask the routes again about many units."""
    context, guard = info.context, guard or ChangeGuard()

    async def ask() -> Many:
        wanted = Wanted("rerouteUnits", context.caller.name, context.caller.address, dry_run=guard.dry_run)
        ids, where = await _selected(context, selection, "CloseUnit")
        return Many(
            wanted, guard, (selection, guard), UNITS, ids, where, _BY_UNIT, selection.study_ids is None
        )

    return await _run(context, "rerouteUnits", ask)


async def resolve_conflicts(
    info: Info,
    selection: Annotated[ConflictSelection, strawberry.argument(description="Which conflicts.")],
    resolution: Annotated[
        Resolution,
        strawberry.argument(
            description="What is decided; of a conflict that has no such choice nothing changes."
        ),
    ],
    reason: Annotated[
        str | None, strawberry.argument(description="Why, at most 200 characters; kept with each conflict.")
    ] = None,
    guard: Guard = None,
) -> ManyResult:
    """Decide about many conflicts in the same way."""
    context, guard = info.context, guard or ChangeGuard()

    async def ask() -> Many:
        note = note_of(context, reason)
        ids, found = await _selected(context, selection, "Conflict")
        where = AllOf((Compare("resolved_at", Op.IS_NULL, True), found))
        wanted = Wanted(
            "resolveConflicts",
            note.actor,
            context.caller.address,
            reason=reason,
            resolution=resolution.value,
            dry_run=guard.dry_run,
        )
        said = (selection, guard)
        return Many(wanted, guard, said, CONFLICTS, ids, where, _BY_CONFLICT, selection.study_ids is None)

    return await _run(context, "resolveConflicts", ask)


_Ask = Callable[[], Awaitable[Many]]
"""Reads the arguments. Raises Refused."""

_BY_UNIT = Order("ID", (("u.id", "bigint"),), descending=False)
_BY_CONFLICT = Order("ID", (("c.id", "bigint"),), descending=False)


async def _selected(
    context: Context, selection: CloseUnitSelection | ConflictSelection, kind: str
) -> tuple[tuple[int, ...] | None, Filter]:
    """Return the row ids of a selection, or None and what finds its rows. Raises Refused."""
    if selection.study_ids is None:
        ids = chosen(selection.ids, kind, selection.search, selection.where)
        return ids, await found_of_study(context, selection.search, selection.where)
    if selection.ids is not None or selection.search is not None or selection.where is not None:
        raise invalid("selection", "give one of ids, of studyIds, or of search and where")
    must_fit("studyIds", selection.study_ids, MOST_AT_ONCE)
    return None, Compare("study", Op.IN, sorted({number_of(id, "Study") for id in selection.study_ids}))


def chosen(
    ids: Sequence[strawberry.ID] | None, kind: str, search: str | None, where: object | None
) -> tuple[int, ...] | None:
    """Return the row ids of a selection; None where it is a filter. Raises Refused where it is both, or neither."""
    if (ids is not None) + (search is not None or where is not None) != 1:
        raise invalid("selection", "give one of ids, or of search and where")
    if ids is None:
        return None
    if not 1 <= len(ids) <= MOST_IDS:
        raise invalid("selection.ids", f"may hold 1 to {MOST_IDS}, got {len(ids)}: ask in several requests")
    return tuple(dict.fromkeys(number_of(id, kind) for id in ids))


async def _run(context: Context, action: str, ask: _Ask) -> ManyResult:
    async def work(tx: Database) -> Outcome:
        many = await ask()
        if many.guard.dry_run and not many.guard.as_operation:
            matched = await counted(tx, context, many)
            return Outcome(SelectionCounted(matched=matched, dry_run=True), "", dry_run=True)
        return await begun(tx, context, many)

    return cast("ManyResult", await change(context, action, work))


async def counted(tx: Database, context: Context, many: Many) -> int:
    """Return how many it is about, counted by the database. Raises Refused where that may not be changed."""
    if many.ids is None:
        total = await count_found(tx, many.found, context.scope)
    else:
        await _must_see_all(tx, context, many)
        total = len(many.ids)
    check_count(total, many.guard)
    return total


async def begun(tx: Database, context: Context, many: Many) -> Outcome:
    """Begin the operation, or answer as the same key was answered before."""
    guard = many.guard
    if guard.idempotency_key is not None:
        check_key("guard.idempotencyKey", guard.idempotency_key)
    if guard.version is not None:
        raise invalid("guard.version", "guards one item that is changed at once: leave it out")
    if many.ids is None and many.is_open and guard.expected_count is None and not guard.dry_run:
        raise invalid("guard.expectedCount", "is required with a filter: ask with dryRun first")
    made = await operations.begin(tx, many.wanted, guard.idempotency_key, many.said, now=context.now)
    if not made.is_new:
        return Outcome(OperationStarted(key=made.id), "", repeated=True)
    if many.ids is None:
        total = await operations.about_found(tx, made.id, many.found, context.scope)
    else:
        await _must_see_all(tx, context, many)
        total = await operations.about(tx, made.id, many.ids)
    check_count(total, guard)
    detail: dict[str, object] = {"total": total, **many.wanted.arguments}
    partition = await partition_of(tx, "Operation", [made.id])
    return Outcome(OperationStarted(key=made.id), f"Operation:{made.id}", detail, partition=partition)


async def _must_see_all(tx: Database, context: Context, many: Many) -> None:
    ids = many.ids or ()
    for at in range(0, len(ids), AT_ONCE):
        await must_see(tx, context, many.source, "id", ids[at : at + AT_ONCE])
