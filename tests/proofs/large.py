"""One object of 2 GiB in and out, and no process holds it: ``python -m tests.proofs.large --mib 2048``.

It is sent by `aegate send`, received, indexed and pushed to two receivers: as it is, and converted to Implicit VR. No
process may hold more than an eighth of it above what it holds when idle: 128 MiB of 2 GiB. Needs five times its size on
the disk, below --folder.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from tests.integration.large_objects import MIB, through
from tests.integration.postgres import postgres_server
from tests.proofs.command import finish, parser_of

SHARE = 8
DEADLINE_S = 1800


def main() -> int:
    """Run the proof; exit code 1 when it failed."""
    parser = parser_of(__doc__, database="sqlite")
    parser.add_argument("--mib", type=int, default=2048, help="how large it is (default: 2048)")
    parser.add_argument("--folder", default="/tmp", help="where, not in memory (default: /tmp)")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="aegate-large-", dir=options.folder))
    print(f"everything is kept in {root} when it fails", file=sys.stderr, flush=True)
    began = time.monotonic()
    with postgres_server() if options.database == "postgres" else nullcontext() as server:
        url = server.create("aegate") if server else f"sqlite://{root / 'data' / 'aegate.sqlite3'}"
        costs = through(root, url, options.mib, deadline_s=DEADLINE_S)
    most = options.mib * MIB // SHARE
    wrong = list(costs.wrong)
    for name, growth in sorted(costs.growth_bytes.items()):
        print(f"{name:12} {growth / MIB:6.1f} MiB above idle")
        if growth > most:
            wrong.append(f"{name} held {growth // MIB} MiB more than when idle, {most // MIB} are allowed")
    print(
        f"{options.database}: {options.mib} MiB in, and out to 2 receivers; {time.monotonic() - began:.0f} s"
    )
    return finish(wrong, root)


if __name__ == "__main__":
    sys.exit(main())
