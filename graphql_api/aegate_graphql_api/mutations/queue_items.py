"""hold, resume, retry, cancel, priority and bump: for one item, a selection, or all that a filter finds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Union, cast

import strawberry

from aegate_core.database import Database
from aegate_core.services import deliveries
from aegate_core.services.deliveries import Changed
from aegate_core.stores.listing import PageQuery, read_by, read_page
from aegate_core.stores.queue.list_items import ITEM_ORDERS, ITEMS, lock_versions
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.mutations.change import LONGEST_REASON, Outcome, change
from aegate_graphql_api.mutations.problems import (
    ConflictProblem,
    NotFoundProblem,
    UnavailableProblem,
    ValidationProblem,
    conflict,
    invalid,
    not_found,
)
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.node import global_id, number_of
from aegate_graphql_api.schema.queue_item import QueueItem, QueueItemWhere, item_of, items_filter, load_items

MOST_AT_ONCE = 500
"""Items of one mutation: it is one transaction, which holds up the workers of these items. By feel."""


@strawberry.type(description="An item that was left as it is.", directives=[QUEUE])
class ItemLeft:
    """An item that was left as it is."""

    id: strawberry.ID
    because: str = strawberry.field(
        description="The state it is in, NOT_FOUND, or IMAGES_REMOVED: retention removed what it has not sent."
    )


@strawberry.type(description="What was done to queue items; with dryRun, what would be.", directives=[QUEUE])
class QueueItemsChanged:
    """What was done."""

    done: strawberry.Private[tuple[int, ...]]
    wanted: strawberry.Private[tuple[int, ...]]
    matched: int
    dry_run: bool
    left: list[ItemLeft] = strawberry.field(description="Not possible in the state they are in.")

    @strawberry.field(description="How many changed at once.")
    def changed_count(self) -> int:
        """Count."""
        return len(self.done)

    @strawberry.field(description="How many are being sent now: it takes effect between two instances, soon.")
    def asked_count(self) -> int:
        """Count."""
        return len(self.wanted)

    @strawberry.field(description="Those that changed, as they are now.")
    async def changed(self, info: Info) -> list[QueueItem]:
        """Load them after the change."""
        return await _loaded(info, self.done)

    @strawberry.field(description="Those that are being sent now, as they are now.")
    async def asked(self, info: Info) -> list[QueueItem]:
        """Load them after the change."""
        return await _loaded(info, self.wanted)


async def _loaded(info: Info, keys: Sequence[int]) -> list[QueueItem]:
    found = await info.context.loader(load_items).load_many(list(keys))
    return [item for item in cast("list[QueueItem | None]", found) if item is not None]


QueueItemsResult = Annotated[
    Union[QueueItemsChanged, ValidationProblem, NotFoundProblem, ConflictProblem, UnavailableProblem],  # noqa: UP007 - strawberry names a Union
    strawberry.union("QueueItemsResult"),
]


@strawberry.input(description="Which items: ids, or all that a search and filter find.")
class QueueItemSelection:
    """Which items."""

    ids: list[strawberry.ID] | None = None
    search: str | None = None
    where: QueueItemWhere | None = None


@strawberry.input(description="What guards a change.")
class ChangeGuard:
    """What guards a change."""

    expected_count: int | None = strawberry.field(
        default=None, description="How many must match, or nothing is changed; required with a filter."
    )
    version: int | None = strawberry.field(
        default=None, description="The version that the one item must have, or nothing is changed."
    )
    dry_run: bool = strawberry.field(default=False, description="Do nothing, say what would be done.")


Act = Callable[[Database, Sequence[int]], Awaitable[Changed]]


@dataclass(frozen=True, slots=True)
class _Wish:
    action: str
    selection: QueueItemSelection
    guard: ChangeGuard
    act: Act
    reason: str | None = None
    value: int | None = None


async def hold_queue_items(
    info: Info, selection: QueueItemSelection, reason: str | None = None, guard: ChangeGuard | None = None
) -> QueueItemsResult:
    """Hold items."""
    actor, now = info.context.caller.name, info.context.now

    async def act(tx: Database, ids: Sequence[int]) -> Changed:
        return await deliveries.hold(tx, ids, actor=actor, reason=reason, now=now)

    return await _run(info.context, _Wish("holdQueueItems", selection, guard or ChangeGuard(), act, reason))


async def resume_queue_items(
    info: Info, selection: QueueItemSelection, reason: str | None = None, guard: ChangeGuard | None = None
) -> QueueItemsResult:
    """Let held items go on."""
    actor, now = info.context.caller.name, info.context.now

    async def act(tx: Database, ids: Sequence[int]) -> Changed:
        return await deliveries.resume(tx, ids, actor=actor, reason=reason, now=now)

    return await _run(info.context, _Wish("resumeQueueItems", selection, guard or ChangeGuard(), act, reason))


async def retry_queue_items(
    info: Info, selection: QueueItemSelection, reason: str | None = None, guard: ChangeGuard | None = None
) -> QueueItemsResult:
    """Send failed and cancelled items again, without what was acknowledged."""
    actor, now = info.context.caller.name, info.context.now

    async def act(tx: Database, ids: Sequence[int]) -> Changed:
        return await deliveries.retry(tx, ids, actor=actor, reason=reason, now=now)

    return await _run(info.context, _Wish("retryQueueItems", selection, guard or ChangeGuard(), act, reason))


async def cancel_queue_items(
    info: Info, selection: QueueItemSelection, reason: str | None = None, guard: ChangeGuard | None = None
) -> QueueItemsResult:
    """Cancel items."""
    actor, now = info.context.caller.name, info.context.now

    async def act(tx: Database, ids: Sequence[int]) -> Changed:
        return await deliveries.cancel(tx, ids, actor=actor, reason=reason, now=now)

    return await _run(info.context, _Wish("cancelQueueItems", selection, guard or ChangeGuard(), act, reason))


async def set_queue_item_priority(
    info: Info, selection: QueueItemSelection, priority: int, guard: ChangeGuard | None = None
) -> QueueItemsResult:
    """Change the priority, 0 to 100."""

    async def act(tx: Database, ids: Sequence[int]) -> Changed:
        return await deliveries.set_priority(tx, ids, priority)

    wish = _Wish("setQueueItemPriority", selection, guard or ChangeGuard(), act, value=priority)
    return await _run(info.context, wish)


async def bump_queue_items(
    info: Info, selection: QueueItemSelection, guard: ChangeGuard | None = None
) -> QueueItemsResult:
    """Put items to the front."""

    async def act(tx: Database, ids: Sequence[int]) -> Changed:
        return await deliveries.bump(
            tx, ids, now=await tx.time()
        )  # of now: two bumps of one request have an order

    return await _run(info.context, _Wish("bumpQueueItems", selection, guard or ChangeGuard(), act))


async def _run(context: Context, wish: _Wish) -> QueueItemsResult:
    async def work(tx: Database) -> Outcome:
        check_reason(wish.reason)
        ids = await _selected(tx, context, wish)
        there = await _there(tx, context, ids, wish.guard)
        changed = await wish.act(tx, there)
        absent = dict.fromkeys(set(ids) - set(there), "NOT_FOUND")
        changed = replace(changed, refused={**changed.refused, **absent})
        answer = _answer(ids, changed, dry_run=wish.guard.dry_run)
        return Outcome(answer, _target(ids), _detail(changed, wish), dry_run=wish.guard.dry_run)

    return cast("QueueItemsResult", await change(context, wish.action, work))


def check_reason(reason: str | None) -> None:
    """Raise Refused for a reason that cannot be kept."""
    if reason is not None and (len(reason) > LONGEST_REASON or "\0" in reason):
        raise invalid("reason", f"may have {LONGEST_REASON} characters and no NUL: shorten it")


async def _selected(tx: Database, context: Context, wish: _Wish) -> list[int]:
    selection, guard = wish.selection, wish.guard
    by_filter = selection.where is not None or selection.search is not None
    if (selection.ids is not None) == by_filter:
        raise invalid("selection", "give either ids, or search and where")
    if by_filter and guard.expected_count is None:
        raise invalid("guard.expectedCount", "is required with a filter: ask totalCount first")
    if selection.ids is not None:
        ids = list(dict.fromkeys(number_of(i, "QueueItem") for i in selection.ids))
    else:
        ids = await _found(tx, context, selection)
    if guard.expected_count is not None and guard.expected_count != len(ids):
        raise conflict(
            f"expectedCount is {guard.expected_count}, but {len(ids)} items match now: look again, then decide",
            actual_count=len(ids),
        )
    if not ids or len(ids) > MOST_AT_ONCE:
        raise invalid(
            "selection", f"must find 1 to {MOST_AT_ONCE} items, found {len(ids)}: change the selection"
        )
    return ids


async def _found(tx: Database, context: Context, selection: QueueItemSelection) -> list[int]:
    where = await items_filter(context, selection.search, selection.where)
    query = PageQuery(ITEM_ORDERS["OLDEST"], MOST_AT_ONCE + 1, where)
    page = await read_page(tx, ITEMS, query, context.scope)
    return [int(str(row["id"])) for row in page.rows]


async def _there(tx: Database, context: Context, ids: Sequence[int], guard: ChangeGuard) -> list[int]:
    """Lock those that the caller sees and return them. Raises Refused for another version than the guard's."""
    there = await lock_versions(tx, ids, context.scope)
    if len(ids) == 1 and not there:
        raise not_found("there is no such queue item: read the list again")
    if guard.version is None:
        return sorted(there)
    if len(ids) != 1:
        raise invalid("guard.version", f"guards one item, {len(ids)} are selected: leave it out")
    if there[ids[0]] != guard.version:
        (row,) = await read_by(tx, ITEMS, "id", list(ids), context.scope)
        raise conflict(
            f"the item is at version {there[ids[0]]}, not {guard.version}: look at current, then decide",
            current=item_of(row),
        )
    return sorted(there)


def _answer(ids: Sequence[int], changed: Changed, *, dry_run: bool) -> QueueItemsChanged:
    left = [ItemLeft(id=global_id("QueueItem", i), because=why) for i, why in sorted(changed.refused.items())]
    return QueueItemsChanged(
        done=changed.done, wanted=changed.asked, matched=len(ids), dry_run=dry_run, left=left
    )


def _target(ids: Sequence[int]) -> str:
    return "QueueItem:" + ",".join(str(i) for i in ids)


def _detail(changed: Changed, wish: _Wish) -> dict[str, object]:
    detail: dict[str, object] = {
        "changed": list(changed.done),
        "asked": list(changed.asked),
        "left": {str(i): why for i, why in changed.refused.items()},
    }
    if wish.reason:
        detail["reason"] = wish.reason
    if wish.value is not None:
        detail["priority"] = wish.value
    return detail
