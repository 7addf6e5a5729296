"""The feed of changes as readers see it: in one order, without gaps, the same for all.

On SQLite one transaction writes at a time, so the ids are that order. On PostgreSQL they are not: a transaction that
drew a lower number may commit later, and a reader that went on would never see its rows. So rows have no position
until they are committed: `settle` then gives the next numbers to all it sees, one at a time by the lock of a row.
Rows of one object keep their order: its lock lets the second change draw its number only after the first committed.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from aegate_core.database import Database, as_datetime
from aegate_core.stores.listing import (
    AllOf,
    AnyOf,
    Column,
    Compare,
    Filter,
    Op,
    Order,
    PageQuery,
    Source,
    read_page,
)
from aegate_core.stores.scope import ALL_ROWS, Scope

SETTLED_AT_ONCE = 5_000
"""Rows that get their position in one transaction: 40 ms. By feel."""

WINDOW = 10_000
"""Positions that one page looks at, whoever may see them: who may see few is answered as soon as who sees all."""

REMOVED_AT_ONCE = 5_000

ENTITY = "APPLICATION_ENTITY"
OF_PARTITIONS = ("QUEUE_ITEM", "STUDY", "CONFLICT", "QUARANTINED_OBJECT", "DESTINATION", "WORKLIST_ITEM")
"""Kinds whose rows belong to a patient partition; an AE belongs to its namespace."""
OPERATION = "OPERATION"
"""An operation may be about several partitions, so its rows are hints for streams, and in nobody's feed."""


class Position(NamedTuple):
    """A place in the feed, and when the change happened that stands there: a restored database has another there."""

    number: int
    at: datetime | None


START = Position(0, None)
"""Before the first change there ever was."""


class Changed(NamedTuple):
    """A row of the feed."""

    position: Position
    kind: str
    action: str
    key: str
    state: str | None
    partition: str | None
    namespace: str | None


class Page(NamedTuple):
    """Rows after a position, and how far was looked: further than the last row where others may not be seen."""

    changes: list[Changed]
    end: Position
    has_next: bool


_SETTLE = """
UPDATE change SET position = $1::bigint + w.n
FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM change WHERE position IS NULL ORDER BY id LIMIT $2) AS w
WHERE change.id = w.id
"""


async def settle(db: Database) -> None:
    """Give their positions to all changes that are committed. Nothing to do on SQLite."""
    while not db.is_sqlite and await db.fetch_one("SELECT id FROM change WHERE position IS NULL LIMIT 1"):
        if await db.atomically(_settle_some) < SETTLED_AT_ONCE:
            return


async def _settle_some(tx: Database) -> int:
    last = await tx.fetch_value("SELECT last_position FROM change_feed WHERE id = 1 FOR UPDATE")
    # A statement of its own, after the lock was got: so it sees what others have settled meanwhile.
    settled = await tx.execute(_SETTLE, last, SETTLED_AT_ONCE)
    await tx.execute("UPDATE change_feed SET last_position = last_position + $1 WHERE id = 1", settled)
    return settled


async def latest(db: Database) -> Position:
    """Return where the newest change stands; `settle` first to have all that is committed."""
    place = _place(db)
    row = await db.fetch_one(
        f"SELECT {place} AS number, at FROM change WHERE {place} IS NOT NULL ORDER BY {place} DESC LIMIT 1"
    )
    return START if row is None else Position(int(row["number"]), as_datetime(row["at"]))


async def oldest(db: Database) -> Position:
    """Return the place before the oldest change that is kept."""
    first = await db.fetch_value(f"SELECT min({_place(db)}) FROM change")
    return START if first is None else Position(int(first) - 1, None)


async def holds(db: Database, position: Position) -> bool:
    """Say whether all that followed ``position`` is still there: neither removed by age nor of another database."""
    place = _place(db)
    if position == START:
        first = await db.fetch_value(f"SELECT min({place}) FROM change")
        return first is None or int(first) == 1
    at = await db.fetch_value(f"SELECT at FROM change WHERE {place} = $1", position.number)
    return at is not None and as_datetime(at) == position.at


def own(scope: Scope) -> Filter:
    """Return what narrows the feed to ``scope``; `sees` says the same of one change."""
    of_partitions: list[Filter] = [Compare("kind", Op.IN, list(OF_PARTITIONS))]
    of_namespaces: list[Filter] = [Compare("kind", Op.EQ, ENTITY)]
    if scope.partitions is not None:
        of_partitions.append(Compare("partition", Op.IN, sorted(scope.partitions)))
    if scope.namespaces is not None:
        of_namespaces.append(Compare("namespace", Op.IN, sorted(scope.namespaces)))
    return AnyOf((AllOf(tuple(of_partitions)), AllOf(tuple(of_namespaces))))


def sees(scope: Scope, change: Changed) -> bool:
    """Whether ``scope`` may know of a change; `own` says the same as a filter."""
    if change.kind == ENTITY:
        return scope.namespaces is None or change.namespace in scope.namespaces
    return scope.partitions is None or change.partition in scope.partitions


async def read(db: Database, after: Position, first: int, where: Filter) -> Page:
    """Return the next changes that ``where`` lets through; narrow it with `own`."""
    newest = await latest(db)
    upto = min(after.number + WINDOW, newest.number)
    inside = AllOf((where, Compare("position", Op.TO, upto)))
    order = Order("POSITION", ((_place(db), "bigint"),), descending=False)
    page = await read_page(db, _source(db), PageQuery(order, first, inside, (after.number,)), ALL_ROWS)
    changes = [_changed(row) for row in page.rows]
    if page.has_next:
        return Page(changes, changes[-1].position, has_next=True)
    if upto <= after.number:
        return Page(changes, after, has_next=False)
    end = newest if upto == newest.number else await _at(db, upto)
    return Page(changes, end, has_next=upto < newest.number)


async def _at(db: Database, number: int) -> Position:
    at = await db.fetch_value(f"SELECT at FROM change WHERE {_place(db)} = $1", number)
    return Position(number, as_datetime(at))


async def remove_old(db: Database, before: datetime) -> int:
    """Remove changes that are older, but never the newest: who has read all may go on, however long nothing happens."""
    await settle(db)
    newest = await latest(db)
    removed = 0
    while gone := await db.execute(
        f"DELETE FROM change WHERE at < $1 AND {_place(db)} < $2 "
        "AND id IN (SELECT id FROM change ORDER BY id LIMIT $3)",
        before,
        newest.number,
        REMOVED_AT_ONCE,
    ):
        removed += gone
    return removed


def _place(db: Database) -> str:
    return "id" if db.is_sqlite else "position"


def _source(db: Database) -> Source:
    return Source(
        select=f"{_place(db)} AS number, at, kind, action, key, state, partition, namespace",
        table="change",
        belongs=(),
        columns={
            "position": Column(_place(db), "bigint"),
            "kind": Column("kind"),
            "key": Column("key"),
            "partition": Column("partition"),
            "namespace": Column("namespace"),
        },
    )


def _changed(row: dict[str, object]) -> Changed:
    def text(name: str) -> str | None:
        return None if row[name] is None else str(row[name])

    return Changed(
        position=Position(int(str(row["number"])), as_datetime(row["at"])),
        kind=str(row["kind"]),
        action=str(row["action"]),
        key=str(row["key"]),
        state=text("state"),
        partition=text("partition"),
        namespace=text("namespace"),
    )
