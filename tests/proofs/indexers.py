"""Three times as many indexers as connections: ``python -m tests.proofs.indexers --indexers 60 --connections 20``.

Each is a process of its own for an AE of its own, as beside each listener on a cluster: 300 of them on a PostgreSQL of
100 connections are the same with more processors. They are looked at while they have nothing to do, while each of them
gets a study in the same moment, and when all studies are closed; straight, and through PgBouncer in transaction mode.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from aegate_core.database import Database, migrate, open_database
from aegate_core.resources.values import StudyTimes
from aegate_core.services.studies import close_due
from aegate_core.stores.spool import SpoolFolder
from tests import dicom
from tests.integration.intake.hospital import Place, entity, key
from tests.integration.pgbouncer import SERVER_CONNECTIONS, pgbouncer, through
from tests.integration.postgres import PostgresServer, postgres_server
from tests.integration.processes import process
from tests.integration.waiting import eventually_async
from tests.proofs.command import begin, finish, parser_of

TIMES = StudyTimes(quiet_period_s=1, max_age_s=60)
DEADLINE_S = 600


@dataclass
class Crowd:
    """The indexers, and one connection that counts theirs."""

    db: Database
    root: Path
    names: Sequence[str]
    most: int = 0
    """Connections seen at once, this one left out."""
    wrong: list[str] = field(default_factory=list)

    def log_of(self, name: str) -> Path:
        """Where an indexer says what it does."""
        return self.root / f"{name}.log"

    def events(self, event: str) -> int:
        """Count what all of them have said of that kind."""
        lines = (line for name in self.names for line in self.log_of(name).read_text().splitlines())
        return sum(json.loads(line)["event"] == event for line in lines if line.startswith("{"))

    def are_all_ready(self) -> bool:
        """Whether each has started."""
        return self.events("process.ready") == len(self.names)

    async def connections(self) -> int:
        """Count the connections of others to the database."""
        sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        seen = int(await self.db.fetch_value(sql))
        self.most = max(self.most, seen)
        return seen

    async def hold_at_most(self, count: int) -> bool:
        """Whether no more connections are held now."""
        return await self.connections() <= count

    async def have_indexed(self, count: int) -> bool:
        """Whether so many images are in the index."""
        await self.connections()
        return int(await self.db.fetch_value("SELECT count(*) FROM arrival")) == count

    async def have_closed_all(self) -> bool:
        """Whether no study is open any more."""
        await self.connections()
        await close_due(self.db, now=datetime.now(UTC))
        return not await self.db.fetch_value("SELECT count(*) FROM close_unit WHERE due_at IS NOT NULL")

    def receive(self, images: int) -> None:
        """Put a study into the spool of each."""
        for name in self.names:
            data = self.root / name
            with contextlib.closing(SpoolFolder(data / "spool", f"pod-{name}")) as folder:
                study = dicom.ct_study(f"study {name}", images)
                Place(self.db, data, folder).receive_all(study, name, datetime.now(UTC))

    def left(self) -> list[Path]:
        """Return what is still in a spool."""
        return list(self.root.glob("*/spool/default/*/*/*.dcm"))


@contextmanager
def running(crowd: Crowd, url: str) -> Iterator[None]:
    """Run the indexers; each must still be there at the end."""
    with ExitStack() as stack:
        children = []
        for name in crowd.names:
            data = crowd.root / name
            data.mkdir()
            environ = {
                "AEGATE_DATA": str(data),
                "AEGATE_DATABASE_URL": url,
                "AEGATE_AE": str(key(name)),
                "AEGATE_INDEXER": f"pod-{name}",
                "AEGATE_SPOOL_PROCESS": f"pod-{name}",
                "AEGATE_LOG_FORMAT": "json",
            }
            command = [sys.executable, "-m", "aegate_scp.indexer"]
            children.append(
                stack.enter_context(process(command, log=crowd.log_of(name), environ=environ, stop_s=60))
            )
        yield
        ended = [c.returncode for c in children if c.poll() is not None]
        if ended:
            crowd.wrong.append(f"{len(ended)} indexers ended by themselves: {ended[:5]}")


async def burst(crowd: Crowd, url: str, *, images: int, idle: int) -> None:
    """Let them rest, work all at once, and rest; ``idle``: the connections that may be held at rest."""
    count = images * len(crowd.names)
    with running(crowd, url):
        await eventually_async(crowd.are_all_ready, deadline_s=DEADLINE_S, what="all have started")
        await eventually_async(lambda: crowd.hold_at_most(idle), deadline_s=DEADLINE_S, what="all rest")
        crowd.receive(images)
        began = time.monotonic()
        await eventually_async(
            lambda: crowd.have_indexed(count), deadline_s=DEADLINE_S, what="all is in the index"
        )
        seconds = time.monotonic() - began
        await eventually_async(crowd.have_closed_all, deadline_s=DEADLINE_S, what="all studies are closed")
        await eventually_async(lambda: crowd.hold_at_most(idle), deadline_s=DEADLINE_S, what="all rest again")
    waited = crowd.events("database.away")
    print(
        f"{len(crowd.names)} indexers, {count} images at once: in the index after {seconds:.1f} s; at most "
        f"{crowd.most} connections, at rest {idle} or fewer; waiting for one was said {waited} times",
        flush=True,
    )
    if failed := crowd.events("process.failed"):
        crowd.wrong.append(f"{failed} times an indexer failed")
    if left := crowd.left():
        crowd.wrong.append(f"{len(left)} images are still in the spool")


async def prove(server: PostgresServer, root: Path, options: Options) -> list[str]:
    """Return what is wrong; print what was seen."""
    wrong = []
    with pgbouncer(server) as folder:
        for name in ("straight", "pooled"):
            is_pooled = name == "pooled"
            url, place = server.create(name), root / name
            await migrate(url)
            place.mkdir()
            print("through PgBouncer:" if is_pooled else "straight:", flush=True)
            async with open_database(url) as db:
                crowd = Crowd(db, place, [f"ae{n}" for n in range(options.indexers)])
                with contextlib.closing(SpoolFolder(place / "none")) as none:
                    await Place(db, place, none).apply(*(entity(ae, study=TIMES) for ae in crowd.names))
                most = SERVER_CONNECTIONS if is_pooled else options.connections
                await burst(
                    crowd,
                    through(url, folder) if is_pooled else url,
                    images=options.images,
                    idle=SERVER_CONNECTIONS if is_pooled else 0,
                )
                if crowd.most > most:
                    crowd.wrong.append(f"{crowd.most} connections were held, {most} are there")
                wrong += [f"{name}: {what}" for what in crowd.wrong]
    return wrong


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for."""

    indexers: int
    connections: int
    images: int


def main() -> int:
    """Run the proof; exit code 1 when it failed."""
    parser = parser_of(__doc__, database=None)
    parser.add_argument("--indexers", type=int, default=60, help="processes (default: 60)")
    parser.add_argument("--connections", type=int, default=20, help="max_connections (default: 20)")
    parser.add_argument("--images", type=int, default=5, help="of each study (default: 5)")
    options = Options(**vars(parser.parse_args()))
    root = begin("indexers")
    with postgres_server(max_connections=str(options.connections)) as server:
        wrong = asyncio.run(prove(server, root, options))
    return finish(wrong, root)


if __name__ == "__main__":
    sys.exit(main())
