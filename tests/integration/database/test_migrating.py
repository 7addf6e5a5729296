"""Bringing a schema up beside those who work: what may take long does, and nobody is locked out for nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import pytest

from aegate_core.database import Database, known_migrations, migrate, open_database
from tests.integration.postgres import PostgresServer
from tests.integration.processes import process
from tests.integration.waiting import eventually

_numbers = count(1)
TRIGGERS = "SELECT oid, xmin::text AS made FROM pg_trigger WHERE NOT tgisinternal ORDER BY oid"
SAMPLE = (
    "SELECT attstattarget, xmin::text AS made FROM pg_attribute WHERE attrelid = 'study'::regclass "
    "AND attname = 'search_text'"
)
INDEXES = "SELECT count(*) FROM pg_indexes WHERE indexname = $1"


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    """A database without any table."""
    name = f"migrating_{next(_numbers)}"
    yield postgres.create(name)
    postgres.drop(name)


async def test_no_time_limit_of_the_url_or_the_server_holds_for_a_migration(
    url: str, postgres: PostgresServer
) -> None:
    name = url.partition("@/")[2].partition("?")[0]
    postgres.run(f"ALTER DATABASE {name} SET statement_timeout = 500")

    async def long(tx: Database) -> None:
        await tx.execute("SELECT pg_sleep(1.5)")

    assert await migrate(f"{url}&command_timeout=1", then=long) == list(known_migrations())


async def test_who_writes_is_not_waited_for_where_everything_is_there(url: str) -> None:
    await migrate(url)
    async with open_database(url) as writer, open_database(url) as db:
        await db.execute("CREATE INDEX study_uid ON study (study_instance_uid)")
        before = await db.fetch(TRIGGERS)
        async with writer.transaction():
            await writer.execute("LOCK TABLE study, delivery, audit_event, arrival IN ROW EXCLUSIVE MODE")
            assert await migrate(url) == []
            assert await db.fetch_value(INDEXES, "study_uid") == 1
        assert await migrate(url) == []
        assert await db.fetch_value(INDEXES, "study_uid") == 0
        assert await db.fetch(TRIGGERS) == before


async def test_a_family_name_is_not_thought_to_be_in_a_hundredth_of_all_studies(url: str) -> None:
    """PostgreSQL judges by so many texts how many studies a word is in; who migrates again alters nothing."""
    await migrate(url)
    async with open_database(url) as db:
        before = await db.fetch(SAMPLE)
        assert [row["attstattarget"] for row in before] == [3000]
        await migrate(url)
        assert await db.fetch(SAMPLE) == before


async def test_a_table_that_another_holds_is_waited_for_and_why_is_said(url: str, tmp_path: Path) -> None:
    await migrate(url)
    log = tmp_path / "migrate.log"
    command = [sys.executable, "-m", "aegate_core.database", "migrate"]
    environ = {"AEGATE_DATABASE_URL": url, "AEGATE_LOG_FORMAT": "json"}
    async with open_database(url) as holder, AsyncExitStack() as held:
        await holder.execute("DROP INDEX study_by_uid")
        await held.enter_async_context(holder.transaction())
        await holder.execute("LOCK TABLE study IN ROW EXCLUSIVE MODE")
        with process(command, log=log, environ=environ) as waiting:
            said = "has a table locked by another transaction"
            eventually(lambda: said in log.read_text(), deadline_s=60)
            assert waiting.poll() is None
            assert await holder.fetch_value(INDEXES, "study_by_uid") == 0
            await held.aclose()
            assert waiting.wait(60) == 0
        assert await holder.fetch_value(INDEXES, "study_by_uid") == 1
