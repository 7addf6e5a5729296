"""How the databases answer: by an index, whatever lies behind the first page, never by reading all there is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from aegate_core.database import Database, open_database
from aegate_core.stores.index.list_resources import BY_NAME, ENTITIES, PARTITIONS, ROUTES
from aegate_core.stores.index.list_studies import (
    CONFLICT_ORDER,
    CONFLICTS,
    QUARANTINE,
    QUARANTINE_ORDER,
    STUDIES,
    STUDY_ORDERS,
    UNIT_ORDER,
    UNITS,
)
from aegate_core.stores.listing import Compare, Op, Order, PageQuery, Source, page_statement, read_by
from aegate_core.stores.queue.list_items import (
    DESTINATION_ORDER,
    DESTINATIONS,
    ITEM_ORDERS,
    ITEMS,
    UNFINISHED,
)
from aegate_core.stores.scope import ALL_ROWS, Scope
from aegate_core.stores.worklist import items as worklist
from tests.integration.api.recording import RecordingDatabase

NOW = datetime.now(UTC)


async def plan(db: Database, sql: str, *values: object, off: str = "enable_seqscan") -> str:
    """Return how the database would answer; ``off`` is what PostgreSQL is not to do."""
    explain = "EXPLAIN QUERY PLAN" if db.is_sqlite else "EXPLAIN"
    async with db.transaction() as tx:
        if not db.is_sqlite:  # so small a table it would rather read whole
            for name in off.split():
                await tx.execute(f"SET LOCAL {name} = off")
        return str(await tx.fetch(f"{explain} {sql}", *values))


async def test_failed_items_are_counted_without_reading_all_the_others(database_url: str) -> None:
    async with open_database(database_url) as db:
        said = await plan(db, "SELECT 1 FROM delivery WHERE state = 'FAILED' LIMIT 10001")
    assert "delivery_failed" in said


async def test_dashboard_reads_no_item_that_is_finished(database_url: str) -> None:
    async with open_database(database_url) as db:
        for own in ("TRUE", "((q.partition || '') = 'default/default')"):
            said = await plan(db, UNFINISHED.replace("{own}", own))
            assert "delivery_live" in said or "delivery_next" in said
            assert "SCAN q'" not in said
            assert "Seq Scan on delivery" not in said


@pytest.mark.parametrize("op", [Op.EQ, Op.STARTS_WITH])
async def test_study_is_found_by_its_uid_without_reading_the_others(database_url: str, op: Op) -> None:
    query = PageQuery(STUDY_ORDERS["NEWEST_ARRIVAL"], 50, Compare("study_instance_uid", op, "1.2.3"))
    async with open_database(database_url) as db:
        sql, values = page_statement(db.dialect, STUDIES, query, ALL_ROWS)
        said = await plan(db, sql, *values)
    assert "study_by_uid" in said


@pytest.mark.parametrize(
    ("column", "value"),
    [("text", "thorax"), ("text", "M?ller*"), ("patient_name", "muller ann"), ("accession_number", "A123")],
)
async def test_texts_are_found_by_the_index_of_texts(database_url: str, column: str, value: str) -> None:
    query = PageQuery(STUDY_ORDERS["NEWEST_ARRIVAL"], 50, Compare(column, Op.MATCHES, value))
    async with open_database(database_url) as db:
        sql, values = page_statement(db.dialect, STUDIES, query, ALL_ROWS)
        said = await plan(db, sql, *values, off="enable_seqscan enable_indexscan enable_indexonlyscan")
    assert ("study_words VIRTUAL TABLE INDEX" if db.is_sqlite else "study_search") in said


@pytest.mark.parametrize(
    ("column", "value"), [("text", "thorax"), ("patient_name", "muller ann"), ("accession_number", "A123")]
)
async def test_words_of_the_worklist_are_found_by_an_index(
    database_url: str, column: str, value: str
) -> None:
    query = PageQuery(worklist.ITEM_ORDERS["EARLIEST_START"], 50, Compare(column, Op.MATCHES, value))
    async with open_database(database_url) as db:
        sql, values = page_statement(db.dialect, worklist.ITEMS, query, ALL_ROWS)
        said = await plan(db, sql, *values, off="enable_seqscan enable_indexscan enable_indexonlyscan")
    assert ("worklist_words VIRTUAL TABLE INDEX" if db.is_sqlite else "worklist_search") in said


LISTS: tuple[tuple[Source, Order], ...] = (
    *((STUDIES, order) for order in STUDY_ORDERS.values()),
    *((ITEMS, order) for order in ITEM_ORDERS.values()),
    (ENTITIES, BY_NAME),
    (ROUTES, BY_NAME),
    (PARTITIONS, BY_NAME),
    (DESTINATIONS, DESTINATION_ORDER),
    (CONFLICTS, CONFLICT_ORDER),
    (QUARANTINE, QUARANTINE_ORDER),
    (UNITS, UNIT_ORDER),
    *((worklist.ITEMS, order) for order in worklist.ITEM_ORDERS.values()),
)
AFTER = {"timestamptz": NOW, "bigint": 1, "text": "20260101"}


async def test_every_order_is_read_from_an_index(database_url: str) -> None:
    async with open_database(database_url) as db:
        for source, order in LISTS:
            after = tuple(AFTER[cast] for _, cast in order.keys)
            sql, values = page_statement(db.dialect, source, PageQuery(order, 50, after=after), ALL_ROWS)
            said = await plan(db, sql, *values, off="enable_seqscan enable_bitmapscan enable_sort")
            assert "TEMP B-TREE" not in said, source.table
            assert "Sort Key" not in said, source.table
            assert "Seq Scan" not in said, source.table


async def test_rows_of_one_partition_are_read_without_the_others(database_url: str) -> None:
    mine = Scope(frozenset({"default/default"}))
    async with open_database(database_url) as db:
        for source, order, index in (
            (ITEMS, ITEM_ORDERS["NEWEST"], "delivery_of_partition"),
            (STUDIES, STUDY_ORDERS["NEWEST_ARRIVAL"], "study_age"),
            (worklist.ITEMS, worklist.ITEM_ORDERS["EARLIEST_START"], "worklist_of_partition"),
        ):
            sql, values = page_statement(db.dialect, source, PageQuery(order, 50), mine)
            said = await plan(db, sql, *values)
            assert index in said, said
            assert "TEMP B-TREE" not in said, said
            recorder = RecordingDatabase(db)
            await read_by(recorder, source, "id", [1, 2], mine)
            (sql,) = recorder.take()
            said = await plan(db, sql, ["default/default"], [1, 2])
            assert index not in said, said
