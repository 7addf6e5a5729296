"""Quarantined objects: let them be indexed after all, or say that somebody looked and nothing is to be done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Union, cast

import strawberry

from aegate_core.database import Database
from aegate_core.dicom.identifiers import ResourceKey, parse_resource_key
from aegate_core.services import conflicts
from aegate_core.services.quarantine import Handled, Key, once
from aegate_core.stores.index import releasing
from aegate_core.stores.index.list_resources import sees_entity
from aegate_core.stores.index.list_studies import QUARANTINE, QUARANTINE_ORDER
from aegate_core.stores.listing import AllOf, Compare, Op, PageQuery, read_by, read_page
from aegate_core.stores.partitions import partition_of
from aegate_core.stores.queue.operations import Found, count_found
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.filter_values import is_key
from aegate_graphql_api.limits import LONGEST_PAGE
from aegate_graphql_api.mutations.arguments import ASKED
from aegate_graphql_api.mutations.change import Outcome, change
from aegate_graphql_api.mutations.problems import (
    ConflictProblem,
    NotFoundProblem,
    UnavailableProblem,
    ValidationProblem,
    conflict,
    invalid,
)
from aegate_graphql_api.mutations.selection import MOST_AT_ONCE, check_key, must_see
from aegate_graphql_api.mutations.troubles import note_of
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.node import global_id, key_of
from aegate_graphql_api.schema.trouble import (
    QuarantinedObject,
    QuarantinedObjectWhere,
    quarantined_filter,
    quarantined_of,
)

MOST_FOUND = 1_000
"""Objects that a filter may find for one request: their ids are one audit row. By feel."""

_IDS = "Ids of quarantined objects, 1 to 100. Give these, or search and where."
_SEARCH = "As in quarantinedObjects; instead of ids."
_WHERE = (
    "As in quarantinedObjects; instead of ids, beside search or alone. It finds open objects that do not wait for a "
    "worker, at most 1,000."
)
_COUNT = "How many must match, or nothing is changed; required with search or where, but for a dry run."
_KEY = (
    "1 to 128 characters, such as a UUID: asked again with the same one, nothing is done a second time, and the answer "
    "says what was done then."
)
_DRY_RUN = "Do nothing, say what would be done."


@strawberry.input(description="Which quarantined objects are to be indexed after all.")
class ReleaseQuarantinedInput:
    """Which quarantined objects."""

    ids: list[strawberry.ID] | None = strawberry.field(default=None, description=_IDS)
    search: str | None = strawberry.field(default=None, description=_SEARCH)
    where: QuarantinedObjectWhere | None = strawberry.field(default=None, description=_WHERE)
    sent_by: str | None = strawberry.field(
        default=None,
        description="namespace/name of the AE that sent them, such as default/ct1: for objects of unknown/unknown "
        "alone, which need it. The images become those of its patient partition, and go by its routes.",
    )
    reason: str | None = strawberry.field(
        default=None, description="Why, at most 200 characters; no patient data. It stands in the audit."
    )
    expected_count: int | None = strawberry.field(default=None, description=_COUNT)
    idempotency_key: str | None = strawberry.field(default=None, description=_KEY)
    dry_run: bool = strawberry.field(default=False, description=_DRY_RUN)


@strawberry.input(description="Which quarantined objects somebody has looked at.")
class DismissQuarantinedInput:
    """Which quarantined objects."""

    ids: list[strawberry.ID] | None = strawberry.field(default=None, description=_IDS)
    search: str | None = strawberry.field(default=None, description=_SEARCH)
    where: QuarantinedObjectWhere | None = strawberry.field(default=None, description=_WHERE)
    reason: str | None = strawberry.field(
        default=None, description="What came of it, at most 200 characters; no patient data."
    )
    expected_count: int | None = strawberry.field(default=None, description=_COUNT)
    idempotency_key: str | None = strawberry.field(default=None, description=_KEY)
    dry_run: bool = strawberry.field(default=False, description=_DRY_RUN)


@strawberry.type(description="A quarantined object that was left as it is.", directives=[QUEUE])
class QuarantinedLeft:
    """An object that was left."""

    id: strawberry.ID = strawberry.field(description="The id of the object.")
    because: str = strawberry.field(
        description="WAITING: it is released already; INDEXED: it is among the studies already; REMOVED: its file is "
        "gone; UNKNOWN_SENDER: a check found its file, and nobody knows which device sent it: say so with sentBy; "
        "SENDER_KNOWN: sentBy was given, and who sent it is known."
    )


@strawberry.type(description="What was done to quarantined objects.", directives=[QUEUE])
class _Done:
    """What was done."""

    keys: strawberry.Private[tuple[str, ...]]
    matched: int = strawberry.field(description="How many were selected.")
    dry_run: bool = strawberry.field(description="True: nothing was changed.")

    @strawberry.field(description="The objects, as they are now; at most 500.")
    async def objects(self, info: Info) -> list[QuarantinedObject]:
        """Load them after the change."""
        keys = self.keys[:MOST_AT_ONCE]
        rows = await read_by(info.context.db, QUARANTINE, "id", keys, info.context.scope)
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

    @strawberry.field(description="Those that cannot be released, and why; at most 500.")
    def left(self) -> list[QuarantinedLeft]:
        """Say why."""
        return [
            QuarantinedLeft(id=global_id("QuarantinedObject", key), because=because)
            for key, because in self.refused[:MOST_AT_ONCE]
        ]


@strawberry.type(
    description="Quarantined objects that count as looked at; each is kept as it came.", directives=[QUEUE]
)
class QuarantinedDismissed(_Done):
    """What was done."""

    changed_count: int = strawberry.field(description="How many nobody had looked at before.")


ReleaseQuarantinedResult = Annotated[
    Union[  # noqa: UP007 - strawberry names a Union
        QuarantinedReleased, ValidationProblem, NotFoundProblem, ConflictProblem, UnavailableProblem
    ],
    strawberry.union(
        "ReleaseQuarantinedResult", description="What a worker indexes now, or why nothing was changed."
    ),
]
DismissQuarantinedResult = Annotated[
    Union[  # noqa: UP007 - as above
        QuarantinedDismissed, ValidationProblem, NotFoundProblem, ConflictProblem, UnavailableProblem
    ],
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
        sender = await _sender(tx, context, input.sent_by)

        async def handle() -> Handled:
            keys = await _keys(tx, context, input)
            done = await releasing.release(tx, keys, by=note.actor, now=note.at, sender=sender)
            left = await releasing.why_not(tx, sorted(set(keys) - set(done)))
            return Handled(keys, tuple(done), left)

        handled = await _handled(tx, context, "releaseQuarantined", input, handle)
        answer = QuarantinedReleased(
            keys=handled.keys,
            matched=len(handled.keys),
            dry_run=input.dry_run,
            refused=tuple(sorted(handled.left.items())),
            changed_count=len(handled.done),
        )
        detail: dict[str, object] = {"released": list(handled.done), "left": dict(handled.left)}
        if sender is not None:
            detail["sentBy"] = str(sender)
        return await _outcome(tx, answer, handled, input, detail)

    return cast("ReleaseQuarantinedResult", await change(context, "releaseQuarantined", work))


async def dismiss_quarantined(
    info: Info, input: Annotated[DismissQuarantinedInput, ASKED]
) -> DismissQuarantinedResult:
    """Say that quarantined objects were looked at."""
    context = info.context

    async def work(tx: Database) -> Outcome:
        note = note_of(context, input.reason)

        async def handle() -> Handled:
            keys = await _keys(tx, context, input)
            return Handled(keys, tuple(await conflicts.look_at_quarantined(tx, keys, note=note)), {})

        handled = await _handled(tx, context, "dismissQuarantined", input, handle)
        answer = QuarantinedDismissed(
            keys=handled.keys,
            matched=len(handled.keys),
            dry_run=input.dry_run,
            changed_count=len(handled.done),
        )
        return await _outcome(tx, answer, handled, input, {"changed": list(handled.done)})

    return cast("DismissQuarantinedResult", await change(context, "dismissQuarantined", work))


_Input = ReleaseQuarantinedInput | DismissQuarantinedInput


async def _handled(
    tx: Database, context: Context, action: str, input: _Input, handle: Callable[[], Awaitable[Handled]]
) -> Handled:
    """Do it; once, where there is a key."""
    if input.idempotency_key is None or input.dry_run:
        return await handle()
    check_key("input.idempotencyKey", input.idempotency_key)
    caller = context.caller
    key = Key(action, caller.name, caller.address, input.idempotency_key, input)
    return await once(tx, key, handle, reason=input.reason, now=context.now)


async def _outcome(
    tx: Database, answer: _Done, handled: Handled, input: _Input, detail: dict[str, object]
) -> Outcome:
    return Outcome(
        answer,
        "QuarantinedObject:" + ",".join(handled.keys),
        detail | {"reason": input.reason},
        dry_run=input.dry_run,
        partition=await partition_of(tx, "QuarantinedObject", handled.keys),
        repeated=handled.is_repeated or not handled.done,
    )


async def _sender(tx: Database, context: Context, text: str | None) -> ResourceKey | None:
    """Return the AE that is named as who sent it. Raises Refused for one that is not there, or somebody else's."""
    if text is None:
        return None
    if not is_key(text) or not await sees_entity(tx, text, context.scope):
        raise invalid(
            "input.sentBy", "must be namespace/name of an AE that is there, such as default/ct1: correct it"
        )
    return parse_resource_key(text)


