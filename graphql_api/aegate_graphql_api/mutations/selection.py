"""Which queue items a mutation is about, and what guards it: ids, whole studies, series or images, or a filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import strawberry

from aegate_core.database import Database
from aegate_core.services.operations import MOST
from aegate_core.services.wanted import Wanted
from aegate_core.stores.listing import (
    AllOf,
    AnyOf,
    Compare,
    Filter,
    Op,
    PageQuery,
    Source,
    read_by,
    read_page,
)
from aegate_core.stores.queue.list_items import ITEM_ORDERS, ITEMS, lock_versions
from aegate_core.stores.queue.operations import Found
from aegate_graphql_api.context import Context
from aegate_graphql_api.mutations.change import LONGEST_REASON
from aegate_graphql_api.mutations.problems import conflict, invalid, not_found
from aegate_graphql_api.schema.node import key_of, number_of
from aegate_graphql_api.schema.queue_item import item_of, items_filter
from aegate_graphql_api.schema.queue_item_where import QueueItemWhere

MOST_AT_ONCE = 500
"""Items of one transaction, which holds up the workers of these items. By feel."""

MOST_TRIED = 5_000
"""Items that a dry run tries within its request; of more it is an Operation. By feel: the request may take 20 s."""

MOST_IDS = 4_900
"""Ids that a request may name: its variables have 5,000 values. More are found by a filter."""


@strawberry.input(
    description="Which items: by their ids; all of some studies, series, images or destinations; or all that a search "
    "and filter find. Give one of the three kinds."
)
class QueueItemSelection:
    """Which items."""

    ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Ids of queue items, at most 4,900."
    )
    study_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Ids of studies, at most 500: all their items, for whichever destination."
    )
    series_ids: list[strawberry.ID] | None = strawberry.field(
        default=None,
        description="Ids of series, at most 500: the items that are of such a series, or of images of it, alone. An "
        "item of a whole study is not among them.",
    )
    instance_ids: list[strawberry.ID] | None = strawberry.field(
        default=None,
        description="Ids of images (instances), at most 500: the items that are of such an image alone.",
    )
    destination_ids: list[strawberry.ID] | None = strawberry.field(
        default=None,
        description="Ids of destinations, at most 500: beside studyIds, seriesIds or instanceIds only what goes there "
        "of them; alone, all that goes there and was not delivered, which needs expectedCount as a filter does.",
    )
    search: str | None = strawberry.field(default=None, description="As in queueItems.")
    where: QueueItemWhere | None = strawberry.field(default=None, description="As in queueItems.")


@strawberry.input(description="What guards a change.")
class ChangeGuard:
    """What guards a change."""

    expected_count: int | None = strawberry.field(
        default=None,
        description="How many must match, or nothing is changed; required with search or where, and with "
        "destinationIds alone, but for a dry run.",
    )
    version: int | None = strawberry.field(
        default=None, description="The version that the one item must have, or nothing is changed."
    )
    dry_run: bool = strawberry.field(
        default=False, description="Do nothing, say what would be done; of more than 5,000 as an Operation."
    )
    idempotency_key: str | None = strawberry.field(
        default=None,
        description="1 to 128 characters, such as a UUID: asked again with the same one, nothing is done a second "
        "time, and the answer says what was done then.",
    )
    as_operation: bool = strawberry.field(
        default=False, description="Do it in the background also where it is 500 items or fewer."
    )


@dataclass(frozen=True, slots=True)
class Wish:
    """A mutation of queue items."""

    action: str
    selection: QueueItemSelection
    guard: ChangeGuard
    reason: str | None = None
    priority: int | None = None

    def wanted(self, context: Context) -> Wanted:
        """Return it as the services know it."""
        caller = context.caller
        return Wanted(
            self.action,
            caller.name,
            caller.address,
            reason=self.reason,
            priority=self.priority,
            dry_run=self.guard.dry_run,
        )

    def check(self) -> None:
        """Raise Refused for what can be told without the database."""
        check_reason(self.reason)
        if self.priority is not None and not 0 <= self.priority <= 100:
            raise invalid("priority", f"must be 0 to 100, got {self.priority}: choose one within")
        if self.guard.idempotency_key is not None:
            check_key("guard.idempotencyKey", self.guard.idempotency_key)


def check_reason(reason: str | None) -> None:
    """Raise Refused for a reason that cannot be kept."""
    if reason is not None and (len(reason) > LONGEST_REASON or "\0" in reason):
        raise invalid("reason", f"may have {LONGEST_REASON} characters and no NUL: shorten it")


def check_key(field: str, key: str) -> None:
    """Raise Refused for an idempotency key that cannot be kept."""
    if not 1 <= len(key) <= 128 or "\0" in key:
        raise invalid(field, "must have 1 to 128 characters: a UUID will do")


async def selected(tx: Database, context: Context, wish: Wish) -> list[int]:
    """Return the ids of what is selected, those that are not there as well; oldest first.

    More than MOST_AT_ONCE, of a dry run MOST_TRIED, stands for all of them, however many. Raises Refused where
    nothing is found, or not as many as are expected.
    """
    selection, guard = wish.selection, wish.guard
    _check_kind(selection)
    most = MOST_TRIED if guard.dry_run else MOST_AT_ONCE
    if selection.ids is not None:
        ids = _numbers("ids", selection.ids, "QueueItem", MOST_IDS)
    else:
        limit = most + 1
        found = await _filter(context, selection, guard)
        page = await read_page(tx, ITEMS, PageQuery(ITEM_ORDERS["OLDEST"], limit, found), context.scope)
        ids = [int(str(row["id"])) for row in page.rows]
    if selection.ids is not None or len(ids) <= most:
        check_count(len(ids), guard)
    return ids


async def everything(context: Context, wish: Wish) -> Found:
    """Return the filter of a selection that is none of ids."""
    found = await _filter(context, wish.selection, wish.guard)
    return Found(ITEMS, found, ITEM_ORDERS["OLDEST"], MOST + 1)


def check_count(count: int, guard: ChangeGuard) -> None:
    """Raise Refused unless so many may be changed."""
    if guard.expected_count is not None and guard.expected_count != count:
        raise conflict(
            f"expectedCount is {guard.expected_count}, but {count} items match now: look again, then decide",
            actual_count=count,
        )
    if not 1 <= count <= MOST:
        raise invalid("selection", f"must find 1 to {MOST} items, found {count}: change the selection")


def _check_kind(selection: QueueItemSelection) -> None:
    of = selection
    kinds = (
        (of.ids,),
        (of.study_ids, of.series_ids, of.instance_ids, of.destination_ids),
        (of.search, of.where),
    )
    if sum(any(given is not None for given in kind) for kind in kinds) != 1:
        raise invalid(
            "selection",
            "give one of ids, of studyIds, seriesIds, instanceIds and destinationIds, or of search and where",
        )


async def _filter(context: Context, selection: QueueItemSelection, guard: ChangeGuard) -> Filter:
    named = {
        "study": _keys("studyIds", selection.study_ids, "Study"),
        "series": _keys("seriesIds", selection.series_ids, "Series"),
        "instance": _keys("instanceIds", selection.instance_ids, "Instance"),
    }
    parts = tuple(Compare(column, Op.IN, keys) for column, keys in named.items() if keys is not None)
    going = _going_to(selection.destination_ids)
    if parts:
        return AllOf((AnyOf(parts), *going))
    if guard.expected_count is None and not guard.dry_run:
        raise invalid(
            "guard.expectedCount", "is required with a filter: ask totalCount, or with dryRun, first"
        )
    if going:
        return AllOf((*going, Compare("state", Op.IN, UNDELIVERED)))
    return AllOf((await items_filter(context, selection.search, selection.where),))


UNDELIVERED = ["SCHEDULED", "IN_PROGRESS", "RETRY", "HELD", "FAILED", "CANCELED"]
"""The states in which something can be done to an item."""


def _going_to(ids: Sequence[strawberry.ID] | None) -> tuple[Compare, ...]:
    if ids is None:
        return ()
    must_fit("destinationIds", ids, MOST_AT_ONCE)
    return (Compare("destination", Op.IN, sorted({key_of(id, "Destination") for id in ids})),)


def _keys(field: str, ids: Sequence[strawberry.ID] | None, kind: str) -> list[int] | None:
    return None if ids is None else _numbers(field, ids, kind, MOST_AT_ONCE)


def _numbers(field: str, ids: Sequence[strawberry.ID], kind: str, most: int) -> list[int]:
    must_fit(field, ids, most)
    return list(dict.fromkeys(number_of(id, kind) for id in ids))


def must_fit(field: str, ids: Sequence[strawberry.ID], most: int) -> None:
    """Raise Refused for more ids than a request may have."""
    if len(ids) > most:
        raise invalid(f"selection.{field}", f"may hold {most}, got {len(ids)}: ask in several requests")


async def there(tx: Database, context: Context, ids: Sequence[int], guard: ChangeGuard) -> list[int]:
    """Lock those that the caller sees and return them. Raises Refused for another version than the guard's."""
    found = await lock_versions(tx, ids, context.scope)
    if len(ids) == 1 and not found:
        raise not_found("there is no such queue item: read the list again")
    if guard.version is None:
        return sorted(found)
    if len(ids) != 1:
        raise invalid("guard.version", f"guards one item, {len(ids)} are selected: leave it out")
    if found[ids[0]] != guard.version:
        (row,) = await read_by(tx, ITEMS, "id", list(ids), context.scope)
        raise conflict(
            f"the item is at version {found[ids[0]]}, not {guard.version}: look at current, then decide",
            current=item_of(row),
        )
    return sorted(found)


async def must_see(
    tx: Database, context: Context, source: Source, column: str, keys: Sequence[object]
) -> None:
    """Raise Refused NOT_FOUND unless the caller sees a row for each key: what is somebody else's is not there."""
    found = await read_by(tx, source, column, keys, context.scope)
    if len(found) < len(keys):
        raise not_found(f"{len(keys) - len(found)} of {len(keys)} are not there: read the list again")
