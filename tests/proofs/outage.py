"""A study of 3,000 images while the database is away for ten minutes: ``python -m tests.proofs.outage --images 3000``.

Some are indexed before, the others wait in the spool. PostgreSQL is stopped; a SQLite file is locked by somebody else.
Afterwards there must be one delivery a destination, with all of them.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

from tests.integration.cli.installations import Up
from tests.integration.outage import QUIET_S, Outage, through
from tests.integration.postgres import PostgresServer, postgres_server
from tests.proofs.command import finish, parser_of

DEADLINE_S = 1200


def stopped(server: PostgresServer) -> Outage:
    """Return an outage: the server is not there."""

    @contextmanager
    def outage(_: Up) -> Iterator[None]:
        server.stop()
        try:
            yield
        finally:
            server.start()

    return outage


@contextmanager
def locked(up: Up) -> Iterator[None]:
    """Let somebody else hold the database's only writing transaction."""
    with closing(sqlite3.connect(up.data / "aegate.sqlite3", timeout=60, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


def main() -> int:
    """Run the proof; exit code 1 when it failed."""
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=int, default=3000, help="how many (default: 3000)")
    parser.add_argument("--seconds", type=float, default=600, help="how long it is away (default: 600)")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="aegate-outage-"))
    print(f"everything is kept in {root} when it fails", file=sys.stderr, flush=True)
    began = time.monotonic()
    with postgres_server() if options.database == "postgres" else nullcontext() as server:
        url = server.create("aegate") if server else f"sqlite://{root / 'data' / 'aegate.sqlite3'}"
        lasts_s = max(options.seconds, 2 * QUIET_S)
        outage = stopped(server) if server else locked
        outcome = through(root, url, options.images, outage, lasts_s=lasts_s, deadline_s=DEADLINE_S)
    print(
        f"{options.database}: {options.images} images, {outcome.spooled} of them spooled while it was away for "
        f"{lasts_s:.0f} s; {time.monotonic() - began:.0f} s"
    )
    wrong = [
        f"{name} has {len(got & outcome.sent)} of them"
        for name, got in outcome.received.items()
        if got != outcome.sent
    ]
    for destination, state, images in outcome.deliveries:
        print(f"{destination}: {images} images in one delivery, {state}")
    if outcome.deliveries != [(f"default/{n}", "COMPLETED", options.images) for n in ("pacs", "ws")]:
        wrong.append(f"there are other deliveries than one a destination: {outcome.deliveries}")
    return finish(wrong, root)


if __name__ == "__main__":
    sys.exit(main())
