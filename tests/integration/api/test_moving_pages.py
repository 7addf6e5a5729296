"""Pages while rows come, go and move: none twice, none missed that stayed where it was, in every order on offer."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from aegate_core.database import Database, open_database
from aegate_core.dicom.text import name_text
from aegate_core.services.worklist import Wished, create
from aegate_core.stores.index.list_audit import AUDIT, AUDIT_ORDERS
from aegate_core.stores.index.list_studies import STUDIES, STUDY_ORDERS
from aegate_core.stores.listing import Order, PageQuery, Source, read_page
from aegate_core.stores.queue.list_items import ITEM_ORDERS, ITEMS
from aegate_core.stores.scope import ALL_ROWS
from aegate_core.stores.worklist.items import ITEM_ORDERS as STEP_ORDERS
from aegate_core.stores.worklist.items import ITEMS as WORKLIST
from aegate_graphql_api.connections import _encode, decode_cursor

T = datetime(2026, 1, 1, tzinfo=UTC)
SEAL = "0" * 16
NAMES = ("", "Müller^Jörg", "MULLER^ANN", "山田^太郎", "\U0001d400rpad^X")


@dataclass(frozen=True)
class Table:
    """A list that changes: how a row comes, and how it moves; None: rows come, and none ever moves or goes."""

    name: str
    source: Source
    insert: Callable[[Database, random.Random], Awaitable[None]]
    move: str | None


def some_time(chance: random.Random) -> datetime:
    """Return one of a few times: many rows share theirs, to the microsecond."""
    return T + timedelta(seconds=chance.randrange(6), microseconds=chance.choice((0, 5)))


async def insert_study(db: Database, chance: random.Random) -> None:
    await db.execute(
        "INSERT INTO study (partition, study_instance_uid, patient_id, accession_number, study_id, study_date, "
        "study_time, description, referring_physician, modalities, document_type, source_ae, first_arrival_at, "
        "last_arrival_at, series_count, instance_count, size_bytes, search_text) VALUES ('default/default', $1, $4, "
        "'', '', $2, '', '', '', '[]', '', 'default/ct1', $3, $3, 0, 0, 0, '')",
        f"1.2.{chance.getrandbits(60)}",
        chance.choice(("", "20260101", "20260102", "2026-1-1", "x")),
        some_time(chance),
        chance.randrange(1, 1 + len(NAMES)),
    )


async def insert_step(db: Database, chance: random.Random) -> None:
    step = {
        "patient_name": chance.choice(NAMES) or "x",
        "patient_id": "P1",
        "scheduled_station_ae_title": ["CT1"],
        "scheduled_procedure_step_start_date": chance.choice(("20260131", "20260201")),
        "scheduled_procedure_step_start_time": chance.choice(("09", "0900", "093000.5", "235959")),
        "modality": "CT",
        "scheduled_procedure_step_description": "CT Thorax",
    }
    async with db.transaction() as tx:
        await create(tx, Wished("default/default", step, "test"), ALL_ROWS, now=T)


async def insert_item(db: Database, chance: random.Random) -> None:
    is_finished = chance.random() < 0.6
    await db.execute(
        "INSERT INTO delivery (destination_id, level, study_id, unit_uid, source_ae, partition, state, priority, rank, "
        "supplementary, requested_by, dedup_key, available_at, attempts, instances_total, instances_done, "
        "instances_failed, size_bytes, created_at, finished_at, version) VALUES (1, 'Study', 1, '1.2', 'default/ct1', "
        "'default/default', $1, 50, $2, FALSE, 'close', $3, $4, 0, 1, 0, 0, 1, $4, $5, 1)",
        "COMPLETED" if is_finished else chance.choice(("SCHEDULED", "HELD")),
        chance.randrange(5),
        f"d{chance.getrandbits(60)}",
        some_time(chance),
        some_time(chance) if is_finished else None,
    )


async def insert_fact(db: Database, chance: random.Random) -> None:
    await db.execute(
        "INSERT INTO audit_event (at, actor, address, action, target, outcome, detail) "
        "VALUES ($1, 'ann', '', 'holdQueueItems', 'QueueItem:1', 'DONE', '{}')",
        some_time(chance),
    )


async def prepare(db: Database) -> None:
    for number, name in enumerate(NAMES, start=1):
        await db.execute(
            "INSERT INTO patient (id, partition, issuer, patient_id, unidentified_study_uid, name_alphabetic, "
            "name_ideographic, name_phonetic, birth_date, sex, search_text, source, created_at, updated_at) VALUES "
            "($1, 'default/default', '', $2, '', '', '', '', '', '', $3, 'DICOM', $4, $4)",
            number,
            f"P{number}",
            name_text(name),
            T,
        )
    await db.execute(
        "INSERT INTO patient_partition (namespace, name, uid, generation, labels, spec, conditions, source, "
        "search_text, created_at, updated_at) VALUES ('default', 'default', 'u', 1, '{}', '{}', '[]', '', '', $1, $1)",
        T,
    )
    await db.execute(
        "INSERT INTO destination (id, ae, max_connections, enabled, breaker, failures_in_row, refused_in_row, "
        "probe_backoff_s) VALUES (1, 'default/pacs', 4, TRUE, 'CLOSED', 0, '[]', 5)"
    )


STUDY = Table(
    "study",
    STUDIES,
    insert_study,
    "UPDATE study SET last_arrival_at = $2, study_date = '20260103', patient_id = 1 + (patient_id + 2) % 5 "
    "WHERE id = $1",
)
ITEM = Table(
    "delivery",
    ITEMS,
    insert_item,
    "UPDATE delivery SET finished_at = CASE WHEN finished_at IS NULL THEN NULL ELSE $2::timestamptz END, "
    "rank = rank + 3 WHERE id = $1",
)
STEP = Table(
    "worklist_item",
    WORKLIST,
    insert_step,
    "UPDATE worklist_item SET updated_at = $2, scheduled_start = '20260131120000', sort_name = sort_name || 'x' "
    "WHERE id = $1",
)
FACT = Table("audit_event", AUDIT, insert_fact, move=None)
ORDERS = [(STUDY, o) for o in STUDY_ORDERS.values()] + [(ITEM, o) for o in ITEM_ORDERS.values()]
ORDERS += [(STEP, o) for o in STEP_ORDERS.values()]
ORDERS += [(FACT, o) for o in AUDIT_ORDERS.values()]


async def all_rows(db: Database, table: Table, order: Order) -> dict[int, tuple[object, ...]]:
    """Return the keys of all rows that have a place in the order, by id."""
    page = await read_page(db, table.source, PageQuery(order, 10_000), ALL_ROWS)
    return {int(str(keys[-1])): keys for keys in page.keys}


async def walk_while_it_changes(db: Database, table: Table, order: Order, chance: random.Random) -> None:
    for _ in range(40):
        await table.insert(db, chance)
    stayed = await all_rows(db, table, order)
    seen: list[int] = []
    after: str | None = None
    backward = chance.random() < 0.5
    while True:
        keys = None if after is None else decode_cursor(after, SEAL, order)
        query = PageQuery(order, chance.randrange(1, 9), after=keys, backward=backward)
        page = await read_page(db, table.source, query, ALL_ROWS)
        seen += [int(str(k[-1])) for k in page.keys]
        if not page.has_next:
            break
        after = _encode(page.keys[0 if backward else -1], SEAL, order)
        for _ in range(chance.randrange(4)):
            row = chance.choice(sorted(stayed))
            if table.move is None or chance.random() < 0.3:
                await table.insert(db, chance)
            elif chance.random() < 0.5:
                await db.execute(f"DELETE FROM {table.name} WHERE id = $1", row)
            else:
                await db.execute(table.move, row, some_time(chance))
        now = await all_rows(db, table, order)
        stayed = {row: keys for row, keys in stayed.items() if now.get(row) == keys}
        if not stayed:
            break
    times = Counter(seen)
    missed = {row for row in stayed if times[row] != 1}
    assert missed == set()
    if order.name in ("NEWEST", "OLDEST"):  # of what never moves nothing comes twice
        assert max(times.values()) == 1


@pytest.mark.parametrize(("table", "order"), ORDERS, ids=[f"{t.name}-{o.name}" for t, o in ORDERS])
async def test_what_stays_comes_once(database_url: str, table: Table, order: Order) -> None:
    async with open_database(database_url) as db:
        await prepare(db)
        for seed in range(4):
            await walk_while_it_changes(db, table, order, random.Random(seed))
