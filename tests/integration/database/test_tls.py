"""TLS to PostgreSQL as a database URL asks for it: who answers is verified, or nobody is spoken to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aegate_core.database import open_database
from aegate_core.errors import DatabaseUnavailable, InvalidValue
from tests.integration.identities import Authority
from tests.integration.postgres import postgres_server

ADDRESS, OTHER = (f"127.88.{os.getpid() % 250 + 1}.{os.getpid() // 250 % 120 * 2 + n}" for n in (1, 2))
"""Of this process alone: each is the port 5432 of a server."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that speaks TLS alone, and whom to trust."""

    authority: Path
    stranger: Path

    async def is_encrypted(self, query: str, *, host: str = ADDRESS) -> bool:
        """Connect with these parameters, and say whether the server says that it is over TLS."""
        async with open_database(f"postgres://aegate@{host}/postgres?{query}") as db:
            (row,) = await db.fetch("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        return bool(row["ssl"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = Authority.make(folder / "hospital"), Authority.make(folder / "stranger")
    identity = authority.issue(folder / "server", ADDRESS)
    with postgres_server(listen_addresses=f"{ADDRESS},{OTHER}") as server:
        rules = server.folder / "data" / "pg_hba.conf"
        rules.write_text("local all all trust\nhostssl all all 127.0.0.0/8 trust\n")
        server.serve_tls(identity)
        yield Served(authority.folder / "ca.crt", stranger.folder / "ca.crt")


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_the_authority_that_signed_it_is_trusted(served: Served, mode: str) -> None:
    assert await served.is_encrypted(f"sslmode={mode}&sslrootcert={served.authority}")


@pytest.mark.parametrize("mode", ["require", "verify-full"])
async def test_the_authority_of_the_environment(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str
) -> None:
    """Beside the URL, as an installation gives it; one whose file is not there, such as a Secret's key, is none."""
    monkeypatch.setenv("AEGATE_DATABASE_CA", str(served.authority))
    assert await served.is_encrypted(f"sslmode={mode}")
    monkeypatch.setenv("AEGATE_DATABASE_CA", str(served.stranger))
    with pytest.raises(DatabaseUnavailable, match="certificate"):
        await served.is_encrypted(f"sslmode={mode}")
    assert await served.is_encrypted(f"sslmode={mode}&sslrootcert={served.authority}")
    monkeypatch.setenv("AEGATE_DATABASE_CA", str(tmp_path / "ca.crt"))
    assert await served.is_encrypted("sslmode=require")


async def test_without_an_authority_it_is_encrypted_and_nobody_is_verified(served: Served) -> None:
    assert await served.is_encrypted("sslmode=require")


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_another_authority_is_not(served: Served, mode: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="certificate"):
        await served.is_encrypted(f"sslmode={mode}&sslrootcert={served.stranger}")


async def test_a_certificate_for_another_host(served: Served) -> None:
    assert await served.is_encrypted(f"sslmode=verify-ca&sslrootcert={served.authority}", host=OTHER)
    with pytest.raises(DatabaseUnavailable, match="certificate"):
        await served.is_encrypted(f"sslmode=verify-full&sslrootcert={served.authority}", host=OTHER)


async def test_what_this_machine_trusts_does_not_hold_it(served: Served) -> None:
    for query in ("sslmode=verify-full", "sslmode=verify-full&sslrootcert=system", "sslrootcert=system"):
        with pytest.raises(DatabaseUnavailable, match="certificate"):
            await served.is_encrypted(query)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sslmode=encrypt", "must be one of disable, allow"),
        ("sslmode=verify-full&sslrootcert=/nowhere/ca.crt", "sslrootcert .* got FileNotFoundError"),
        ("sslmode=require&sslcert=/nowhere/tls.crt", "sslcert and sslkey .* got FileNotFoundError"),
        ("sslcert=/nowhere/tls.crt", "must come with sslmode=require"),
        ("sslmode=require&sslrootcert=system", "must be verify-full with sslrootcert=system"),
        ("sslmode=verify-ca&sslrootcert=system", "must be verify-full with sslrootcert=system"),
        ("sslmode=verify-ca", "must name the authority that verify-ca verifies, got none"),
        ("sslrootcert=/etc/ca.crt", "must be require, verify-ca or verify-full with sslrootcert, got none"),
        ("sslmode=prefer&sslrootcert=/etc/ca.crt", "with sslrootcert, got prefer"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_words(query: str, words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        async with open_database(f"postgres://aegate@{ADDRESS}/postgres?{query}"):
            pass
