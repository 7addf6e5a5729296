"""The database layer on both databases: transactions, races, errors, migrations."""

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aegate_core.database import Database, as_datetime, migrate, open_database
from aegate_core.errors import DatabaseUnavailable, InvalidValue, SchemaMismatch
from aegate_core.stores.index.models import AuditEvent, Location
from tests.integration.postgres import PostgresServer


async def test_a_failed_transaction_leaves_nothing(database_url: str) -> None:
    async with open_database(database_url) as db:
        with pytest.raises(ZeroDivisionError):
            async with db.transaction():
                await Location.create(code="OUTER", display_name="")
                async with db.transaction():
                    await Location.create(code="INNER", display_name="")
                raise ZeroDivisionError
        assert await db.fetch_value("SELECT count(*) FROM location") == 0


async def test_an_inner_failure_keeps_the_outer_work(database_url: str) -> None:
    async with open_database(database_url) as db:
        async with db.transaction():
            await Location.create(code="OUTER", display_name="")
            with pytest.raises(ZeroDivisionError):
                async with db.transaction():
                    await Location.create(code="INNER", display_name="")
                    raise ZeroDivisionError
        assert [r["code"] for r in await db.fetch("SELECT code FROM location")] == ["OUTER"]


async def test_two_at_once_count_without_loss(database_url: str) -> None:
    async def count_up(db: Database) -> None:
        row = await db.fetch_one("SELECT last_token FROM fencing WHERE id = $1 FOR UPDATE", 1)
        assert row is not None
        await db.execute("UPDATE fencing SET last_token = $1 WHERE id = 1", row["last_token"] + 1)

    async def ten_times() -> None:
        async with open_database(database_url) as db:
            for _ in range(10):
                await db.atomically(count_up)

    await asyncio.gather(ten_times(), ten_times(), ten_times())
    async with open_database(database_url) as db:
        assert await db.fetch_value("SELECT last_token FROM fencing") == 30


async def test_the_same_sql_serves_both(database_url: str) -> None:
    now = datetime.now(UTC)
    async with open_database(database_url) as db:
        for code in ("A", "B", "C"):
            await db.execute("INSERT INTO location (code, display_name) VALUES ($1, $2)", code, "x")
        rows = await db.fetch("SELECT code FROM location WHERE code = ANY($1) ORDER BY code", ["A", "C"])
        assert rows == [{"code": "A"}, {"code": "C"}]
        assert await db.execute("UPDATE location SET display_name = $1 WHERE code <> $2", "y", "A") == 2
        assert await db.execute("DELETE FROM location WHERE code = $1", "none") == 0
        await AuditEvent.create(at=now, actor="a", action="hold", target="t", outcome="OK", detail={"k": [1]})
        assert as_datetime(await db.fetch_value("SELECT at FROM audit_event")) == now


async def test_the_audit_is_append_only(database_url: str) -> None:
    async with open_database(database_url) as db:
        await AuditEvent.create(at=datetime.now(UTC), actor="a", action="hold", target="t", outcome="OK")
        for statement in ("UPDATE audit_event SET actor = 'b'", "DELETE FROM audit_event"):
            with pytest.raises(Exception, match="append-only"):
                await db.execute(statement)
        assert [r["actor"] for r in await db.fetch("SELECT actor FROM audit_event")] == ["a"]


async def test_migrations_run_once_however_many_start_them(empty_database_url: str) -> None:
    applied = await asyncio.gather(*[migrate(empty_database_url) for _ in range(3)])
    assert sorted(len(a) for a in applied) == [0, 0, len(max(applied, key=len))]
    assert await migrate(empty_database_url) == []


async def test_a_new_file_is_opened_however_many_come_first(tmp_path: Path) -> None:
    async def ask(url: str) -> object:
        async with open_database(url) as db:
            return await db.fetch_value("PRAGMA journal_mode")

    for number in range(40):  # one round in twelve hit SQLite's refusal that knows no timeout
        url = f"sqlite://{tmp_path}/{number}.sqlite3"
        assert await asyncio.gather(*[ask(url) for _ in range(8)]) == ["wal"] * 8


async def test_a_newer_database_is_refused_and_left_alone(database_url: str) -> None:
    async with open_database(database_url) as db:
        await db.execute(
            "INSERT INTO tortoise_migrations (app, name, applied_at) VALUES ('models', '9999_later', $1)",
            datetime.now(UTC),
        )
    with pytest.raises(SchemaMismatch, match="newer version of aegate"):
        await migrate(database_url)


