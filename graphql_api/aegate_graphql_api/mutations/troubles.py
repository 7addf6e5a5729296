"""Decide about conflicts."""

from __future__ import annotations

from typing import Annotated, Union, cast

import strawberry

from aegate_core.database import Database
from aegate_core.decisions.resolutions import Resolution
from aegate_core.services import conflicts
from aegate_core.services.conflicts import Resolved
from aegate_core.stores.index.list_studies import CONFLICTS
from aegate_core.stores.listing import read_by
from aegate_core.stores.partitions import partition_of
from aegate_core.stores.queue.history import Note
from aegate_graphql_api.context import Context, Info
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
from aegate_graphql_api.schema.node import number_of
from aegate_graphql_api.schema.trouble import Conflict, conflict_of


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


def note_of(context: Context, reason: str | None) -> Note:
    """Return who decides, when and why. Raises Refused for a reason that cannot be kept."""
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
        note = note_of(context, input.reason)
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
        return Outcome(
            answer,
            f"Conflict:{key}",
            detail,
            dry_run=input.dry_run,
            partition=await partition_of(tx, "Conflict", [key]),
            repeated=not done.changed,
        )

    return cast("ResolveConflictResult", await change(context, "resolveConflict", work))


def _resolved(key: int, done: Resolved, *, dry_run: bool) -> ConflictResolved:
    return ConflictResolved(
        key=key,
        dry_run=dry_run,
        changed=done.changed,
        released_count=len(done.released),
        canceled_count=len(done.canceled),
    )
