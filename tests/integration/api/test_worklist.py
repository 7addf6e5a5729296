"""Patients are put on the worklist, found there, moved and cancelled; and nobody sees those of another partition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aegate_core.database import as_json
from tests import sentinel
from tests.integration.api.clients import API, signed_in
from tests.integration.api.snapshots import snapshot

ANSWER = """{ __typename
  ... on WorklistItemChanged { changed worklistItem { id status version patientName scheduledStationAeTitle
    scheduledProcedureStepId scheduledProcedureStepStartTime requestedProcedureId requestedProcedureDescription
    studyInstanceUid partition allergies pregnancyStatus scheduledProtocolCodeSequence { codeValue } } }
  ... on Problem { code message }
  ... on ValidationProblem { fieldErrors { field message } }
  ... on WorklistConflictProblem { current { id version status } } }"""
CREATE = f"mutation($i: CreateWorklistItemInput!) {{ createWorklistItem(input: $i) {ANSWER} }}"
UPDATE = f"mutation($i: UpdateWorklistItemInput!) {{ updateWorklistItem(input: $i) {ANSWER} }}"
CANCEL = f"mutation($i: CancelWorklistItemInput!) {{ cancelWorklistItem(input: $i) {ANSWER} }}"
LIST = """query($s: String, $w: WorklistItemWhere, $o: WorklistOrder = EARLIEST_START) {
  worklistItems(search: $s, where: $w, orderBy: $o) { nodes { id scheduledProcedureStepId } totalCount { value } } }"""

P = "default/default"
STEP: dict[str, Any] = {
    "patientName": "Müller^Jörg=山田^太郎",
    "patientId": "4711",
    "scheduledStationAeTitle": ["CT2", "CT1"],
    "scheduledProcedureStepStartDate": "20260131",
    "scheduledProcedureStepStartTime": "0930",
    "modality": "CT",
    "scheduledProcedureStepDescription": "CT Thorax",
    "scheduledProcedureStepId": "SPS-1",
}


async def create(api: API, *, partition: str = P, key: str | None = None, **attributes: Any) -> Any:
    given = {name: value for name, value in (STEP | attributes).items() if value != "left out"}
    asked = {"partition": partition, "attributes": given, "idempotencyKey": key}
    return (await api.ask(CREATE, i=asked))["createWorklistItem"]


async def update(api: API, id: str, **given: Any) -> Any:
    return (await api.ask(UPDATE, i={"worklistItemId": id, **given}))["updateWorklistItem"]


async def cancel(api: API, id: str, **given: Any) -> Any:
    return (await api.ask(CANCEL, i={"worklistItemId": id, **given}))["cancelWorklistItem"]


async def steps(
    api: API, search: str | None = None, order: str = "EARLIEST_START", **where: Any
) -> list[str]:
    found = (await api.ask(LIST, s=search, w=where or None, o=order))["worklistItems"]
    assert found["totalCount"]["value"] == len(found["nodes"])
    return [node["scheduledProcedureStepId"] for node in found["nodes"]]


async def test_a_patient_is_put_on_the_worklist_and_found(empty_api: API) -> None:
    api = empty_api
    made = await create(api, allergies=["Iodine"], pregnancyStatus=4)
    item = made["worklistItem"]
    assert made["changed"] is True
    assert item["status"] == "SCHEDULED"
    assert item["version"] == 1
    assert item["partition"] == P
    assert item["scheduledStationAeTitle"] == ["CT2", "CT1"]
    assert (item["allergies"], item["pregnancyStatus"]) == (["Iodine"], 4)
    assert item["requestedProcedureId"] == "SPS-1"
    assert item["requestedProcedureDescription"] == "CT Thorax"
    assert item["studyInstanceUid"].startswith("2.25.")
    again = await api.ask(
        "query($id: ID!) { node(id: $id) { ... on WorklistItem { patientName } } }", id=item["id"]
    )
    assert again["node"] == {"patientName": "Müller^Jörg=山田^太郎"}
    assert [(r["action"], r["target"].partition(":")[0]) for r in await api.audit()] == [
        ("createWorklistItem", "WorklistItem")
    ]
    assert (
        await api.db.fetch_value("SELECT partition FROM audit_event WHERE action = 'createWorklistItem'") == P
    )
    told = await api.ask("{ changes { nodes { kind action objectId partition } } }")
    assert {"kind": "WORKLIST_ITEM", "action": "CREATED", "objectId": item["id"], "partition": P} in told[
        "changes"
    ]["nodes"]
    assert "ller" not in str(await api.audit())


async def test_ids_that_are_not_given_are_made(empty_api: API) -> None:
    one, two = [await create(empty_api, scheduledProcedureStepId="left out") for _ in range(2)]
    ids = [made["worklistItem"]["scheduledProcedureStepId"] for made in (one, two)]
    assert len(set(ids)) == 2
    assert all(0 < len(id) <= 16 for id in ids)
    assert one["worklistItem"]["studyInstanceUid"] != two["worklistItem"]["studyInstanceUid"]


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"patientName": "x" * 65}, ["patientName"]),
        ({"patientName": None}, ["patientName"]),
        ({"patientId": "x" * 65, "patientBirthDate": "20260230"}, ["patientId", "patientBirthDate"]),
        ({"scheduledStationAeTitle": ["CT\\1"]}, ["scheduledStationAeTitle"]),
        ({"scheduledStationAeTitle": []}, ["scheduledStationAeTitle"]),
        ({"scheduledProcedureStepId": "x" * 17}, ["scheduledProcedureStepId"]),
        ({"scheduledProcedureStepStartTime": "25"}, ["scheduledProcedureStepStartTime"]),
        ({"modality": "ct"}, ["modality"]),
        ({"studyInstanceUid": "1.02"}, ["studyInstanceUid"]),
        ({"accessionNumber": "x" * 17}, ["accessionNumber"]),
        ({"patientSex": "W", "pregnancyStatus": 9}, ["patientSex", "pregnancyStatus"]),
        (
            {
                "scheduledProtocolCodeSequence": [
                    {"codeValue": "", "codingSchemeDesignator": "R", "codeMeaning": "x"}
                ]
            },
            ["scheduledProtocolCodeSequence.codeValue"],
        ),
        (
            {"scheduledProcedureStepDescription": None},
            ["scheduledProcedureStepDescription", "requestedProcedureDescription"],
        ),
    ],
)
async def test_what_cannot_be_is_told_by_argument(
    empty_api: API, given: dict[str, Any], fields: list[str]
) -> None:
    before = await snapshot(empty_api.db)
    refused = await create(empty_api, **given)
    found = [error["field"] for error in refused["fieldErrors"]]
    assert sorted(found) == sorted(f"input.attributes.{field}" for field in fields)
    assert refused["code"] == "INVALID_VALUE"
    assert await snapshot(empty_api.db) == before
    assert await empty_api.audit() == []


async def test_a_step_is_there_once_and_a_key_makes_one_item(empty_api: API) -> None:
    api = empty_api
    first = await create(api, key="k1")
    assert (await create(api, key="k1")) == {**first, "changed": False}
    taken = await create(api)
    assert taken["code"] == "CONFLICT"
    assert taken["current"] == {"id": first["worklistItem"]["id"], "version": 1, "status": "SCHEDULED"}
    other = await create(api, key="k1", patientId="4712")
    assert other["code"] == "INVALID_VALUE"
    made_up = await create(api, key="k2", scheduledProcedureStepId="left out")
    assert await create(api, key="k2", scheduledProcedureStepId="left out") == {**made_up, "changed": False}
    assert (await create(api, key=""))["fieldErrors"][0]["field"] == "input.idempotencyKey"
    assert len(await steps(api)) == 2
    assert [row["action"] for row in await api.audit()] == ["createWorklistItem"] * 2


async def test_an_item_is_changed_cancelled_and_taken_up_again(empty_api: API) -> None:
    api = empty_api
    id = (await create(api))["worklistItem"]["id"]
    moved = await update(
        api,
        id,
        attributes={
            "scheduledProcedureStepStartTime": "1015",
            "scheduledStationAeTitle": ["CT3"],
            "patientName": "Miller^Ann",
        },
        version=1,
    )
    assert moved["worklistItem"]["scheduledStationAeTitle"] == ["CT3"]
    assert (moved["worklistItem"]["patientName"], moved["worklistItem"]["version"]) == ("Miller^Ann", 2)
    assert await steps(api, "miller") == await steps(api, "station:CT3") == ["SPS-1"]
    assert await steps(api, "muller") == await steps(api, "station:CT1") == []
    assert (await update(api, id, attributes={"modality": "CT"}))["changed"] is False

    assert (await cancel(api, id))["worklistItem"]["status"] == "CANCELED"
    assert (await cancel(api, id))["changed"] is False
    assert await steps(api, status={"eq": "SCHEDULED"}) == []
    assert (await update(api, id, attributes={"patientId": "1"}))["current"]["status"] == "CANCELED"
    assert (await update(api, id, status="SCHEDULED"))["worklistItem"]["status"] == "SCHEDULED"
    for row in await api.audit():
        assert "Miller" not in str(row)
    assert [(r["action"], as_json(r["detail"])) for r in await api.audit()][1:] == [
        (
            "updateWorklistItem",
            {"attributes": ["patientName", "scheduledProcedureStepStartTime", "scheduledStationAeTitle"]},
        ),
        ("cancelWorklistItem", {"attributes": ["scheduledProcedureStepStatus"]}),
        ("updateWorklistItem", {"attributes": ["scheduledProcedureStepStatus"]}),
    ]


async def test_what_may_not_be_changed_stays(empty_api: API) -> None:
    api = empty_api
    id = (await create(api))["worklistItem"]["id"]
    before = await snapshot(api.db)
    assert (await update(api, id, version=2, attributes={"patientId": "1"}))["current"]["version"] == 1
    assert (await cancel(api, id, version=7))["code"] == "CONFLICT"
    refused = await update(api, id, attributes={"scheduledProcedureStepId": "SPS-2"})
    assert refused["fieldErrors"][0]["field"] == "input.attributes.scheduledProcedureStepId"
    refused = await update(api, id, attributes={"patientName": None, "scheduledStationAeTitle": []})
    assert [e["field"] for e in refused["fieldErrors"]] == [
        "input.attributes.patientName",
        "input.attributes.scheduledStationAeTitle",
    ]
    assert (await update(api, id, status="STARTED"))["fieldErrors"][0]["field"] == "input.status"
    assert await snapshot(api.db) == before
    for status in ("STARTED", "COMPLETED", "DISCONTINUED"):
        await api.db.execute("UPDATE worklist_item SET scheduled_procedure_step_status = $1", status)
        for answer in (
            await cancel(api, id),
            await update(api, id, attributes={"patientId": "1"}),
            await update(api, id, status="SCHEDULED"),
        ):
            assert (answer["code"], answer["current"]["status"]) == ("CONFLICT", status)


async def test_items_by_filter_and_in_order(empty_api: API) -> None:
    api = empty_api
    for step, name, date, time in (
        ("a", "Zander^Bo", "20260131", "0930"),
        ("b", "Árpád^Ila", "20260131", "09"),
        ("c", "álvarez^X", "20260130", "235959.5"),
        ("d", "Buc^É", "20260201", "00"),
    ):
        await create(
            api,
            scheduledProcedureStepId=step,
            patientName=name,
            scheduledProcedureStepStartDate=date,
            scheduledProcedureStepStartTime=time,
            scheduledStationAeTitle=[f"CT{step.upper()}", "CTX"],
            scheduledPerformingPhysicianName={"a": "Ångström^Åsa", "b": "Bo^Åsa"}.get(step),
        )
    assert await steps(api) == ["c", "b", "a", "d"]
    assert await steps(api, order="LATEST_START") == ["d", "a", "b", "c"]
    assert await steps(api, order="PATIENT_NAME_A_TO_Z") == ["c", "b", "d", "a"]
    assert await steps(api, order="PATIENT_NAME_Z_TO_A") == ["a", "d", "b", "c"]
    assert await steps(api, order="NEWEST") == ["d", "c", "b", "a"]
    night = {"range": {"from": "20260130220000", "to": "20260131090000"}}
    assert await steps(api, scheduledStart=night) == ["c", "b"]
    assert await steps(api, scheduledStationAeTitle={"eq": "CTB"}) == ["b"]
    assert await steps(api, scheduledStationAeTitle={"in": ["CTB", "CTX"]}) == ["c", "b", "a", "d"]
    assert await steps(api, patientName={"matches": "arp*"}) == ["b"]
    assert await steps(api, scheduledPerformingPhysicianName={"matches": "a?a angstr*"}) == ["a"]
    assert await steps(api, scheduledPerformingPhysicianName={"contains": "ASA"}) == ["b", "a"]
    assert await steps(api, OR=[{"modality": {"eq": "MR"}}, {"scheduledProcedureStepId": {"eq": "d"}}]) == [
        "d"
    ]
    assert await steps(api, "date:20260131 ALV") == []
    assert await steps(api, "partition:default zand") == await steps(api, "step:a") == ["a"]


async def test_another_partition_is_not_there(empty_api: API) -> None:
    api = empty_api
    id = (await create(api))["worklistItem"]["id"]
    foreign = signed_in(api, lambda caller: replace(caller, partitions=frozenset({"other/main"})))
    async with foreign.client:
        before = await snapshot(api.db)
        assert await steps(foreign) == []
        assert (await create(foreign, scheduledProcedureStepId="x"))["code"] == "NOT_FOUND"
        assert (await create(foreign, partition="nobody/here"))["code"] == "NOT_FOUND"
        assert (await update(foreign, id, attributes={"patientId": "1"}))["code"] == "NOT_FOUND"
        assert (await cancel(foreign, id))["code"] == "NOT_FOUND"
        assert await snapshot(api.db) == before


async def test_reading_the_worklist_leaves_a_row_and_answers_hold_no_name(empty_api: API) -> None:
    api = empty_api
    await create(api, patientName=sentinel.PATIENT_NAME, patientId=sentinel.PATIENT_ID)
    await steps(api)
    assert any("WorklistItem" in str(row["detail"]) for row in await api.accesses())
    refused = await create(api, patientName=sentinel.PATIENT_NAME, patientId="x" * 65)
    sentinel.assert_absent(str(refused), "a problem")
    sentinel.assert_absent(str(await api.audit()), "the audit")
