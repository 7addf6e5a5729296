"""The feed: many write, delay and roll back; who reads page by page misses nothing and sees nothing twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest

from aegate_core.database import Database, migrate, open_database
from aegate_core.stores.changes import feed
from aegate_core.stores.changes.feed import START, Changed, Position
from aegate_core.stores.listing import EVERYTHING, AnyOf, Compare, Op
from aegate_core.stores.scope import Scope
from tests.integration.postgres import PostgresServer
from tests.integration.waiting import take_s

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
WRITERS, TRANSACTIONS, OBJECTS = 8, 12, 5


class TakenBack(Exception):
    """Ends a transaction that is to leave nothing."""


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url) as opened:
        yield opened


async def quarantine(tx: Database, key: str, *, ae: str = "default/ct1") -> None:
    await tx.execute(
        "INSERT INTO quarantined_object (arrival_id, ae, reason, size_bytes, received_at, created_at) "
        "VALUES ($1, $2, 'NotDICOM', 1, $3, $3)",
        key,
        ae,
        NOW,
    )


async def resolve(tx: Database, key: str, by: str) -> None:
    await tx.execute(
        "UPDATE quarantined_object SET resolved_at = $2, resolved_by = $3 WHERE arrival_id = $1",
        key,
        datetime.now(UTC),
        by,
    )


async def pages(db: Database, after: Position, first: int) -> tuple[list[Changed], Position]:
    """Return what there is after a position now."""
    await feed.settle(db)
    found: list[Changed] = []
    has_next = True
    while has_next:
        page = await feed.read(db, after, first, EVERYTHING)
        found += page.changes
        after, has_next = page.end, page.has_next
    return found, after


async def write(url: str, number: int, done: set[str]) -> None:
    """Make and resolve objects in transactions that take their time, some of which are taken back."""
    by_chance = random.Random(number)
    async with open_database(url) as db:
        for n in range(TRANSACTIONS):
            key = f"{number}-{n}"
            try:
                async with db.transaction() as tx:
                    await quarantine(tx, key)
                    await take_s(by_chance.uniform(0, 0.01))
                    # The same few objects for all: one waits for the other's commit.
                    await resolve(tx, f"shared-{by_chance.randrange(OBJECTS)}", key)
                    await take_s(by_chance.uniform(0, 0.01))
                    if by_chance.random() < 0.3:
                        raise TakenBack
                done.add(key)
            except TakenBack:
                pass


async def test_reader_misses_nothing_and_sees_nothing_twice_while_many_write(
    database_url: str, db: Database
) -> None:
    for n in range(OBJECTS):
        await quarantine(db, f"shared-{n}")
    done: set[str] = set()
    seen, position = await pages(db, START, 3)
    assert [c.key for c in seen] == [f"shared-{n}" for n in range(OBJECTS)]
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(open_database(database_url)) for _ in range(2)]
        async with asyncio.TaskGroup() as group:
            writing = [group.create_task(write(database_url, n, done)) for n in range(WRITERS)]
            for other in others:  # further processes that give positions at the same time
                group.create_task(settle_until(other, writing))
            while not all(task.done() for task in writing):
                more, position = await pages(db, position, 3)
                seen += more
                await take_s(0.002)
    more, position = await pages(db, position, 3)
    seen += more

    numbers = [c.position.number for c in seen]
    assert numbers == list(range(1, len(seen) + 1))
    assert sorted(c.key for c in seen if c.action == "CREATED" and "shared" not in c.key) == sorted(done)
    assert sum(c.action == "CHANGED" for c in seen) == len(done) > WRITERS * TRANSACTIONS // 2
    # What happened to one object stands in the order in which it happened.
    for n in range(OBJECTS):
        times = [c.position.at for c in seen if c.key == f"shared-{n}"]
        assert times == sorted(times)
    again, _ = await pages(db, START, 100)
    assert again == seen


async def settle_until(db: Database, writing: list[asyncio.Task[None]]) -> None:
    while not all(task.done() for task in writing):
        await feed.settle(db)
        await take_s(0.001)


async def test_who_may_see_little_gets_on_as_fast_as_who_sees_all(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "WINDOW", 4)
    for n in range(10):
        await quarantine(db, f"a-{n}")
    await feed.settle(db)
    none = AnyOf(())
    first = await feed.read(db, START, 100, none)
    assert (first.changes, first.end.number, first.has_next) == ([], 4, True)
    second = await feed.read(db, first.end, 100, none)
    third = await feed.read(db, second.end, 100, none)
    assert (second.end.number, third.end.number, third.has_next) == (8, 10, False)
    assert await feed.holds(db, first.end) and await feed.holds(db, third.end)
    assert (await feed.read(db, third.end, 100, none)).end == third.end
    [one] = (await feed.read(db, START, 100, Compare("key", Op.EQ, "a-2"))).changes
    assert one.position.number == 3


async def test_old_changes_go_but_the_newest_so_that_who_has_read_all_goes_on(db: Database) -> None:
    for n in range(4):
        await quarantine(db, f"a-{n}")
    seen, end = await pages(db, START, 2)
    assert await feed.holds(db, START)
    later = datetime.now(UTC) + timedelta(days=8)

    assert await feed.remove_old(db, later - timedelta(days=9)) == 0
    assert await feed.remove_old(db, later) == 3

    assert await feed.holds(db, end)
    assert not await feed.holds(db, START)
    assert not await feed.holds(db, seen[2].position)
    await quarantine(db, "b")
    more, _ = await pages(db, end, 2)
    assert [(c.key, c.position.number) for c in more] == [("b", 5)]


async def test_position_of_another_history_is_known_as_one(db: Database) -> None:
    await quarantine(db, "a")
    await feed.settle(db)
    here = await feed.latest(db)
    assert here.at is not None
    assert await feed.holds(db, here)
    assert not await feed.holds(db, Position(here.number, here.at - timedelta(seconds=1)))
    assert not await feed.holds(db, Position(here.number + 1, here.at))


async def test_empty_feed_can_be_followed_from_its_start(db: Database) -> None:
    assert await pages(db, START, 10) == ([], START)
    assert await feed.latest(db) == START
    assert await feed.holds(db, START)


async def test_filter_and_question_agree_on_who_sees_what(db: Database) -> None:
    await quarantine(db, "unknown", ae="elsewhere/gone")
    for kind, partition, namespace in (
        ("QUEUE_ITEM", "a/p", None),
        ("STUDY", "b/p", None),
        ("DESTINATION", None, None),
        ("APPLICATION_ENTITY", None, "a"),
        ("APPLICATION_ENTITY", None, "b"),
    ):
        await db.execute(
            "INSERT INTO change (at, kind, action, key, partition, namespace) "
            "VALUES ($1, $2, 'CREATED', 'k', $3, $4)",
            NOW,
            kind,
            partition,
            namespace,
        )
    everything, _ = await pages(db, START, 100)
    for partitions, namespaces, expected in (
        (None, None, 6),
        (None, frozenset[str](), 4),
        (frozenset({"a/p"}), frozenset[str](), 1),
        (frozenset({"a/p", "b/p"}), frozenset({"b"}), 3),
        (frozenset[str](), None, 2),
        (frozenset[str](), frozenset[str](), 0),
    ):
        scope = Scope(partitions, namespaces)
        seen = (await feed.read(db, START, 100, feed.own(scope))).changes
        assert len(seen) == expected
        assert seen == [c for c in everything if feed.sees(scope, c)]


async def test_triggers_that_are_there_are_left_and_others_made_anew(postgres: PostgresServer) -> None:
    """To make one locks a table whose writers may be working on. PostgreSQL only."""
    url = postgres.create("triggers_of_the_feed")
    await migrate(url)
    async with open_database(url) as db:
        asked = "SELECT oid, xmin::text AS made FROM pg_trigger WHERE tgname LIKE '%change%' ORDER BY oid"
        before = await db.fetch(asked)
        assert len(before) == 16
        await migrate(url)
        assert await db.fetch(asked) == before
        await db.execute("DROP TRIGGER study_change_update ON study")
        await db.execute("COMMENT ON TRIGGER delivery_change_update ON delivery IS 'an older one'")
        await migrate(url)
        after = await db.fetch(asked)
        assert len(after) == 16
        assert len({r["made"] for r in after} - {r["made"] for r in before}) == 1
    postgres.drop("triggers_of_the_feed")
