"""Paging: no row is lost, none comes twice, whatever the page size and whatever is inserted meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.api.clients import API

T = datetime(2026, 1, 1, tzinfo=UTC)


async def insert_studies(api: API, count: int, *, start: int = 0) -> None:
    """Insert studies of which several share a time, to the microsecond."""
    await api.db.execute(
        "INSERT INTO patient (id, partition, issuer, patient_id, unidentified_study_uid, name_alphabetic, "
        "name_ideographic, name_phonetic, birth_date, sex, search_text, source, created_at, updated_at) VALUES "
        "(1, 'default/default', '', 'P1', '', '', '', '', '', '', '', 'DICOM', $1, $1) ON CONFLICT DO NOTHING",
        T,
    )
    for n in range(start, start + count):
        await api.db.execute(
            "INSERT INTO study (partition, study_instance_uid, patient_id, accession_number, study_id, study_date, "
            "study_time, description, referring_physician, modalities, document_type, source_ae, first_arrival_at, "
            "last_arrival_at, series_count, instance_count, size_bytes, search_text) VALUES ('default/default', $1, 1, "
            "'', '', $2, '', '', '', '[]', '', 'default/ct1', $3, $3, 0, 0, 0, $4)",
            f"1.2.{n}",
            f"202601{n % 3 + 1:02}",
            T + timedelta(seconds=n % 4, microseconds=(n % 2) * 5),
            f"1.2.{n} even" if n % 2 == 0 else f"1.2.{n}",
        )


async def walk(api: API, first: int, order: str, search: str | None = None) -> list[str]:
    query = """query($first: Int!, $after: String, $order: StudyOrder!, $search: String) {
      studies(first: $first, after: $after, orderBy: $order, search: $search) {
        nodes { studyInstanceUid } edges { cursor node { studyInstanceUid } }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""
    found: list[str] = []
    after: str | None = None
    while True:
        data = await api.ask(query, first=first, after=after, order=order, search=search)
        page: dict[str, Any] = data["studies"]
        uids = [n["studyInstanceUid"] for n in page["nodes"]]
        assert [e["node"]["studyInstanceUid"] for e in page["edges"]] == uids
        assert page["pageInfo"]["hasPreviousPage"] is (after is not None)
        found += uids
        if not page["pageInfo"]["hasNextPage"]:
            return found
        assert len(uids) == first
        after = page["pageInfo"]["endCursor"]


@pytest.mark.parametrize(
    "order", ["NEWEST_ARRIVAL", "OLDEST_ARRIVAL", "NEWEST_STUDY_DATE", "PATIENT_NAME_A_TO_Z"]
)
async def test_every_row_comes_once_for_every_page_size(empty_api: API, order: str) -> None:
    await insert_studies(empty_api, 23)
    whole = await walk(empty_api, 100, order)
    assert sorted(whole) == sorted(f"1.2.{n}" for n in range(23))
    for first in (1, 2, 3, 5, 7, 11, 22, 23, 24):
        assert await walk(empty_api, first, order) == whole
    assert sorted(await walk(empty_api, 4, order, "even")) == sorted(f"1.2.{n}" for n in range(0, 23, 2))


async def test_orders_are_what_they_say(empty_api: API) -> None:
    await insert_studies(empty_api, 12)
    newest = await walk(empty_api, 5, "NEWEST_ARRIVAL")
    assert newest == list(reversed(await walk(empty_api, 5, "OLDEST_ARRIVAL")))
    times = [(int(u.split(".")[2]) % 4, int(u.split(".")[2]) % 2) for u in newest]
    assert times == sorted(times, reverse=True)


async def test_rows_inserted_meanwhile_do_not_disturb(empty_api: API) -> None:
    await insert_studies(empty_api, 10)
    query = """query($after: String) { studies(first: 4, after: $after) {
        nodes { studyInstanceUid } pageInfo { endCursor hasNextPage } } }"""
    seen: list[str] = []
    after: str | None = None
    for round_ in range(10):
        page = (await empty_api.ask(query, after=after))["studies"]
        seen += [n["studyInstanceUid"] for n in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
        await insert_studies(empty_api, 2, start=100 + 2 * round_)
    assert len(seen) == len(set(seen))
    assert {f"1.2.{n}" for n in range(10)} <= set(seen)


async def test_total_count_stops_at_ten_thousand(empty_api: API) -> None:
    await insert_studies(empty_api, 1)
    series = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)"
    await empty_api.db.execute(
        f"{series} INSERT INTO study (partition, study_instance_uid, patient_id, accession_number, study_id, "
        "study_date, study_time, description, referring_physician, modalities, document_type, source_ae, "
        "first_arrival_at, last_arrival_at, series_count, instance_count, size_bytes, search_text) "
        "SELECT 'default/default', '1.9.' || i, 1, '', '', '', '', '', '', '[]', '', 'default/ct1', "
        "s.first_arrival_at, s.last_arrival_at, 0, 0, 0, '' FROM n, study s WHERE s.study_instance_uid = '1.2.0'"
    )
    data = await empty_api.ask("{ studies(first: 1) { totalCount { value precision } } }")
    assert data["studies"]["totalCount"] == {"value": 10000, "precision": "AT_LEAST"}
    data = await empty_api.ask(
        '{ studies(search: "study:1.2.", first: 1) { totalCount { value precision } } }'
    )
    assert data["studies"]["totalCount"] == {"value": 1, "precision": "EXACT"}


@pytest.mark.parametrize("order", ["NEWEST_ARRIVAL", "OLDEST_STUDY_DATE"])
async def test_pages_from_the_end_are_the_list_in_its_order(empty_api: API, order: str) -> None:
    await insert_studies(empty_api, 11)
    whole = await walk(empty_api, 100, order)
    query = """query($first: Int! = 50, $last: Int, $before: String, $after: String, $order: StudyOrder!) {
      studies(first: $first, last: $last, before: $before, after: $after, orderBy: $order) { nodes { studyInstanceUid }
        pageInfo { hasNextPage hasPreviousPage startCursor } } }"""
    for last in (1, 3, 10, 11, 12):
        found: list[str] = []
        before: str | None = None
        while True:
            page = (await empty_api.ask(query, last=last, before=before, order=order))["studies"]
            found = [n["studyInstanceUid"] for n in page["nodes"]] + found
            assert page["pageInfo"]["hasNextPage"] is (before is not None)
            if not page["pageInfo"]["hasPreviousPage"]:
                break
            before = page["pageInfo"]["startCursor"]
        assert found == whole
    for wrong in (
        {"last": 0},
        {"last": 101},
        {"before": before or "x"},
        {"last": 1, "after": "x"},
        {"first": 1, "last": 1},
    ):
        refused = await empty_api.refused(query, order=order, **wrong)
        assert refused["extensions"]["code"] == "INVALID_VALUE"
