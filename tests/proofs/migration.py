"""Kill while the schema is brought up: ``python -m tests.proofs.migration --kills 30 --seed 7 --database sqlite``.

Each time a filled index is of the first schema again. Two `aegate up` start on it at once, and are killed within the
migration, or PostgreSQL is. Whatever was reached, the next start must do the rest, and nothing may be lost.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from aegate_core.database import applied_migrations, known_migrations, migrate, open_database
from tests.integration.cli.installations import AEGATE, up_arguments
from tests.integration.processes import family, free_port, is_running
from tests.integration.waiting import eventually
from tests.proofs.command import add_seed, begin, finish, parser_of
from tests.proofs.crash import DRAIN_S, acknowledged, drained, modalities_of
from tests.proofs.judges import verdicts
from tests.proofs.stage import Stage, stage

FIRST = "0001_initial"
UNDO = {
    "0002_retention": (
        "DROP INDEX IF EXISTS arrival_here",
        "DROP INDEX IF EXISTS arrival_to_remove",
        "DROP TABLE IF EXISTS delivered",
        "ALTER TABLE arrival DROP COLUMN removed_at",
    ),
    "0003_indexer_of_one_entity": ("ALTER TABLE indexer_state DROP COLUMN ae",),
    "0004_audit": (
        "DROP INDEX idx_audit_event_partiti_3b5e8d",
        "DROP INDEX idx_audit_event_actor_5deb69",
        "DROP INDEX idx_audit_event_target_ff3097",
        "DROP TABLE audit_outbox",
        "DROP TABLE audit_collector",
        "ALTER TABLE audit_event DROP COLUMN area",
        "ALTER TABLE audit_event DROP COLUMN partition",
    ),
    "0005_whose_it_is": (
        "DROP TABLE installation",
        "ALTER TABLE application_entity DROP COLUMN projected_by",
        "ALTER TABLE image_route DROP COLUMN projected_by",
        "ALTER TABLE patient_partition DROP COLUMN projected_by",
    ),
    "0006_changes": ("DROP TABLE change", "DROP TABLE change_feed"),
    "0007_rollup": ("DROP TABLE rollup_minute",),
    "0008_operations": (
        "DROP TABLE operation_partition",
        "DROP TABLE operation_item",
        "DROP TABLE operation",
    ),
    "0009_resources": (
        "DROP INDEX audit_outcome_once",
        "DROP INDEX audit_intents",
        "ALTER TABLE audit_event DROP COLUMN intent_id",
        "DROP TABLE projection_state",
        "DROP TABLE verification",
    ),
    "0010_by_hand": (
        "DROP INDEX IF EXISTS quarantine_released",
        "ALTER TABLE quarantined_object DROP COLUMN released_at",
        "ALTER TABLE quarantined_object DROP COLUMN released_by",
        "ALTER TABLE quarantined_object DROP COLUMN release_tried_at",
        "ALTER TABLE quarantined_object DROP COLUMN release_attempts",
        "ALTER TABLE operation DROP COLUMN error_message",
        "ALTER TABLE operation DROP COLUMN failures",
        "ALTER TABLE operation DROP COLUMN retry_at",
        "ALTER TABLE installation DROP COLUMN search_rules",
        "ALTER TABLE installation DROP COLUMN reworded_patient",
    ),
    "0011_associations": (
        "DROP INDEX audit_origin_once",
        "ALTER TABLE audit_event DROP COLUMN origin",
    ),
    "0012_worklist": (
        "DROP TABLE IF EXISTS worklist_words",
        "DROP TABLE worklist_station",
        "DROP TABLE worklist_item",
    ),
    "0013_study_sort_name": (
        "DROP INDEX study_by_patient_name",
        "ALTER TABLE study DROP COLUMN patient_sort_name",
    ),
}
"""How a database comes to be of the schema before: a new migration must be added here."""
TRIGGERS = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgres": "SELECT tgname AS name, tgrelid::regclass::text AS relation FROM pg_trigger WHERE NOT tgisinternal",
}
"""No migration makes them, and they refer to what migrations make; each start makes them anew."""
ENOUGH_IMAGES = 20
SERVER_DIES = 0.2


async def go_back(url: str) -> None:
    """Make a database one of the first schema, with all that is in it."""
    async with open_database(url) as db, db.transaction():
        for row in await db.fetch(TRIGGERS[db.dialect]):
            on = "" if db.is_sqlite else f" ON {row['relation']}"
            await db.execute(f"DROP TRIGGER {row['name']}{on}")
        for name in reversed(await applied_migrations(db)):
            if name != FIRST:
                for statement in UNDO[name]:
                    await db.execute(statement)
                await db.execute("DELETE FROM tortoise_migrations WHERE name = $1", name)


async def reached(url: str) -> tuple[str, ...]:
    """Return which migrations are applied. Raises AssertionError where one is half done."""
    async with open_database(url) as db:
        applied = await applied_migrations(db)
        table = "sqlite_master WHERE name" if db.is_sqlite else "pg_class WHERE relname"
        tables = await db.fetch_value(f"SELECT count(*) FROM {table} = 'delivered'")
        assert tables == ("0002_retention" in applied), f"a migration is half done: {applied}"
        return applied


def start_another(here: Stage, number: int) -> subprocess.Popen[bytes]:
    """Start a second `aegate up` on the same database, with a data folder of its own."""
    arguments = up_arguments(here.root / "hospital", here.root / f"data-{number}", free_port(), free_port())
    with (here.root / "other.log").open("ab") as log:
        command = [*AEGATE, *arguments, "--database", here.url]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def times(log: Path, start: int) -> dict[str, float]:
    """Return when each event was first logged after the byte ``start``."""
    found: dict[str, float] = {}
    for line in log.read_bytes()[start:].splitlines():
        if line.startswith(b'{"time"') and line.endswith(b"}"):
            said = json.loads(line)
            found.setdefault(said["event"], datetime.fromisoformat(said["time"]).timestamp())
    return found


def kill_family(program: subprocess.Popen[bytes]) -> None:
    """SIGKILL a program and all that it has started."""
    everybody = family(program.pid)
    for pid in everybody:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    program.wait()
    eventually(lambda: not any(map(is_running, everybody)), deadline_s=60, what="all are gone")


def kill_within(here: Stage, number: int, window_s: float, dice: random.Random) -> str:
    """Start two, kill within the migration, and return what had been reached."""
    asyncio.run(go_back(here.url))
    start = here.log.stat().st_size
    here.start()
    other = start_another(here, number)
    eventually(lambda: "process.started" in times(here.log, start), deadline_s=120, what="it has begun")
    threading.Event().wait(dice.uniform(0, window_s))
    if here.postgres is not None and dice.random() < SERVER_DIES:
        here.postgres.kill()
        here.postgres.start()
    kill_family(other)
    here.power_off()
    applied = asyncio.run(reached(here.url))
    missing = asyncio.run(migrate(here.url))
    assert applied + tuple(missing) == known_migrations()
    return applied[-1]


def prove(root: Path, *, kills: int, seed: int, database: str) -> list[str]:
    """Return what is wrong; print what was done."""
    dice, left, began = random.Random(seed), Counter[str](), time.monotonic()
    with stage(root, database=database) as here:
        said = times(here.log, 0)
        window_s = 1.2 * (said["child.started"] - said["process.started"])
        modalities = modalities_of(here, seed)
        for modality in modalities:
            modality.start()
        eventually(lambda: acknowledged(modalities) >= ENOUGH_IMAGES, deadline_s=DRAIN_S)
        kept = drained(here, modalities)
        here.end()
        for number in range(1, kills + 1):
            left[kill_within(here, number, window_s, dice)] += 1
        asyncio.run(go_back(here.url))
        here.start()
        here.until_ready()
        wrong = verdicts(here, kept)
        if here.end() != 0:
            wrong.append("aegate up did not stop in good order")
    reached_then = ", ".join(f"{n} at {name}" for name, n in sorted(left.items()))
    print(
        f"{database}, seed {seed}: {kills} kills ({reached_then}), {len(kept)} instances acknowledged before, "
        f"{len(wrong)} wrong; {time.monotonic() - began:.0f} s"
    )
    return wrong


def main() -> int:
    """Run the proof; exit code 1 when it failed."""
    parser = parser_of(__doc__)
    parser.add_argument("--kills", type=int, default=30, help="how many (default: 30)")
    add_seed(parser, "when")
    options = parser.parse_args()
    root = begin("migration", options.seed)
    wrong = prove(root, kills=options.kills, seed=options.seed, database=options.database)
    return finish(wrong, root)


if __name__ == "__main__":
    sys.exit(main())
