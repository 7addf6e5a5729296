"""The counters of what was finished say what a count of the items would, whatever is finished, retried and packed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from aegate_core.database import Database, as_datetime, as_int, migrate, open_database
from aegate_core.stores.queue import rollup
from aegate_core.stores.scope import ALL_ROWS, Scope

NOW = datetime.now(UTC).replace(second=30, microsecond=0)
ITEMS = 40
FINAL = ("COMPLETED", "WARNING", "FAILED", "CANCELED")

Counts = Counter[tuple[object, ...]]


async def fill(db: Database) -> None:
    await db.execute(
        "INSERT INTO destination (id, ae, max_connections, enabled, breaker, failures_in_row, refused_in_row, "
        "probe_backoff_s) VALUES (1, 'default/pacs', 4, TRUE, 'CLOSED', 0, '[]', 5), "
        "(2, 'default/ws', 4, TRUE, 'CLOSED', 0, '[]', 5)"
    )
    for n in range(ITEMS):
        await db.execute(
            "INSERT INTO delivery (id, destination_id, level, study_id, unit_uid, source_ae, partition, location_code, "
            "state, priority, rank, supplementary, requested_by, dedup_key, available_at, attempts, instances_total, "
            "instances_done, instances_failed, size_bytes, created_at, version) VALUES ($1, $2, 'Study', 1, '1.2', "
            "'default/ct1', $3, $4, 'SCHEDULED', 50, 1, FALSE, 'route:default/r', $5, $6, 0, 1, 0, 0, 1, $6, 1)",
            n,
            1 + n % 2,
            f"default/p{n % 3}",
            "ER" if n % 2 else None,
            f"d{n}",
            NOW - timedelta(hours=9),
        )


async def change(db: Database, chance: random.Random) -> None:
    """Finish, retry or finish anew one item."""
    item, state = chance.randrange(ITEMS), chance.choice((*FINAL, "SCHEDULED"))
    at = None if state == "SCHEDULED" else NOW - timedelta(seconds=chance.randrange(8 * 3600))
    await db.execute("UPDATE delivery SET state = $2, finished_at = $3 WHERE id = $1", item, state, at)


async def counted(db: Database, since: datetime, lately: datetime) -> tuple[Counts, Counts]:
    """Count the items themselves."""
    rows = await db.fetch(
        "SELECT d.ae, q.partition, q.location_code, q.state, q.finished_at FROM delivery q "
        "JOIN destination d ON d.id = q.destination_id WHERE q.finished_at IS NOT NULL"
    )
    whole, late = Counter[tuple[object, ...]](), Counter[tuple[object, ...]]()
    for row in rows:
        what = (row["ae"], row["partition"], row["location_code"], row["state"])
        minute = as_datetime(row["finished_at"]).replace(second=0, microsecond=0)
        whole[what] += minute >= since
        late[what] += minute >= lately
    return +whole, +late


async def told(
    db: Database, since: datetime, lately: datetime, scope: Scope = ALL_ROWS
) -> tuple[Counts, Counts]:
    whole, late = Counter[tuple[object, ...]](), Counter[tuple[object, ...]]()
    for row in await rollup.finished(db, since, lately, scope):
        what = (row["destination"], row["partition"], row["location_code"], row["state"])
        whole[what] += as_int(row["n"])
        late[what] += as_int(row["lately"])
    assert min([*whole.values(), *late.values()], default=0) >= 0
    return +whole, +late


@pytest.mark.parametrize("seed", [1, 2])
async def test_counters_say_what_the_items_say(database_url: str, seed: int) -> None:
    chance = random.Random(seed)
    since, lately = rollup.quarter_of(NOW - timedelta(hours=6)), NOW.replace(second=0) - timedelta(hours=1)
    async with open_database(database_url) as db:
        await fill(db)
        for n in range(200):
            await change(db, chance)
            if chance.random() < 0.1:
                await db.atomically(lambda tx: rollup.pack(tx, now=NOW))
            if n % 20 == 19:
                assert await told(db, since, lately) == await counted(db, since, lately)
        mine = Scope(partitions=frozenset({"default/p1"}))
        whole, _ = await counted(db, since, lately)
        found, _ = await told(db, since, lately, mine)
        assert found == Counter({what: n for what, n in whole.items() if what[1] == "default/p1"})


async def test_packing_leaves_few_rows_and_loses_no_count(database_url: str) -> None:
    since = rollup.quarter_of(NOW - timedelta(hours=9))
    async with open_database(database_url) as db:
        await fill(db)
        await db.execute(
            "UPDATE delivery SET state = 'COMPLETED', finished_at = $1", NOW - timedelta(hours=5)
        )
        assert await rollup.waits(db, now=NOW)
        before = await told(db, since, NOW)
        await asyncio.gather(*(db.atomically(lambda tx: rollup.pack(tx, now=NOW)) for _ in range(4)))
        while await rollup.waits(db, now=NOW):
            await db.atomically(lambda tx: rollup.pack(tx, now=NOW))
        assert await told(db, since, NOW) == before == await counted(db, since, NOW)
        rows = await db.fetch("SELECT items, coarse FROM rollup_minute")
        assert sum(int(r["items"]) for r in rows) == ITEMS
        assert {int(r["coarse"]) for r in rows} == {2}
        await db.execute("UPDATE delivery SET state = 'SCHEDULED', finished_at = NULL")
        assert await told(db, since, NOW) == (Counter(), Counter())
        await db.atomically(lambda tx: rollup.pack(tx, now=NOW + rollup.KEPT))
        assert await db.fetch("SELECT 1 AS one FROM rollup_minute") == []


async def test_what_was_finished_before_there_were_counters_is_counted(database_url: str) -> None:
    since = rollup.quarter_of(NOW - timedelta(hours=9))
    async with open_database(database_url) as db:
        await fill(db)
        for _ in range(60):
            await change(db, random.Random(_))
        expected = await counted(db, since, NOW - timedelta(hours=1))
        await db.execute("DELETE FROM rollup_minute")
    for _ in range(2):  # the second time adds nothing
        await migrate(database_url)
        async with open_database(database_url) as db:
            whole, _late = await told(db, since, NOW.replace(second=0) - timedelta(hours=1))
            assert whole == expected[0]
