"""The audit, as people read it, and the row that reading patient data leaves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aegate_core.services.audit import Area, Deed, record
from aegate_graphql_api.patient_data import AccessLog, Reading
from aegate_graphql_api.permissions import Caller
from tests import sentinel
from tests.integration.api.clients import API

T = datetime(2026, 1, 1, tzinfo=UTC)
LIST = """query($search: String, $where: AuditEventWhere, $order: AuditOrder! = NEWEST,
  $first: Int! = 50, $after: String) {
  auditEvents(search: $search, where: $where, orderBy: $order, first: $first, after: $after) {
    totalCount { value } pageInfo { hasNextPage endCursor }
    nodes { id at actor address action target outcome detail area partition } } }"""

DEEDS = (
    Deed("anna", "holdQueueItems", "QueueItem:1", detail={"reason": "check"}, partition="default/default"),
    Deed("anna", "resumeQueueItems", "QueueItem:1", partition="default/default"),
    Deed("ben", "updateApplicationEntity", "ApplicationEntity:default/ct1", area=Area.ENTITIES),
    Deed("retention", "remove-images", "Study:7", area=Area.IMAGES, partition="eye/default"),
    Deed("cora", "readPatientData", "Operation:Studies", area=Area.ACCESS, address="10.1.2.3"),
)


async def _write(api: API) -> None:
    for n, deed in enumerate(DEEDS):
        await record(api.db, deed, now=T + timedelta(minutes=n))


async def _actions(api: API, token: str | None = None, **asked: object) -> list[str]:
    data = await api.ask(LIST, token=token, **asked)
    return [node["action"] for node in data["auditEvents"]["nodes"]]


async def test_audit_is_listed_newest_or_oldest_first_with_all_that_is_known(empty_api: API) -> None:
    await _write(empty_api)
    newest = [deed.action for deed in reversed(DEEDS)]
    assert await _actions(empty_api) == newest
    assert await _actions(empty_api, order="OLDEST") == newest[::-1]
    page = (await empty_api.ask(LIST, order="OLDEST", first=2))["auditEvents"]
    first = dict(page["nodes"][0])
    assert (page["totalCount"]["value"], page["pageInfo"]["hasNextPage"]) == (5, True)
    assert await empty_api.ask("query($id: ID!) { node(id: $id) { id __typename } }", id=first["id"]) == {
        "node": {"id": first.pop("id"), "__typename": "AuditEvent"}
    }
    assert first == {
        "at": "2026-01-01T00:00:00+00:00",
        "actor": "anna",
        "address": "",
        "action": "holdQueueItems",
        "target": "QueueItem:1",
        "outcome": "DONE",
        "detail": {"reason": "check"},
        "area": "QUEUE",
        "partition": "default/default",
    }
    rest = await _actions(empty_api, order="OLDEST", first=3, after=page["pageInfo"]["endCursor"])
    assert rest == [deed.action for deed in DEEDS[2:]]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"search": "anna"}, ["resumeQueueItems", "holdQueueItems"]),
        ({"search": "actor:anna action:holdQueueItems"}, ["holdQueueItems"]),
        ({"search": "target:Study:"}, ["remove-images"]),
        ({"search": "address:10.1.2.3"}, ["readPatientData"]),
        ({"search": "partition:eye/default"}, ["remove-images"]),
        ({"search": "QUEUEitem:1"}, None),
        ({"search": "queueitems"}, ["resumeQueueItems", "holdQueueItems"]),
        ({"where": {"area": {"in": ["ACCESS", "IMAGES"]}}}, ["readPatientData", "remove-images"]),
        ({"where": {"at": {"range": {"to": "2026-01-01T00:00:59Z"}}}}, ["holdQueueItems"]),
        ({"where": {"OR": [{"actor": {"eq": "ben"}}, {"actor": {"eq": "cora"}}]}}, None),
        ({"where": {"outcome": {"eq": "REFUSED"}}}, []),
    ],
    ids=str,
)
async def test_audit_is_searched(empty_api: API, asked: dict[str, Any], found: list[str] | None) -> None:
    await _write(empty_api)
    if "OR" in asked.get("where", {}):
        found = ["readPatientData", "updateApplicationEntity"]
    if found is None:
        assert (await empty_api.refused(LIST, **asked))["extensions"]["code"] == "BAD_SEARCH"
    else:
        assert await _actions(empty_api, **asked) == found


async def test_each_area_is_for_those_whom_it_concerns(empty_api: API) -> None:
    await _write(empty_api)
    assert await _actions(empty_api, token=empty_api.editor) == ["updateApplicationEntity"]
    assert "updateApplicationEntity" not in await _actions(empty_api, token=empty_api.queue)
    assert len(await _actions(empty_api, token=empty_api.queue)) == 4
    ids = (await empty_api.ask(LIST))["auditEvents"]["nodes"]
    for node in ids:
        asked = await empty_api.ask(
            "query($id: ID!) { node(id: $id) { id } }", token=empty_api.editor, id=node["id"]
        )
        assert (asked["node"] is not None) == (node["area"] == "ENTITIES")


STUDIES = "query Studies { studies { nodes { id studyInstanceUid patient { name } } } }"
ONE = "query One($id: ID!) { study(id: $id) { accessionNumber } }"


async def test_reading_patient_data_leaves_one_row_a_minute_with_what_was_asked_for(api: API) -> None:
    study = (await api.ask(STUDIES))["studies"]["nodes"][0]
    await api.ask(STUDIES)
    await api.ask(STUDIES, token=api.queue)
    await api.ask(ONE, id=study["id"])
    await api.ask("{ viewer { name } studies { totalCount { value } } dashboard { oldest } }")
    rows = await api.accesses()
    told = [(r["actor"], r["target"], r["outcome"]) for r in rows]
    assert told == [
        ("both", "Operation:Studies", "DONE"),
        ("queue-only", "Operation:Studies", "DONE"),
        ("both", "Operation:One", "DONE"),
    ]
    assert study["id"] in str(rows[2]["detail"])
    sentinel.assert_absent(str(rows), "the audit")


async def test_how_often_it_was_read_is_written_when_the_minute_is_over(empty_api: API) -> None:
    accesses = AccessLog(empty_api.db)
    caller, reading = Caller("anna", frozenset()), Reading("Studies", "abcd", ("Study",))
    for second in (0, 10, 59, 61):
        await accesses.note(caller, reading, now=T + timedelta(seconds=second))
    await accesses.flush(now=T + timedelta(seconds=70))
    details = [str(row["detail"]) for row in await empty_api.accesses()]
    assert [("again" in detail) for detail in details] == [False, True, False]
    assert '"again":2' in details[1].replace(" ", "").replace("'", '"')
    assert "2026-01-01T00:00:00+00:00" in details[1]


async def test_what_cannot_be_audited_is_not_answered(api: API) -> None:
    await api.db.execute("ALTER TABLE audit_event RENAME TO audit_event_away")
    error = await api.refused(STUDIES)
    assert error["extensions"]["code"] == "UNAVAILABLE"
    assert (await api.post(STUDIES)).json()["data"] is None
    assert (await api.ask("{ viewer { name } }"))["viewer"]["name"] == "both"