async def _keys(tx: Database, context: Context, input: _Input) -> tuple[str, ...]:
    """Return the arrivals that are meant. Raises Refused for too many, and for one that the caller does not see."""
    is_filter = input.search is not None or input.where is not None
    if (input.ids is not None) == is_filter:
        raise invalid("input", "give one of ids, or of search and where")
    if input.ids is None:
        return await _found(tx, context, input)
    if not 1 <= len(input.ids) <= LONGEST_PAGE:
        raise invalid("input.ids", f"must be 1 to {LONGEST_PAGE}, got {len(input.ids)}")
    keys = tuple(dict.fromkeys(key_of(id, "QuarantinedObject") for id in input.ids))
    await must_see(tx, context, QUARANTINE, "id", keys)
    _check_count(len(keys), input)
    return keys


async def _found(tx: Database, context: Context, input: _Input) -> tuple[str, ...]:
    if input.expected_count is None and not input.dry_run:
        raise invalid("input.expectedCount", "is required with search or where: ask with dryRun first")
    asked = await quarantined_filter(context, input.search, input.where)
    where = AllOf((*_OPEN, asked))
    total = await count_found(tx, Found(QUARANTINE, where, QUARANTINE_ORDER, 10 * MOST_FOUND), context.scope)
    _check_count(total, input)
    if not 1 <= total <= MOST_FOUND:
        raise invalid(
            "input.where",
            f"must find 1 to {MOST_FOUND} objects, found {total}: change it, by receivedAt, say",
        )
    page = await read_page(tx, QUARANTINE, PageQuery(QUARANTINE_ORDER, MOST_FOUND, where), context.scope)
    return tuple(str(row["arrival_id"]) for row in page.rows)


_OPEN = (Compare("resolved_at", Op.IS_NULL, True), Compare("released_at", Op.IS_NULL, True))


def _check_count(count: int, input: _Input) -> None:
    if input.expected_count is not None and input.expected_count != count:
        raise conflict(
            f"expectedCount is {input.expected_count}, but {count} objects match now: look again, then decide",
            actual_count=count,
        )
