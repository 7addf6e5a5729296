"""hold, resume, retry, cancel, priority and bump: for one item, a selection, or all that a filter finds.

Up to 500 items are changed at once, in one transaction with its audit row. More become an Operation, which goes on by
itself; what it is about is fixed in the transaction that begins it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Union, cast

import strawberry

from aegate_core.database import Database
from aegate_core.services import operations
from aegate_core.services.deliveries import Changed
from aegate_core.services.operations import Begun
from aegate_core.services.wanted import Now, act
from aegate_core.stores.partitions import partition_of
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.mutations.arguments import Guard, Reason, Selection
from aegate_graphql_api.mutations.change import Outcome, change, tried
from aegate_graphql_api.mutations.problems import (
    ConflictProblem,
    NotFoundProblem,
    UnavailableProblem,
    ValidationProblem,
    invalid,
    not_found,
)
from aegate_graphql_api.mutations.selection import (
    MOST_AT_ONCE,
    MOST_TRIED,
    ChangeGuard,
    Wish,
    check_count,
    everything,
    selected,
    there,
)
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.node import global_id
from aegate_graphql_api.schema.operation import Operation, load_operations
from aegate_graphql_api.schema.queue_item import QueueItem, load_items

NOT_FOUND = "NOT_FOUND"
"""Of an item that is not there, or not for this caller."""


@strawberry.type(description="An item that was left as it is.", directives=[QUEUE])
class ItemLeft:
    """An item that was left as it is."""

    id: strawberry.ID = strawberry.field(description="The id of the item.")
    because: str = strawberry.field(
        description="The state it is in, NOT_FOUND, or IMAGES_REMOVED: retention removed what it has not sent."
    )


@strawberry.type(description="What was done to queue items; with dryRun, what would be.", directives=[QUEUE])
class QueueItemsChanged:
    """What was done."""

    done: strawberry.Private[tuple[int, ...]]
    wanted: strawberry.Private[tuple[int, ...]]
    refused: strawberry.Private[tuple[tuple[int, str], ...]]
    matched: int = strawberry.field(description="How many were selected.")
    dry_run: bool = strawberry.field(description="True: nothing was changed.")

    @strawberry.field(description="How many changed at once.")
    def changed_count(self) -> int:
        """Count."""
        return len(self.done)

    @strawberry.field(description="How many are being sent now: it takes effect between two instances, soon.")
    def asked_count(self) -> int:
        """Count."""
        return len(self.wanted)

    @strawberry.field(description="How many were left as they are.")
    def left_count(self) -> int:
        """Count."""
        return len(self.refused)

    @strawberry.field(description="Not possible in the state they are in; at most 500, leftCount counts all.")
    def left(self) -> list[ItemLeft]:
        """Say why."""
        return [ItemLeft(id=global_id("QueueItem", i), because=why) for i, why in self.refused[:MOST_AT_ONCE]]

    @strawberry.field(description="Those that changed, as they are now; at most 500.")
    async def changed(self, info: Info) -> list[QueueItem]:
        """Load them after the change."""
        return await _loaded(info, self.done)

    @strawberry.field(description="Those that are being sent now, as they are now; at most 500.")
    async def asked(self, info: Info) -> list[QueueItem]:
        """Load them after the change."""
        return await _loaded(info, self.wanted)


async def _loaded(info: Info, keys: Sequence[int]) -> list[QueueItem]:
    found = await info.context.loader(load_items).load_many(list(keys[:MOST_AT_ONCE]))
    return [item for item in cast("list[QueueItem | None]", found) if item is not None]


@strawberry.type(
    description="It is done in the background, batch by batch: there are more than 500 items, or asOperation was "
    "given. Ask for the operation again to see how far it is.",
    directives=[QUEUE],
)
class OperationStarted:
    """An operation that goes on by itself."""

    key: strawberry.Private[int]

    @strawberry.field(description="The operation; with the same idempotencyKey, the one that was begun then.")
    async def operation(self, info: Info) -> Operation | None:
        """Load it after the change."""
        return cast("Operation | None", await info.context.loader(load_operations).load(self.key))


QueueItemsResult = Annotated[
    Union[  # noqa: UP007 - strawberry names a Union
        QueueItemsChanged,
        OperationStarted,
        ValidationProblem,
        NotFoundProblem,
        ConflictProblem,
        UnavailableProblem,
    ],
    strawberry.union(
        "QueueItemsResult",
        description="What was changed, an operation that goes on by itself, or why nothing was changed.",
    ),
]


async def hold_queue_items(
    info: Info, selection: Selection, reason: Reason = None, guard: Guard = None
) -> QueueItemsResult:
    """Hold items."""
    return await _run(info.context, Wish("holdQueueItems", selection, guard or ChangeGuard(), reason))


async def resume_queue_items(
    info: Info, selection: Selection, reason: Reason = None, guard: Guard = None
) -> QueueItemsResult:
    """Let held items go on."""
    return await _run(info.context, Wish("resumeQueueItems", selection, guard or ChangeGuard(), reason))


async def retry_queue_items(
    info: Info, selection: Selection, reason: Reason = None, guard: Guard = None
) -> QueueItemsResult:
    """Send failed and cancelled items again, without what was acknowledged."""
    return await _run(info.context, Wish("retryQueueItems", selection, guard or ChangeGuard(), reason))


async def cancel_queue_items(
    info: Info, selection: Selection, reason: Reason = None, guard: Guard = None
) -> QueueItemsResult:
    """Cancel items."""
    return await _run(info.context, Wish("cancelQueueItems", selection, guard or ChangeGuard(), reason))


async def set_queue_item_priority(
    info: Info,
    selection: Selection,
    priority: Annotated[
        int,
        strawberry.argument(
            description="0 to 100, the highest goes first; a point is worth a minute of waiting."
        ),
    ],
    guard: Guard = None,
) -> QueueItemsResult:
    """Change the priority, 0 to 100."""
    wish = Wish("setQueueItemPriority", selection, guard or ChangeGuard(), priority=priority)
    return await _run(info.context, wish)


async def bump_queue_items(info: Info, selection: Selection, guard: Guard = None) -> QueueItemsResult:
    """Put items to the front."""
    return await _run(info.context, Wish("bumpQueueItems", selection, guard or ChangeGuard()))


@dataclass(frozen=True, slots=True)
class _Many:
    """What a dry run found to be more than one transaction should try."""

    ids: tuple[int, ...]


async def _run(context: Context, wish: Wish) -> QueueItemsResult:
    guard = wish.guard

    async def work(tx: Database) -> Outcome:
        wish.check()
        begun = None
        if guard.idempotency_key is not None and not guard.dry_run:
            begun = await _begin(tx, context, wish)
            if not begun.is_new:
                return await _as_before(tx, begun)
        ids = await selected(tx, context, wish)
        if guard.as_operation or len(ids) > (MOST_TRIED if guard.dry_run else MOST_AT_ONCE):
            return await _in_background(tx, context, wish, ids, begun)
        if len(ids) > MOST_AT_ONCE:
            return Outcome(_Many(tuple(ids)), "", dry_run=True)
        return await _at_once(tx, context, wish, ids, begun)

    answer = await change(context, wish.action, work)
    return await _try_many(context, wish, answer.ids) if isinstance(answer, _Many) else answer


async def _begin(tx: Database, context: Context, wish: Wish) -> Begun:
    said = (wish.selection, wish.guard)
    return await operations.begin(tx, wish.wanted(context), wish.guard.idempotency_key, said, now=context.now)


async def _as_before(tx: Database, begun: Begun) -> Outcome:
    """Answer as the first request with this key was answered."""
    if not begun.at_once:
        return Outcome(OperationStarted(key=begun.id), "", repeated=True)
    changed = await operations.what_was_done(tx, begun.id)
    ids = (*changed.done, *changed.asked, *changed.refused)
    return Outcome(_answer(ids, changed), "", repeated=True)


async def _at_once(
    tx: Database, context: Context, wish: Wish, ids: Sequence[int], begun: Begun | None
) -> Outcome:
    changed = await _act(tx, context, wish, ids)
    if begun is not None:
        await operations.done_at_once(tx, begun.id, ids, changed, now=context.now)
    answer = _answer(ids, changed, dry_run=wish.guard.dry_run)
    target = "QueueItem:" + ",".join(str(i) for i in ids)
    detail = operations.detail_of(wish.wanted(context), changed)
    seen = [i for i in ids if changed.refused.get(i) != NOT_FOUND]
    partition = await partition_of(tx, "QueueItem", seen)
    return Outcome(answer, target, detail, dry_run=wish.guard.dry_run, partition=partition)


async def _act(tx: Database, context: Context, wish: Wish, ids: Sequence[int]) -> Changed:
    """Change those of ``ids`` that the caller sees."""
    here = await there(tx, context, ids, wish.guard)
    # Of now: two bumps of one request have an order.
    changed = await act(tx, wish.wanted(context), here, Now(await tx.time()))
    absent = dict.fromkeys(set(ids) - set(here), NOT_FOUND)
    return replace(changed, refused={**changed.refused, **absent})


async def _in_background(
    tx: Database, context: Context, wish: Wish, ids: Sequence[int], begun: Begun | None
) -> Outcome:
    if wish.guard.version is not None:
        raise invalid("guard.version", "guards one item that is changed at once: leave it out")
    made = begun or await _begin(tx, context, wish)
    if not made.is_new:
        return await _as_before(tx, made)
    if wish.selection.ids is None:
        total = await operations.about_found(tx, made.id, await everything(context, wish), context.scope)
        check_count(total, wish.guard)
    else:
        here = await there(tx, context, ids, wish.guard)
        if len(here) < len(ids):
            raise not_found(f"{len(ids) - len(here)} of {len(ids)} items are not there: read the list again")
        total = await operations.about(tx, made.id, here)
    detail: dict[str, object] = {"total": total, **wish.wanted(context).arguments}
    partition = await partition_of(tx, "Operation", [made.id])
    return Outcome(OperationStarted(key=made.id), f"Operation:{made.id}", detail, partition=partition)


async def _try_many(context: Context, wish: Wish, ids: Sequence[int]) -> QueueItemsResult:
    """Say what would be done with many: a batch is tried and taken back, then the next one."""
    done: list[int] = []
    asked: list[int] = []
    refused: dict[int, str] = {}
    for at in range(0, len(ids), MOST_AT_ONCE):
        batch = ids[at : at + MOST_AT_ONCE]
        found = await tried(context, lambda tx, batch=batch: _act(tx, context, wish, batch))  # type: ignore[misc] # bound
        if not isinstance(found, Changed):
            return cast("QueueItemsResult", found)
        done += found.done
        asked += found.asked
        refused |= found.refused
    return _answer(ids, Changed(tuple(done), tuple(asked), refused), dry_run=True)


def _answer(ids: Sequence[int], changed: Changed, *, dry_run: bool = False) -> QueueItemsChanged:
    return QueueItemsChanged(
        done=changed.done,
        wanted=changed.asked,
        refused=tuple(sorted(changed.refused.items())),
        matched=len(ids),
        dry_run=dry_run,
    )
