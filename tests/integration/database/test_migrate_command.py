"""``python -m aegate_core.database``: the migration Job and every pod's first container, as a cluster runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from aegate_core.database import known_migrations, open_database
from aegate_core.errors import SchemaMismatch
from tests.integration.database.roles import create_roles
from tests.integration.postgres import PostgresServer
from tests.integration.processes import process, stop
from tests.integration.waiting import eventually

LAST = known_migrations()[-1]
_numbers = count(1)


def command(name: str) -> list[str]:
    return [sys.executable, "-m", "aegate_core.database", name]


def run(name: str, url: str, **environ: str) -> tuple[int, list[dict[str, object]]]:
    """Run a command to its end; return its exit code and the events it logged."""
    settings = {"AEGATE_DATABASE_URL": url, "AEGATE_LOG_FORMAT": "json", **environ}
    done = subprocess.run(command(name), capture_output=True, text=True, timeout=60, env=settings)
    return done.returncode, [json.loads(line) for line in done.stderr.splitlines()]


@pytest.fixture
def empty(postgres: PostgresServer) -> str:
    return postgres.create(f"command_{next(_numbers)}")


async def newer(url: str, name: str) -> None:
    """Have the database say that a newer version migrated it."""
    async with open_database(url) as db:
        await db.execute(
            "INSERT INTO tortoise_migrations (app, name, applied_at) VALUES ('models', $1, $2)",
            name,
            datetime.now(UTC),
        )


def test_pods_wait_for_the_job_and_say_so(postgres: PostgresServer, empty: str, tmp_path: Path) -> None:
    roles = create_roles(postgres)
    as_api = empty.replace("//aegate@", "//aegate_api@")
    log = tmp_path / "wait.log"
    environ = {"AEGATE_DATABASE_URL": as_api, "AEGATE_LOG_FORMAT": "json"}
    with process(command("wait"), log=log, environ=environ) as waiting:
        eventually(
            lambda: "it lacks 0001_initial, which the migration Job adds" in log.read_text(), deadline_s=60
        )
        assert waiting.poll() is None
        code, events = run("migrate", empty, AEGATE_ROLES=roles)
        assert code == 0
        assert {k: events[-1][k] for k in ("event", "schema", "applied", "roles")} == {
            "event": "schema.migrated",
            "schema": LAST,
            "applied": len(known_migrations()),
            "roles": 4,
        }
        assert waiting.wait(60) == 0
    assert json.loads(log.read_text().splitlines()[-1])["event"] == "schema.ready"
    code, events = run("migrate", empty, AEGATE_ROLES=roles)
    assert (code, events[-1]["applied"]) == (0, 0)


@pytest.mark.parametrize("name", ["migrate", "wait"])
def test_a_database_that_is_not_there_is_waited_for_until_told_to_stop(name: str, tmp_path: Path) -> None:
    log = tmp_path / "waiting.log"
    environ = {"AEGATE_DATABASE_URL": "postgres://nobody:secret@127.0.0.1:1/none"}
    with process(command(name), log=log, environ=environ) as waiting:
        eventually(lambda: "does not answer" in log.read_text(), deadline_s=60)
        assert stop(waiting) == 143
    assert "secret" not in log.read_text()


async def test_code_of_before_goes_on_with_a_schema_that_was_expanded(
    postgres: PostgresServer, empty: str
) -> None:
    roles = create_roles(postgres)
    run("migrate", empty, AEGATE_ROLES=roles)
    await newer(empty, "9998_add_something")
    assert [run(name, empty, AEGATE_ROLES=roles)[0] for name in ("migrate", "wait")] == [0, 0]

    await newer(empty, "9999_drop_something_requires_9998")
    for name in ("migrate", "wait"):
        code, events = run(name, empty)
        assert (code, events[-1]["code"]) == (3, SchemaMismatch.code)
        assert "took away what this one needs (9999_drop_something_requires_9998" in str(events[-1]["error"])


@pytest.mark.parametrize(
    ("url", "roles", "said"),
    [
        ("", "", "AEGATE_DATABASE_URL must be set"),
        ("sqlite:///tmp/x", "", "must be postgres://"),
        ("postgres://h/a", "api", "AEGATE_ROLES must be process=role pairs"),
    ],
)
def test_what_is_asked_wrongly_is_refused(url: str, roles: str, said: str) -> None:
    code, events = run("migrate", url, AEGATE_ROLES=roles)
    assert code == 2
    assert said in str(events[-1]["error"])


def test_absent_roles_are_waited_for_with_what_to_type_and_nothing_is_changed(
    postgres: PostgresServer, empty: str, tmp_path: Path
) -> None:
    log, role = tmp_path / "migrate.log", f"late_{next(_numbers)}"
    environ = {"AEGATE_DATABASE_URL": empty, "AEGATE_ROLES": f"api={role}", "AEGATE_LOG_FORMAT": "json"}
    name = empty.partition("@/")[2].partition("?")[0]
    with process(command("migrate"), log=log, environ=environ) as waiting:
        typed = f'CREATE ROLE \\"{role}\\" LOGIN PASSWORD'
        eventually(lambda: typed in log.read_text(), deadline_s=60)
        assert (
            postgres.run("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database=name) == "0"
        )
        postgres.run(f"CREATE ROLE {role} LOGIN")
        assert waiting.wait(60) == 0
    assert json.loads(log.read_text().splitlines()[-1])["roles"] == 1
