"""A database whose owner has given each process a role of its own, for tests of what a role may and may not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from aegate_core.database import migrate
from aegate_core.database.roles import RIGHTS, grant, parse_roles
from tests.integration.postgres import USER, PostgresServer

_numbers = count(1)


@dataclass(frozen=True)
class RoledDatabase:
    """The URLs of one database, by who asks."""

    owner: str
    roles: str
    """As AEGATE_ROLES has them."""

    def of(self, process: str) -> str:
        """Return the URL as the role of ``process``."""
        return self.owner.replace(f"//{USER}@", f"//aegate_{process}@")


def create_roles(server: PostgresServer) -> str:
    """Make the roles, which are the server's, where they are not there yet; return AEGATE_ROLES."""
    there = server.run("SELECT rolname FROM pg_roles").splitlines()
    for process in sorted(RIGHTS):
        if f"aegate_{process}" not in there:
            server.run(f"CREATE ROLE aegate_{process} LOGIN")
    return ",".join(f"{process}=aegate_{process}" for process in sorted(RIGHTS))


@contextmanager
def roled_database(server: PostgresServer, template: str) -> Iterator[RoledDatabase]:
    """Make a migrated database; its roles have no rights yet."""
    roles = create_roles(server)
    name = f"roles_{next(_numbers)}"
    yield RoledDatabase(server.create(name, template=template), roles)
    server.drop(name)


async def granted(database: RoledDatabase) -> RoledDatabase:
    """Give the roles their rights, as the migration Job does."""
    await migrate(database.owner, newer=True, then=lambda tx: grant(tx, parse_roles(database.roles)))
    return database
