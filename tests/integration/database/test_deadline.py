"""A time limit ends the statement itself, not only the waiting for it, and the connection is as good as before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from aegate_core.database import Database, open_database, time_limit
from aegate_core.errors import TimeLimitReached
from tests.integration.waiting import eventually_async, pass_turns

SLOW = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000000)
    SELECT count(*) AS slow FROM n"""
FOR_MINUTES = f"UPDATE fencing SET last_token = ({SLOW})"


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url) as db:
        yield db


async def running(db: Database) -> int:
    """Return how many of the slow statements the server still works at; on SQLite that is asked otherwise."""
    if db.is_sqlite:
        return 0
    sql = """SELECT count(*) FROM pg_stat_activity
        WHERE state = 'active' AND query LIKE '%AS slow%' AND pid <> pg_backend_pid()"""
    return int(await db.fetch_value(sql))


async def is_well(db: Database) -> None:
    """The connection answers at once, and goes on doing so; nothing of the statement goes on anywhere."""
    began = time.monotonic()
    for number in range(20):
        assert await db.fetch_value("SELECT $1 + 1", number) == number + 1
    async with db.transaction():
        await db.execute("UPDATE fencing SET last_token = last_token + 1")
    assert time.monotonic() - began < 10

    async def none_runs() -> bool:
        return await running(db) == 0

    await eventually_async(none_runs, deadline_s=20)


async def test_a_query_that_takes_too_long_is_cancelled(db: Database) -> None:
    for _ in range(3):
        with time_limit(0.2), pytest.raises(TimeLimitReached) as reached:
            await db.fetch(SLOW)
        assert (reached.value.code, reached.value.limit_s) == ("TIME_LIMIT", 0.2)
        assert reached.value.used_s >= 0.2
    await is_well(db)


async def test_a_change_that_takes_too_long_is_rolled_back(db: Database) -> None:
    before = await db.fetch("SELECT * FROM fencing")
    with time_limit(0.3), pytest.raises(TimeLimitReached):
        async with db.transaction():
            await db.execute("UPDATE fencing SET last_token = last_token + 7")
            await db.execute(FOR_MINUTES)
    assert await db.fetch("SELECT * FROM fencing") == before
    await is_well(db)


async def test_a_limit_holds_for_all_statements_together(db: Database) -> None:
    with time_limit(0.2), pytest.raises(TimeLimitReached):
        while True:
            await db.fetch_value("SELECT 1")
    await is_well(db)


async def test_tasks_that_an_operation_leaves_behind_have_its_limit(db: Database) -> None:
    with time_limit(0.2):
        left = asyncio.create_task(db.fetch(SLOW))
    with pytest.raises(TimeLimitReached):
        await left
    await is_well(db)


async def test_a_caller_that_is_cancelled_takes_its_statement_along(db: Database) -> None:
    for _ in range(3):
        asking = asyncio.create_task(db.fetch(SLOW))
        await pass_turns(20)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await is_well(db)


async def test_waiting_for_another_callers_statement_has_the_limit_too(db: Database) -> None:
    others = [asyncio.create_task(db.fetch(SLOW)) for _ in range(8)]
    with time_limit(0.3), pytest.raises(TimeLimitReached):
        while True:
            await db.fetch_value("SELECT 1")
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await is_well(db)
