"""One SQL text for both databases."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegate_core.database.connection import connection_config
from aegate_core.database.dialect import (
    as_datetime,
    as_json,
    postgres_arguments,
    sqlite_arguments,
    time_text,
    to_sqlite,
)
from aegate_core.errors import InvalidValue


@pytest.mark.parametrize(
    ("postgres", "sqlite"),
    [
        ("SELECT a FROM t WHERE b = $1 AND c = $12", "SELECT a FROM t WHERE b = ?1 AND c = ?12"),
        (
            "SELECT a FROM t WHERE id = ANY($2)",
            "SELECT a FROM t WHERE id IN (SELECT value FROM json_each(?2))",
        ),
        ("x =ANY( $1::bigint[] )", "x IN (SELECT value FROM json_each(?1))"),
        ("SELECT $1::text, $2::bigint", "SELECT ?1, ?2"),
        (
            "SELECT id FROM slot WHERE n = $1 FOR UPDATE OF slot SKIP LOCKED",
            "SELECT id FROM slot WHERE n = ?1 ",
        ),
        ("SELECT id FROM slot FOR NO KEY UPDATE", "SELECT id FROM slot "),
    ],
)
def test_postgresql_text_becomes_sqlites(postgres: str, sqlite: str) -> None:
    assert to_sqlite(postgres) == sqlite


def test_arguments_are_adapted_for_each_database() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))
    assert sqlite_arguments([at, {"a": 1}, [1, 2], None, True, "x"]) == [
        "2026-01-02 02:04:05+00:00",
        '{"a": 1}',
        "[1, 2]",
        None,
        True,
        "x",
    ]
    assert postgres_arguments([at, {"a": 1}, [1, 2], None]) == [at, '{"a": 1}', [1, 2], None]


def test_naive_time_is_refused() -> None:
    with pytest.raises(InvalidValue, match="must be aware"):
        time_text(datetime(2026, 1, 1))


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_times_as_text_sort_as_times(a: datetime, b: datetime) -> None:
    assert (time_text(a) < time_text(b)) == (a < b)
    assert as_datetime(time_text(a)) == a


def test_json_comes_back_from_text_and_from_values() -> None:
    assert as_json('{"a": [1]}') == {"a": [1]}
    assert as_json({"a": 1}) == {"a": 1}


def test_urls_are_read() -> None:
    assert connection_config("sqlite:///data/x.sqlite3")["credentials"]["file_path"] == "/data/x.sqlite3"
    postgres = connection_config("postgres://me:p%40ss@db.example:5433/aegate?sslmode=require")["credentials"]
    assert (postgres["user"], postgres["password"], postgres["host"]) == ("me", "p@ss", "db.example")
    assert (postgres["port"], postgres["database"], postgres["ssl"]) == (5433, "aegate", "require")
    assert connection_config("postgres:///aegate?host=/run/pg&port=5440")["credentials"]["host"] == "/run/pg"
    with pytest.raises(InvalidValue, match="must name a database"):
        connection_config("postgres://db.example")
