"""Quarantined objects: let them be indexed after all, or say that somebody looked and nothing is to be done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Union, cast

import strawberry

from aegate_core.database import Database
from aegate_core.services import conflicts
from aegate_core.stores.index import releasing
from aegate_core.stores.index.list_studies import QUARANTINE
from aegate_core.stores.listing import read_by
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.limits import LONGEST_PAGE
from aegate_graphql_api.mutations.arguments import ASKED
from aegate_graphql_api.mutations.change import Outcome, change
from aegate_graphql_api.mutations.problems import (
    NotFoundProblem,
    UnavailableProblem,
    ValidationProblem,
    invalid,
)
from aegate_graphql_api.mutations.selection import must_see
from aegate_graphql_api.mutations.troubles import note_of
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.node import global_id, key_of
from aegate_graphql_api.schema.trouble import QuarantinedObject, quarantined_of

_IDS = "Ids of quarantined objects, 1 to 100."
_DRY_RUN = "Do nothing, say what would be done."


@strawberry.input(description="Which quarantined objects are to be indexed after all.")
class ReleaseQuarantinedInput:
    """Which quarantined objects."""

    ids: list[strawberry.ID] = strawberry.field(description=_IDS)
    reason: str | None = strawberry.field(
        default=None, description="Why, at most 200 characters; no patient data. It stands in the audit."
    )
    dry_run: bool = strawberry.field(default=False, description=_DRY_RUN)


@strawberry.input(description="Which quarantined objects somebody has looked at.")
class DismissQuarantinedInput:
    """Which quarantined objects."""

    ids: list[strawberry.ID] = strawberry.field(description=_IDS)
    reason: str | None = strawberry.field(
        default=None, description="What came of it, at most 200 characters; no patient data."
    )
    dry_run: bool = strawberry.field(default=False, description=_DRY_RUN)


@strawberry.type(description="A quarantined object that was left as it is.", directives=[QUEUE])
class QuarantinedLeft:
    """An object that was left."""

    id: strawberry.ID = strawberry.field(description="The id of the object.")
    because: str = strawberry.field(
        description="WAITING: it is released already; INDEXED: it is among the studies already; REMOVED: its file is "
        "gone; UNKNOWN_SENDER: a check found its file, and nobody knows which device sent it."
    )


@strawberry.type(description="What was done to quarantined objects.", directives=[QUEUE])
class _Done:
    """What was done."""

    keys: strawberry.Private[tuple[str, ...]]
    dry_run: bool = strawberry.field(description="True: nothing was changed.")

    @strawberry.field(description="The objects, as they are now.")
    async def objects(self, info: Info) -> list[QuarantinedObject]:
        """Load them after the change."""
        rows = await read_by(info.context.db, QUARANTINE, "id", self.keys, info.context.scope)
        return [quarantined_of(row) for row in sorted(rows, key=lambda r: str(r["arrival_id"]))]


@strawberry.type(
    description="Quarantined objects that a worker now takes into the index, by the way that any image goes: within "
    "seconds each has resolvedAt and is among the studies, or is in quarantine again, with the reason.",
    directives=[QUEUE],
)
class QuarantinedReleased(_Done):
    """What was done."""

    refused: strawberry.Private[tuple[tuple[str, str], ...]]
    changed_count: int = strawberry.field(description="How many wait for a worker now and did not before.")

    @strawberry.field(description="Those that cannot be released, and why.")
    def left(self) -> list[QuarantinedLeft]:
        """Say why."""
        return [
            QuarantinedLeft(id=global_id("QuarantinedObject", key), because=because)
            for key, because in self.refused
        ]


@strawberry.type(
    description="Quarantined objects that count as looked at; each is kept as it came.", directives=[QUEUE]
)
class QuarantinedDismissed(_Done):
    """What was done."""

    changed_count: int = strawberry.field(description="How many nobody had looked at before.")


ReleaseQuarantinedResult = Annotated[
    Union[QuarantinedReleased, ValidationProblem, NotFoundProblem, UnavailableProblem],  # noqa: UP007 - strawberry names a Union
    strawberry.union(
        "ReleaseQuarantinedResult", description="What a worker indexes now, or why nothing was changed."
    ),
]
DismissQuarantinedResult = Annotated[
    Union[QuarantinedDismissed, ValidationProblem, NotFoundProblem, UnavailableProblem],  # noqa: UP007 - as above
    strawberry.union(
        "DismissQuarantinedResult", description="What was marked as looked at, or why nothing was changed."
    ),
]


async def release_quarantined(
    info: Info, input: Annotated[ReleaseQuarantinedInput, ASKED]
) -> ReleaseQuarantinedResult:
    """Let quarantined objects be indexed after all."""
    context = info.context

    async def work(tx: Database) -> Outcome:
        note = note_of(context, input.reason)
        keys = await _keys(tx, context, input.ids)
        done = await releasing.release(tx, keys, by=note.actor, now=note.at)
        refused = await releasing.why_not(tx, sorted(set(keys) - set(done)))
        answer = QuarantinedReleased(
            keys=keys,
            dry_run=input.dry_run,
            refused=tuple(sorted(refused.items())),
            changed_count=len(done),
        )
        detail: dict[str, object] = {"released": done, "left": refused, "reason": input.reason}
        target = "QuarantinedObject:" + ",".join(keys)
        return Outcome(answer, target, detail, dry_run=input.dry_run, repeated=not done)

    return cast("ReleaseQuarantinedResult", await change(context, "releaseQuarantined", work))


async def dismiss_quarantined(
    info: Info, input: Annotated[DismissQuarantinedInput, ASKED]
) -> DismissQuarantinedResult:
    """Say that quarantined objects were looked at."""
    context = info.context

    async def work(tx: Database) -> Outcome:
        note = note_of(context, input.reason)
        keys = await _keys(tx, context, input.ids)
        done = await conflicts.look_at_quarantined(tx, keys, note=note)
        answer = QuarantinedDismissed(keys=keys, dry_run=input.dry_run, changed_count=len(done))
        detail: dict[str, object] = {"changed": done, "reason": input.reason}
        target = "QuarantinedObject:" + ",".join(keys)
        return Outcome(answer, target, detail, dry_run=input.dry_run, repeated=not done)

    return cast("DismissQuarantinedResult", await change(context, "dismissQuarantined", work))


async def _keys(tx: Database, context: Context, ids: Sequence[strawberry.ID]) -> tuple[str, ...]:
    """Return the arrivals of these ids. Raises Refused for too many, and for one that the caller does not see."""
    if not 1 <= len(ids) <= LONGEST_PAGE:
        raise invalid("input.ids", f"must be 1 to {LONGEST_PAGE}, got {len(ids)}")
    keys = tuple(dict.fromkeys(key_of(id, "QuarantinedObject") for id in ids))
    await must_see(tx, context, QUARANTINE, "id", keys)
    return keys
