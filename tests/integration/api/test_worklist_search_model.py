"""Search of the worklist against the plain model of search: the same patients and texts as studies have."""

from __future__ import annotations

from dataclasses import replace

from aegate_core.database import Database, open_database
from aegate_core.decisions.worklist import LONGEST_SORT_NAME, derived
from aegate_core.dicom.text import name_text
from aegate_core.dicom.worklist import ATTRIBUTES
from aegate_core.stores.listing import AllOf, AnyOf, Compare, Filter, PageQuery, read_page, read_where
from aegate_core.stores.scope import ALL_ROWS
from aegate_core.stores.worklist.items import ITEM_ORDERS, ITEMS, NewItem, insert
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.schema.worklist import items_filter
from tests.integration.api.test_search_model import HOSPITAL, NOW, TYPED, check_box, check_filters, filled

COLUMNS = {
    "description": "scheduled_procedure_step_description",
    "study_date": "scheduled_procedure_step_start_date",
    "location_code": "scheduled_procedure_step_location",
}
"""What is called otherwise in a study."""
EXAMPLES = 100
"""How SQL is made of a search is tried with more of them by studies: here it is which columns are meant."""
WORKLIST = tuple(replace(known, location=known.location or "") for known in HOSPITAL)


async def schedule(db: Database) -> None:
    for n, known in enumerate(WORKLIST):
        values = {name: attribute.empty for name, attribute in ATTRIBUTES.items()} | {
            "patient_name": known.name[0],
            "patient_id": known.patient_id,
            "accession_number": known.accession,
            "study_instance_uid": f"1.2.{n}",
            "scheduled_procedure_step_id": str(n),
            "scheduled_procedure_step_description": known.description,
            "scheduled_procedure_step_start_date": known.date,
            "scheduled_procedure_step_location": known.location,
        }
        name = name_text(*known.name)
        made = derived(values) | {
            "name_text": name,
            "sort_name": name[:LONGEST_SORT_NAME],
            "search_text": known.text,
        }
        await insert(db, NewItem("default/default", values, made, "test"), now=NOW)


def named_here(where: Filter) -> Filter:
    if isinstance(where, Compare):
        return replace(where, column=COLUMNS.get(where.column, where.column))
    parts = tuple(named_here(part) for part in where.parts)
    return AllOf(parts) if isinstance(where, AllOf) else AnyOf(parts)


async def found(db: Database, where: Filter) -> list[int]:
    rows = await read_where(db, ITEMS, where, ALL_ROWS)
    return sorted(int(str(r["scheduled_procedure_step_id"])) for r in rows)


def test_filters_find_what_the_model_finds(database_url: str) -> None:
    with filled(database_url, schedule) as (runner, db):
        check_filters(lambda where: runner.run(found(db, named_here(where))), WORKLIST, EXAMPLES)


def test_the_one_box_finds_what_the_model_finds(database_url: str) -> None:
    with filled(database_url, schedule) as (runner, db):

        async def box(search: str) -> list[int] | None:
            try:
                where = items_filter(search, None)
            except RequestRefused:
                return None
            return await found(db, where)

        check_box(lambda search: runner.run(box(search)), EXAMPLES)


async def test_what_people_type(database_url: str) -> None:
    async with open_database(database_url) as db:
        await schedule(db)
        for typed, numbers in TYPED:
            assert set(await found(db, items_filter(typed, None))) == numbers, typed


async def test_items_by_the_name_of_the_patient(database_url: str) -> None:
    async with open_database(database_url) as db:
        await schedule(db)
        wanted = sorted(range(len(HOSPITAL)), key=lambda n: (name_text(*HOSPITAL[n].name)[:128], n))
        for name, order in (("PATIENT_NAME_A_TO_Z", wanted), ("PATIENT_NAME_Z_TO_A", wanted[::-1])):
            page = await read_page(db, ITEMS, PageQuery(ITEM_ORDERS[name], 100), ALL_ROWS)
            assert [int(str(row["scheduled_procedure_step_id"])) for row in page.rows] == order
