"""One SQL text for both databases."""

import traceback
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegate_core.database.connection import connection_config, place_of
from aegate_core.database.dialect import (
    as_datetime,
    as_int,
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
        (
            "FROM jsonb_array_elements(a) AS b, jsonb_array_elements_text(c -> 'd') AS e",
            "FROM json_each(a) AS b, json_each(c -> 'd') AS e",
        ),
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
    assert (postgres["user"], postgres["password"]) == ("me", "p@ss")
    assert (postgres["hosts"], postgres["database"]) == ([("db.example", 5433)], "aegate")
    assert (postgres["ssl"], postgres["timeout"], postgres["command_timeout"]) == ("require", 10, 60)
    with pytest.raises(InvalidValue, match="must name a database"):
        connection_config("postgres://db.example")


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgres:///aegate", [(None, 5432)]),
        ("postgres:///aegate?host=/run/pg&port=5440", [("/run/pg", 5440)]),
        ("postgres://me@one:5433,two,[::1]:5434/aegate", [("one", 5433), ("two", 5432), ("::1", 5434)]),
        ("postgres://me@/aegate?host=/run/a,/run/b&port=5433,5434", [("/run/a", 5433), ("/run/b", 5434)]),
        ("postgres://me@/aegate?host=one,two&port=5433", [("one", 5433), ("two", 5433)]),
    ],
)
def test_a_url_may_name_several_hosts(url: str, hosts: list[tuple[str | None, int]]) -> None:
    credentials = connection_config(f"{url}{'&' if '?' in url else '?'}connect_timeout=2")["credentials"]
    assert (credentials["hosts"], credentials["timeout"]) == (hosts, 2)
    assert credentials["wait_s"] == 6 * len(hosts)


@pytest.mark.parametrize("host", ["one:0", "one:65536", "one:x", "one:1:2"])
def test_a_port_that_cannot_be_is_refused(host: str) -> None:
    with pytest.raises(InvalidValue, match="must have a port of 1 to 65535"):
        connection_config(f"postgres://{host}/aegate")


@pytest.mark.parametrize("host", ["[::1", "[zz]:5432", "h\u2100st:5432"])
def test_a_url_that_cannot_be_taken_apart_is_refused_without_its_password(host: str) -> None:
    url = f"postgres://me:p%40ss@{host}/aegate"
    with pytest.raises(InvalidValue, match="must have the form postgres://") as refused:
        connection_config(url)
    assert "p%40ss" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf"])
def test_a_timeout_that_cannot_be_is_refused(seconds: str) -> None:
    with pytest.raises(InvalidValue, match="connect_timeout in the database URL must be seconds above 0"):
        connection_config(f"postgres://one/aegate?connect_timeout={seconds}")


def test_a_place_holds_neither_user_nor_password() -> None:
    assert place_of("postgres://me:p%40ss@one:5433,two/aegate") == "at one:5433, two:5432"
    assert place_of("postgres:///aegate") == "at localhost:5432"
    assert place_of("sqlite:///data/x.sqlite3") == "in /data/x.sqlite3"


@pytest.mark.parametrize("value", [90_000, Decimal("9E+4"), Decimal(90_000), "90000"])
def test_number_of_a_row_is_an_int_however_the_driver_brings_it(value: object) -> None:
    assert as_int(value) == 90_000
    assert isinstance(as_int(value), int)