async def test_an_absent_database_says_so() -> None:
    async with open_database("postgres://nobody@127.0.0.1:1/none") as db:
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            await db.fetch("SELECT 1")
        with pytest.raises(DatabaseUnavailable):
            async with db.transaction():
                pass


async def test_a_server_that_refuses_says_what_to_mend(postgres: PostgresServer) -> None:
    postgres.create("guarded")
    postgres.run("CREATE ROLE reader LOGIN")
    said = {}
    for user, database in (("reader", "guarded"), ("stranger", "guarded"), ("reader", "absent")):
        with pytest.raises(DatabaseUnavailable) as caught:
            await migrate(f"postgres://{user}@/{database}?host={postgres.folder}")
        said[user, database] = caught.value.message
    assert "make the user its owner" in said["reader", "guarded"]
    assert "refuses this user or its password" in said["stranger", "guarded"]
    assert "is not there: make it with createdb" in said["reader", "absent"]
    with pytest.raises(InvalidValue, match="must have a port of 1 to 65535"):
        await migrate("postgres://h:port/name")


async def test_a_database_without_its_tables_says_so(empty_database_url: str) -> None:
    async with open_database(empty_database_url) as db:
        with pytest.raises(SchemaMismatch, match="lacks some"):
            await db.fetch("SELECT id FROM study")
        with pytest.raises(SchemaMismatch):
            async with db.transaction():
                await db.execute("DELETE FROM study")


async def test_a_connection_lost_within_a_transaction_is_a_database_that_is_away(
    postgres: PostgresServer, postgres_template: str
) -> None:
    url = postgres.create("lost", template=postgres_template)
    async with open_database(url) as db, open_database(url) as other:
        with pytest.raises(DatabaseUnavailable):
            async with db.transaction():
                await Location.create(code="LOST", display_name="")
                backend = await db.fetch_value("SELECT pg_backend_pid()")
                await other.fetch("SELECT pg_terminate_backend($1, 5000)", backend)
                await db.fetch("SELECT 1")
        assert await db.fetch_value("SELECT count(*) FROM location") == 0


async def test_a_connection_that_failed_half_made_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "aegate.sqlite3"
    path.write_bytes(b"this is no database " * 500)
    async with open_database(f"sqlite://{path}") as db:
        with pytest.raises(DatabaseUnavailable):
            await db.fetch("SELECT 1")
        path.write_bytes(b"")
        assert await db.fetch_value("PRAGMA foreign_keys") == 1
        assert await db.fetch_value("PRAGMA journal_mode") == "wal"
        assert await db.fetch_value("PRAGMA synchronous") == 2
        assert await db.fetch_value("PRAGMA busy_timeout") == 15_000


async def test_a_damaged_sqlite_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "damaged.sqlite3"
    path.write_bytes(b"no database" * 1000)
    async with open_database(f"sqlite://{path}") as db:
        with pytest.raises(
            DatabaseUnavailable, match=r"damaged or no database \(SQLITE_NOTADB\): .* restore"
        ):
            await db.fetch("SELECT 1 FROM location")
        with pytest.raises(DatabaseUnavailable):
            async with db.transaction():
                pass


async def test_a_standby_after_a_failover_is_a_database_that_is_away(
    postgres: PostgresServer, postgres_template: str
) -> None:
    url = postgres.create("standby", template=postgres_template)
    async with open_database(url) as db:
        with pytest.raises(DatabaseUnavailable, match="ReadOnlySQLTransactionError"):
            async with db.transaction():
                before = await db.fetch_value("SELECT pg_backend_pid()")
                await db.execute("SET TRANSACTION READ ONLY")
                await db.execute("DELETE FROM location")
        # It would be asked again and again while others know the new primary.
        assert await db.fetch_value("SELECT pg_backend_pid()") != before


async def test_a_locked_sqlite_is_away_and_gives_its_lock_back(sqlite_template: Path, tmp_path: Path) -> None:
    path = tmp_path / "locked.sqlite3"
    shutil.copyfile(sqlite_template, path)
    async with open_database(f"sqlite://{path}") as holder, open_database(f"sqlite://{path}") as other:
        await other.execute("PRAGMA busy_timeout = 50")
        async with holder.transaction():
            with pytest.raises(DatabaseUnavailable, match="is locked by another process: find it with fuser"):
                async with other.transaction():
                    pass
        async with other.transaction():
            assert await other.execute("UPDATE fencing SET last_token = 5") == 1
