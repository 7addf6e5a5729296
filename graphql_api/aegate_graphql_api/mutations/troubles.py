"""Decide about conflicts, and say that a quarantined object was looked at."""

from __future__ import annotations

from typing import Annotated, Union, cast

import strawberry

from aegate_core.database import Database
from aegate_core.decisions.resolutions import Resolution
from aegate_core.services import conflicts
from aegate_core.services.conflicts import Resolved
from aegate_core.stores.index.list_studies import CONFLICTS, QUARANTINE
from aegate_core.stores.listing import read_by
from aegate_core.stores.queue.history import Note
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.limits import LONGEST_PAGE
from aegate_graphql_api.mutations.arguments import ASKED
from aegate_graphql_api.mutations.change import Outcome, change
from aegate_graphql_api.mutations.problems import (
    ConflictProblem,
    NotFoundProblem,
    UnavailableProblem,
    ValidationProblem,
    invalid,
)
from aegate_graphql_api.mutations.selection import check_reason, must_see
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.node import key_of, number_of
from aegate_graphql_api.schema.trouble import (
    Conflict,
    QuarantinedObject,
    conflict_of,
    quarantined_of,
)


@strawberry.input(description="What is decided about a conflict.")
class ResolveConflictInput:
    """What is decided about a conflict."""

    conflict_id: strawberry.ID = strawberry.field(description="The id of the conflict.")
    resolution: Resolution = strawberry.field(description="One of the conflict's choices.")
    reason: str | None = strawberry.field(default=None, description="Why, at most 200 characters.")
    dry_run: bool = strawberry.field(default=False, description="Do nothing, say what would be done.")


@strawberry.type(description="What a decision did.", directives=[QUEUE])
class ConflictResolved:
    """What a decision did."""

    key: strawberry.Private[int]
    dry_run: bool = strawberry.field(description="True: nothing was changed.")
    changed: bool = strawberry.field(description="False: it had been decided so before.")
    released_count: int = strawberry.field(description="Queue items that were held for it and go now.")
    canceled_count: int = strawberry.field(description="Queue items that were held for it and are cancelled.")

    @strawberry.field(description="The conflict, as it is now.")
    async def conflict(self, info: Info) -> Conflict | None:
        """Load it after the change."""
        rows = await read_by(info.context.db, CONFLICTS, "id", [self.key], info.context.scope)
        return conflict_of(rows[0]) if rows else None


ResolveConflictResult = Annotated[
    Union[ConflictResolved, ValidationProblem, NotFoundProblem, ConflictProblem, UnavailableProblem],  # noqa: UP007 - strawberry names a Union
    strawberry.union(
        "ResolveConflictResult", description="What the decision did, or why nothing was changed."
    ),
]

LONGEST_REASON = 200
"""It is kept behind the decision, which leaves so much room."""


def _note(context: Context, reason: str | None) -> Note:
    check_reason(reason)
    if reason is not None and len(reason) > LONGEST_REASON:
        raise invalid("input.reason", f"may have {LONGEST_REASON} characters: shorten it")
    return Note(context.caller.name, context.now, message=reason)


async def resolve_conflict(
    info: Info, input: Annotated[ResolveConflictInput, ASKED]
) -> ResolveConflictResult:
    """Decide about a conflict."""
    context = info.context

    async def work(tx: Database) -> Outcome:
        note = _note(context, input.reason)
        key = number_of(input.conflict_id, "Conflict")
        await must_see(tx, context, CONFLICTS, "id", [key])
        done = await conflicts.resolve(tx, key, input.resolution, note=note)
        answer = _resolved(key, done, dry_run=input.dry_run)
        detail: dict[str, object] = {
            "resolution": input.resolution.value,
            "reason": input.reason,
            "released": list(done.released),
            "canceled": list(done.canceled),
        }
        return Outcome(answer, f"Conflict:{key}", detail, dry_run=input.dry_run, repeated=not done.changed)

    return cast("ResolveConflictResult", await change(context, "resolveConflict", work))


def _resolved(key: int, done: Resolved, *, dry_run: bool) -> ConflictResolved:
    return ConflictResolved(
        key=key,
        dry_run=dry_run,
        changed=done.changed,
        released_count=len(done.released),
        canceled_count=len(done.canceled),
    )


@strawberry.input(description="Which quarantined objects somebody has looked at.")
class ReleaseQuarantinedInput:
    """Which quarantined objects."""

    ids: list[strawberry.ID] = strawberry.field(description="Ids of quarantined objects, 1 to 100.")
    reason: str | None = strawberry.field(
        default=None, description="What came of it, at most 200 characters; no patient data."
    )
    dry_run: bool = strawberry.field(default=False, description="Do nothing, say what would be done.")


@strawberry.type(
    description="Quarantined objects that count as looked at; each is kept as it came.", directives=[QUEUE]
)
class QuarantinedReleased:
    """What was done."""

    keys: strawberry.Private[tuple[str, ...]]
    dry_run: bool = strawberry.field(description="True: nothing was changed.")
    changed_count: int = strawberry.field(description="How many nobody had looked at before.")

    @strawberry.field(description="The objects, as they are now.")
    async def objects(self, info: Info) -> list[QuarantinedObject]:
        """Load them after the change."""
        rows = await read_by(info.context.db, QUARANTINE, "id", self.keys, info.context.scope)
        return [quarantined_of(row) for row in sorted(rows, key=lambda r: str(r["arrival_id"]))]


ReleaseQuarantinedResult = Annotated[
    Union[QuarantinedReleased, ValidationProblem, NotFoundProblem, UnavailableProblem],  # noqa: UP007 - strawberry names a Union
    strawberry.union(
        "ReleaseQuarantinedResult", description="What was marked as looked at, or why nothing was changed."
    ),
]


async def release_quarantined(
    info: Info, input: Annotated[ReleaseQuarantinedInput, ASKED]
) -> ReleaseQuarantinedResult:
    """Say that quarantined objects were looked at."""
    context = info.context

    async def work(tx: Database) -> Outcome:
        note = _note(context, input.reason)
        if not 1 <= len(input.ids) <= LONGEST_PAGE:
            raise invalid("input.ids", f"must be 1 to {LONGEST_PAGE}, got {len(input.ids)}")
        keys = tuple(dict.fromkeys(key_of(id, "QuarantinedObject") for id in input.ids))
        await must_see(tx, context, QUARANTINE, "id", keys)
        done = await conflicts.look_at_quarantined(tx, keys, note=note)
        answer = QuarantinedReleased(keys=keys, dry_run=input.dry_run, changed_count=len(done))
        detail: dict[str, object] = {"changed": done, "reason": input.reason}
        target = "QuarantinedObject:" + ",".join(keys)
        return Outcome(answer, target, detail, dry_run=input.dry_run, repeated=not done)

    return cast("ReleaseQuarantinedResult", await change(context, "releaseQuarantined", work))
