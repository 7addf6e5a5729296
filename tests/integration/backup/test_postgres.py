"""What a backup of an index in PostgreSQL needs beside: its programs, its rights, an empty database."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from aegate_core.database import open_database
from aegate_core.database.postgres_tools import Tool, dump, find_tool, restore
from aegate_core.errors import AegateError, InvalidInput, NotFound, SchemaMismatch, StorageError
from aegate_core.services.backup import Job, make_backup, restore_backup
from aegate_core.settings import DataFolder
from tests import sentinel
from tests.dicom import ct_study
from tests.integration.backup.test_backup import LATER, files
from tests.integration.identities import Authority
from tests.integration.intake.hospital import Place, at, spool_folder
from tests.integration.postgres import PostgresServer

REAL = find_tool("pg_dump", at_least=1)


@pytest.fixture
def databases(postgres: PostgresServer, postgres_template: str) -> Iterator[tuple[str, str]]:
    """A migrated database, and an empty one to restore into."""
    names = ("source", "empty")
    yield postgres.create(names[0], template=postgres_template), postgres.create(names[1])
    for name in names:
        postgres.drop(name)


@pytest.fixture
async def indexed(databases: tuple[str, str], tmp_path: Path) -> AsyncIterator[Place]:
    """Three images in the index."""
    root = tmp_path / "data"
    root.mkdir()
    (root / "VERSION").write_text("1\n")
    async with open_database(databases[0]) as db:
        with spool_folder(root / "spool") as spool:
            here = Place(db, root, spool)
            await here.apply()
            here.receive_all(ct_study("s1", 3))
            await here.index()
            yield here


async def back_up(place: Place, target: Path) -> None:
    await make_backup(Job(place.db, DataFolder(place.root), target, data_format=1, now=LATER))


def fake_tool(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def backup_command(place: Place, target: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aegate_cli", "backup", str(target), "--data", str(place.root)]
    return subprocess.run(
        [*command, "--database", place.db.url],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
    )


def test_program_that_is_missing_or_older_than_the_server_is_named_with_what_to_install(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        NotFound, match="pg_dump of PostgreSQL 15 or newer .* got none: .* postgresql-client-15"
    ):
        find_tool("pg_dump", at_least=15, folders=[tmp_path])
    fake_tool(tmp_path / "old", "pg_dump", "echo 'pg_dump (PostgreSQL) 9.6.24'")
    with pytest.raises(NotFound, match="got version 9: install it with apt install postgresql-client-15"):
        find_tool("pg_dump", at_least=15, folders=[tmp_path / "old"])
    for major in ("17.1", "16beta1", "18.0"):
        fake_tool(tmp_path / major, "pg_dump", f"echo 'pg_dump (PostgreSQL) {major}'")
    fake_tool(tmp_path / "broken", "pg_dump", "exit 1")
    folders = [tmp_path / n for n in ("old", "17.1", "broken", "16beta1", "18.0")]
    assert find_tool("pg_dump", at_least=15, folders=folders).major == 16


async def test_password_is_in_no_argument_and_the_urls_words_are_kept(tmp_path: Path) -> None:
    tool = fake_tool(tmp_path / "bin", "pg_dump", 'echo "$@"; env | grep ^PG | sort')
    url = "postgres://an%40na:s%3Ecret@db1.example,db2.example:5433/name?sslmode=verify-full&connect_timeout=2.5"
    authority = Authority.make(tmp_path / "hospital").folder / "ca.crt"
    url += f"&sslrootcert={authority}"
    await dump(Tool(tool, 15), url, "00-1", tmp_path / "said", lambda _: None)
    arguments, *environ = (tmp_path / "said").read_text().splitlines()
    assert ("--snapshot=00-1" in arguments, "cret" in arguments, "an@na" in arguments) == (True, False, False)
    assert set(environ) >= {
        "PGUSER=an@na",
        "PGPASSWORD=s>cret",
        "PGHOST=db1.example,db2.example",
        "PGPORT=5432,5433",
        "PGDATABASE=name",
        "PGSSLMODE=verify-full",
        f"PGSSLROOTCERT={authority}",
        "PGCONNECT_TIMEOUT=3",
        "PGTARGETSESSIONATTRS=read-write",
    }
    assert (tmp_path / "said").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("end", "said"),
    [("kill -9 $$", "pg_dump ended with signal 9"), ("exit 3", "pg_dump ended with exit code 3")],
)
async def test_pg_dump_that_dies_leaves_the_backup_before_whole_and_its_words_are_not_told(
    indexed: Place, databases: tuple[str, str], tmp_path: Path, end: str, said: str
) -> None:
    target = tmp_path / "target"
    await back_up(indexed, target)
    before = files(target)
    script = (
        f'[ "$1" = --version ] && exec {REAL.path} --version\n'
        f'{REAL.path} "$@" | head -c 2000\necho "COPY patient, line 1: {sentinel.PATIENT_NAME}" >&2\n{end}'
    )
    fake_tool(tmp_path / "bin", "pg_dump", script)
    done = await asyncio.to_thread(
        backup_command, indexed, target, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    sentinel.assert_absent(done.stderr, "what is said of pg_dump")
    assert files(target) == before
    await restore_backup(target, DataFolder(tmp_path / "restored"), database=databases[1], data_format=1)


@pytest.mark.parametrize("step", ["BLOB_PLACED"])
async def test_restore_that_was_killed_is_taken_for_whole_by_nobody(
    indexed: Place, databases: tuple[str, str], tmp_path: Path, step: str
) -> None:
    target, root = tmp_path / "target", tmp_path / "restored"
    await back_up(indexed, target)
    command = [sys.executable, "-m", "aegate_cli", "restore", str(target), "--data", str(root)]
    command += ["--database", databases[1]]
    killed = await asyncio.to_thread(
        subprocess.run, command, env={**os.environ, "AEGATE_DIE_AT": step}, capture_output=True
    )
    assert killed.returncode == -9
    assert not (root / "VERSION").exists()
    await restore_backup(target, DataFolder(root), database=databases[1], data_format=1)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
async def test_restore_whose_input_ends_as_by_a_kill_leaves_the_database_empty(
    indexed: Place, databases: tuple[str, str], tmp_path: Path, postgres: PostgresServer, part: float
) -> None:
    await back_up(indexed, tmp_path / "target")
    [whole] = (tmp_path / "target").glob("index-*.dump")
    cut = tmp_path / "cut.dump"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * part)])
    with pytest.raises(StorageError, match="pg_restore (failed|ended)"):
        await restore(find_tool("pg_restore", at_least=REAL.major), databases[1], cut, lambda _: None)
    assert postgres.run("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database="empty") == "0"


async def test_other_kind_of_database_is_refused_with_the_next_step(
    indexed: Place, databases: tuple[str, str], tmp_path: Path
) -> None:
    target, root = tmp_path / "target", tmp_path / "restored"
    await back_up(indexed, target)
    for url in (None, f"sqlite://{tmp_path / 'new.sqlite3'}"):
        with pytest.raises(InvalidInput, match="holds an index in PostgreSQL, got .* .createdb. and give"):
            await restore_backup(target, DataFolder(root), database=url, data_format=1)
    said = json.loads((target / "manifest.json").read_text())
    (target / "manifest.json").write_text(json.dumps(said | {"database": "sqlite", "dump": ""}))
    with pytest.raises(InvalidInput, match="restored into the data folder: leave out --database"):
        await restore_backup(target, DataFolder(root), database=databases[1], data_format=1)
    assert (root.exists(), (tmp_path / "new.sqlite3").exists()) == (False, False)


def of_newer_server(target: Path) -> None:
    said = json.loads((target / "manifest.json").read_text())
    (target / "manifest.json").write_text(json.dumps(said | {"server_major": 99}))


def of_newer_pg_dump(target: Path) -> None:
    said = json.loads((target / "manifest.json").read_text())
    (target / "manifest.json").write_text(json.dumps(said | {"dump_major": 99}))


@pytest.mark.parametrize(
    ("statement", "damage", "kind", "said"),
    [
        (
            "CREATE TABLE mine (x int)",
            None,
            StorageError,
            "got one with 1 tables and the like such as 'mine'",
        ),
        ("SELECT 1", of_newer_server, SchemaMismatch, "PostgreSQL 99, got an older server"),
        ("SELECT 1", of_newer_pg_dump, NotFound, "expected pg_restore of PostgreSQL 99 or newer"),
    ],
)
async def test_database_that_cannot_take_it_is_left_as_it_was(
    indexed: Place,
    databases: tuple[str, str],
    tmp_path: Path,
    postgres: PostgresServer,
    statement: str,
    damage: object,
    kind: type[AegateError],
    said: str,
) -> None:
    target = tmp_path / "target"
    await back_up(indexed, target)
    postgres.run(statement, database="empty")
    before = postgres.run("SELECT relname FROM pg_class ORDER BY 1", database="empty")
    if callable(damage):
        damage(target)
    with pytest.raises(kind, match=said):
        await restore_backup(target, DataFolder(tmp_path / "restored"), database=databases[1], data_format=1)
    assert not (tmp_path / "restored").exists()
    assert postgres.run("SELECT relname FROM pg_class ORDER BY 1", database="empty") == before


async def test_user_without_rights_is_refused_in_words(
    indexed: Place, databases: tuple[str, str], tmp_path: Path, postgres: PostgresServer
) -> None:
    target = tmp_path / "target"
    await back_up(indexed, target)
    before = files(target)
    postgres.run("CREATE ROLE guest LOGIN")
    try:
        postgres.run("GRANT SELECT ON arrival, tortoise_migrations TO guest", database="source")
        source, empty = (url.replace("postgres://aegate@", "postgres://guest@") for url in databases)
        async with open_database(source) as db:
            with pytest.raises(StorageError, match="refuses it to this user: make the user its owner"):
                await make_backup(Job(db, DataFolder(indexed.root), target, data_format=1, now=at(0)))
        with pytest.raises(StorageError, match="does not let this user make tables"):
            await restore_backup(target, DataFolder(tmp_path / "restored"), database=empty, data_format=1)
    finally:
        postgres.run("DROP OWNED BY guest", database="source")
        postgres.run("DROP ROLE guest")
    assert files(target) == before
    assert not (tmp_path / "restored").exists()
