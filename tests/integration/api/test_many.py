"""Sending, rerouting and deciding about many: counted by the database, begun once, done one by one, and none lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aegate_core.errors import StorageError
from aegate_core.services import operations
from aegate_core.stores.queue.operations import failed_since
from aegate_graphql_api.operating import carry_on
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import Caller
from tests import dicom
from tests.integration.api.clients import API, BEFORE
from tests.integration.api.many_items import as_caller
from tests.integration.api.snapshots import snapshot
from tests.integration.intake.hospital import HOSPITAL, route

HOSPITAL_WITH_WS = (*HOSPITAL, route("more", ["ws1"]))

STRANGER = Caller("eve", frozenset({Permission.TOKEN, Permission.DICOM_QUEUE}), partitions=frozenset({"b/b"}))
STARTED = """__typename ... on OperationStarted { operation { id total dryRun } } ... on Problem { code message }
  ... on ConflictProblem { actualCount }"""
SEND = f"mutation($i: SendStudiesInput!) {{ sendStudies(input: $i) {{ {STARTED} ... on StudiesSent {{ count }} }} }}"
REROUTE = f"""mutation($s: CloseUnitSelection!, $g: ChangeGuard) {{ rerouteUnits(selection: $s, guard: $g) {{ {STARTED}
  ... on SelectionCounted {{ matched dryRun }} }} }}"""
RESOLVE = f"""mutation($s: ConflictSelection!, $r: ConflictResolution!, $g: ChangeGuard) {{
  resolveConflicts(selection: $s, resolution: $r, reason: "asked", guard: $g) {{ {STARTED}
  ... on SelectionCounted {{ matched }} }} }}"""
OPERATION = """query($id: ID!) { operation(id: $id) { state processed changedCount leftCount errorCode
  errorMessage failures results { nodes { outcome because targetId } } } }"""
RESUME = """mutation($id: ID!) { resumeOperation(id: $id) { __typename ... on OperationChanged { changed
  operation { state failures errorMessage } } ... on Problem { code } } }"""


async def to_the_end(api: API) -> None:
    while await carry_on(api.db):
        pass


async def ended(api: API, id: str) -> dict[str, Any]:
    await to_the_end(api)
    found: dict[str, Any] = (await api.ask(OPERATION, id=id))["operation"]
    return found


async def pacs(api: API) -> str:
    nodes = (await api.ask("{ destinations { nodes { id ae } } }"))["destinations"]["nodes"]
    return str(next(n["id"] for n in nodes if n["ae"] == "default/ws1"))


async def by_hand(api: API) -> int:
    return await api.place.count("delivery", "requested_by = 'person:both'")


async def test_all_studies_that_a_filter_finds_are_sent_once(api: API) -> None:
    wish = {"where": {}, "destinationIds": [await pacs(api)], "idempotencyKey": "k"}
    before = await snapshot(api.db)
    assert (await api.ask(SEND, i={**wish, "dryRun": True}))["sendStudies"]["count"] == 2
    assert (await api.ask(SEND, i=wish))["sendStudies"]["code"] == "INVALID_VALUE"
    refused = (await api.ask(SEND, i={**wish, "expectedCount": 3}))["sendStudies"]
    assert (refused["code"], refused["actualCount"]) == ("CONFLICT", 2)
    other = as_caller(api, STRANGER)
    async with other.client:
        assert (await other.ask(SEND, i={**wish, "expectedCount": 2}))["sendStudies"]["code"] == "NOT_FOUND"
    assert await snapshot(api.db) == before
    started = [(await api.ask(SEND, i={**wish, "expectedCount": 2}))["sendStudies"] for _ in range(2)]
    assert started[0] == started[1]
    assert (await ended(api, started[0]["operation"]["id"]))["changedCount"] == 2
    assert await by_hand(api) == 2
    assert [a["action"] for a in await api.audit()] == ["sendStudies"] * 2
    assert (await api.ask(SEND, i={**wish, "expectedCount": 2}))["sendStudies"] == started[0]
    await to_the_end(api)
    assert await by_hand(api) == 2


async def test_of_what_cannot_be_sent_the_reason_is_kept_and_the_rest_goes(api: API) -> None:
    await api.db.execute("UPDATE arrival SET removed_at = $1 WHERE ae = 'default/us1'", BEFORE)
    wish = {"where": {}, "destinationIds": [await pacs(api)], "idempotencyKey": "k", "expectedCount": 2}
    started = (await api.ask(SEND, i=wish))["sendStudies"]
    done = await ended(api, started["operation"]["id"])
    assert sorted((n["outcome"], n["because"]) for n in done["results"]["nodes"]) == [
        ("CHANGED", None),
        ("LEFT", "IMAGES_REMOVED"),
    ]


async def test_units_are_routed_again_by_a_corrected_route(api: API) -> None:
    await api.place.apply(*HOSPITAL_WITH_WS)
    selection = {"where": {"sourceAe": {"eq": "default/ct1"}}}
    counted = (await api.ask(REROUTE, s=selection, g={"dryRun": True}))["rerouteUnits"]
    assert (counted["matched"], counted["dryRun"]) == (1, True)
    before = await api.place.count("delivery")
    tried = (await api.ask(REROUTE, s=selection, g={"dryRun": True, "asOperation": True}))["rerouteUnits"]
    assert tried["operation"]["dryRun"] is True
    assert (await ended(api, tried["operation"]["id"]))["changedCount"] == 1
    assert await api.place.count("delivery") == before
    started = (await api.ask(REROUTE, s=selection, g={"expectedCount": 1}))["rerouteUnits"]
    assert (await ended(api, started["operation"]["id"]))["changedCount"] == 1
    assert await api.place.count("delivery") == before + 1
    again = (await api.ask(REROUTE, s=selection, g={"expectedCount": 1}))["rerouteUnits"]
    assert (await ended(api, again["operation"]["id"]))["results"]["nodes"][0]["because"] == "UNCHANGED"
    for wrong in ({}, {"ids": []}, {"ids": ["Q29uZmxpY3Q6OTk5OQ"]}, {"ids": ["x"], "where": {}}):
        assert (await api.ask(REROUTE, s=wrong, g={"dryRun": True}))["rerouteUnits"]["code"] in (
            "INVALID_VALUE",
            "NOT_FOUND",
        )


@pytest.fixture
async def mismatches(api: API) -> API:
    """Two open conflicts of different kinds."""
    changed = dicom.ct(dicom.Instance(study="one", number=1))
    changed.SeriesDescription = "made anew"
    other = dicom.ct(dicom.Instance(study="one", number=8, patient_id="OTHER-8"))
    api.place.receive_all([changed, other], "ct1", BEFORE + timedelta(minutes=40))
    await api.place.index(BEFORE + timedelta(minutes=40))
    assert await api.place.count("conflict") == 2
    return api


async def test_conflicts_are_decided_alike_and_what_does_not_fit_is_left(mismatches: API) -> None:
    started = (await mismatches.ask(RESOLVE, s={"where": {}}, r="SEND_AS_IT_IS", g={"expectedCount": 2}))[
        "resolveConflicts"
    ]
    done = await ended(mismatches, started["operation"]["id"])
    assert (done["state"], done["changedCount"], done["leftCount"]) == ("COMPLETED", 1, 1)
    assert await mismatches.place.count("conflict", "resolution = 'SEND_AS_IT_IS: asked'") == 1
    left = await mismatches.ask(RESOLVE, s={"where": {}}, r="KEEP_NEWER", g={"dryRun": True})
    assert left["resolveConflicts"]["matched"] == 1


async def test_a_batch_that_always_fails_ends_the_operation_with_words_and_it_can_go_on(api: API) -> None:
    wish = {"where": {}, "destinationIds": [await pacs(api)], "idempotencyKey": "k", "expectedCount": 2}
    id = (await api.ask(SEND, i=wish))["sendStudies"]["operation"]["id"]
    key = int(await api.db.fetch_value("SELECT max(id) FROM operation"))
    for n in range(1, operations.MOST_FAILURES):
        deferred = await operations.defer(api.db, key, StorageError("the disk is full: make room"))
        assert deferred == operations.Deferred(n, has_ended=False)
    assert not await carry_on(api.db)
    waiting = (await api.ask(OPERATION, id=id))["operation"]
    assert (waiting["state"], waiting["failures"]) == ("SCHEDULED", operations.MOST_FAILURES - 1)
    last = await operations.defer(api.db, key, StorageError("the disk is full: make room"))
    assert last == operations.Deferred(operations.MOST_FAILURES, has_ended=True)
    failed = (await api.ask(OPERATION, id=id))["operation"]
    assert failed["state"] == "FAILED"
    assert failed["errorMessage"] == "a batch failed 12 times, last by: the disk is full: make room"
    assert not await carry_on(api.db)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    assert await failed_since(api.db, yesterday) == 1
    other = as_caller(api, STRANGER)
    async with other.client:
        assert (await other.ask(RESUME, id=id))["resumeOperation"]["code"] == "NOT_FOUND"
    resumed = (await api.ask(RESUME, id=id))["resumeOperation"]
    assert (resumed["changed"], resumed["operation"]) == (
        True,
        {"state": "SCHEDULED", "failures": 0, "errorMessage": None},
    )
    assert await failed_since(api.db, yesterday) == 0
    assert (await ended(api, id))["changedCount"] == 2
    assert (await api.ask(RESUME, id=id))["resumeOperation"]["changed"] is False


async def test_a_batch_that_failed_once_is_tried_again_in_its_time(api: API) -> None:
    wish = {"where": {}, "destinationIds": [await pacs(api)], "idempotencyKey": "k", "expectedCount": 2}
    id = (await api.ask(SEND, i=wish))["sendStudies"]["operation"]["id"]
    key = int(await api.db.fetch_value("SELECT max(id) FROM operation"))
    await operations.defer(api.db, key, StorageError("locked: wait"))
    assert not await carry_on(api.db)
    await api.db.execute("UPDATE operation SET retry_at = $1", datetime.now(UTC) - timedelta(seconds=1))
    done = await ended(api, id)
    assert (done["state"], done["failures"], done["errorMessage"]) == ("COMPLETED", 0, None)
