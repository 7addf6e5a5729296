"""Fixtures of the second ring: real databases, real DICOM peers, all private to the run.

A test that takes ``database_url`` runs twice, on SQLite and on PostgreSQL, each time on a fresh, migrated database.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import DATABASES
from tests.integration.migrated import migrate_apart, migrated_file
from tests.integration.orthanc import Orthanc, orthanc_server
from tests.integration.peers import StoreSCP, dcmtk, store_scp
from tests.integration.postgres import PostgresServer, postgres_server
from tests.integration.processes import free_port as _free_port

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, one for each pytest process."""
    with postgres_server(in_memory=True) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """The name of a migrated database, to be copied."""
    migrate_apart(postgres.create("migrated"))
    return "migrated"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "migrated.sqlite3"
    path.write_bytes(migrated_file())
    return path


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh, migrated database; the test runs once on each kind."""
    if request.param == "sqlite":
        path = tmp_path / "aegate.sqlite3"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite://{path}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"test_{next(_numbers)}"
    yield server.create(name, template=request.getfixturevalue("postgres_template"))
    server.drop(name)


@pytest.fixture(params=DATABASES)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any table, for tests of migrations; the test runs once on each kind."""
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path / 'empty.sqlite3'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"empty_{next(_numbers)}"
    yield server.create(name)
    server.drop(name)


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody holds; call ``tests.integration.processes.free_port`` for more."""
    return _free_port()


@pytest.fixture
def start_store_scp(tmp_path: Path) -> Iterator[Callable[..., StoreSCP]]:
    """Start dcmtk's storescp, as often as needed: ``start_store_scp(title="PACS", options=("+xa",))``."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(store_scp(tmp_path, **settings))


@pytest.fixture(scope="session")
def dcmtk_program() -> Callable[[str], str]:
    """Give a dcmtk program's absolute path, its ``--version`` checked: ``dcmtk_program("storescu")``."""
    return dcmtk


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """A private Orthanc: DICOM and REST on free ports, its storage in the test's folder."""
    with orthanc_server(tmp_path) as server:
        yield server
