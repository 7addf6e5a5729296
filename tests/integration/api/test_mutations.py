"""Tests of mutations."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta
from itertools import combinations, product
from typing import Any

import pytest

from aegate_core.database import Database, as_json, open_database
from aegate_core.services.pushing import take_probe
from tests.integration.api.clients import API, fill
from tests.integration.api.snapshots import snapshot
from tests.integration.intake.hospital import HOSPITAL, key
from tests.integration.waiting import eventually_async

ITEMS = """
  __typename
  ... on QueueItemsChanged { matched dryRun changedCount askedCount changed { state version } left { because } }
  ... on Problem { code message }
  ... on ConflictProblem { actualCount current { version } }
"""
DESTINATION = """
  __typename
  ... on DestinationChanged { changed destination { heldBy holdReason } }
  ... on Problem { code }
"""


async def items(api: API) -> dict[str, str]:
    nodes = (await api.ask("{ queueItems { nodes { id destinationAe } } }"))["queueItems"]["nodes"]
    return {n["destinationAe"].removeprefix("default/"): n["id"] for n in nodes}


async def rows(api: API) -> list[dict[str, Any]]:
    return await api.db.fetch("SELECT id, state, priority, rank, version, held_by FROM delivery ORDER BY id")


async def change(api: API, field: str, arguments: str, **variables: object) -> dict[str, Any]:
    declared = ", ".join(f"${name}: {kind}" for name, (kind, _) in variables.items())  # type: ignore[misc] # pairs
    header = f"({declared})" if declared else ""
    values = {name: value for name, (_, value) in variables.items()}  # type: ignore[misc] # pairs
    body = DESTINATION if field.endswith("Destination") else ITEMS
    data = await api.ask(
        f"mutation{header} {{ {field}({arguments}) {{ {body} }} }}", token=api.queue, **values
    )
    answer: dict[str, Any] = data[field]
    return answer


async def test_hold_and_resume_leave_audit_rows(api: API) -> None:
    one = (await items(api))["pacs"]
    held = await change(
        api, "holdQueueItems", 'selection: {ids: [$id]}, reason: "scanner check"', id=("ID!", one)
    )
    assert held["__typename"] == "QueueItemsChanged"
    assert (held["matched"], held["changedCount"], held["changed"]) == (
        1,
        1,
        [{"state": "HELD", "version": 2}],
    )
    resumed = await change(api, "resumeQueueItems", "selection: {ids: [$id]}", id=("ID!", one))
    assert resumed["changed"] == [{"state": "SCHEDULED", "version": 3}]
    audit = await api.audit()
    assert [(a["actor"], a["action"], a["outcome"]) for a in audit] == [
        ("queue-only", "holdQueueItems", "DONE"),
        ("queue-only", "resumeQueueItems", "DONE"),
    ]
    detail = json.loads(audit[0]["detail"])
    assert detail["reason"] == "scanner check"
    assert len(detail["changed"]) == 1
    assert audit[0]["target"] == f"QueueItem:{detail['changed'][0]}"
    assert audit[0]["address"]


async def test_each_change_of_a_request_answers_with_what_is_there_after_it(api: API) -> None:
    one = (await items(api))["pacs"]
    data = await api.ask(
        """mutation($ids: [ID!]!) {
            held: holdQueueItems(selection: {ids: $ids}) { ...Now }
            resumed: resumeQueueItems(selection: {ids: $ids}) { ...Now }
            sooner: setQueueItemPriority(selection: {ids: $ids}, priority: 90) { ...Now } }
        fragment Now on QueueItemsChanged { changed { state priority version whyNotMoving { code } } }""",
        ids=[one],
    )
    assert [data[name]["changed"] for name in ("held", "resumed", "sooner")] == [
        [{"state": "HELD", "priority": 70, "version": 2, "whyNotMoving": {"code": "HELD"}}],
        [{"state": "SCHEDULED", "priority": 70, "version": 3, "whyNotMoving": {"code": "NO_WORKER"}}],
        [{"state": "SCHEDULED", "priority": 90, "version": 4, "whyNotMoving": {"code": "NO_WORKER"}}],
    ]


async def test_without_its_audit_row_nothing_is_changed(api: API) -> None:
    before, one = await rows(api), (await items(api))["pacs"]
    await api.db.execute("ALTER TABLE audit_event RENAME TO audit_event_away")
    for query in (
        "mutation($id: ID!) { cancelQueueItems(selection: {ids: [$id]}) { __typename } }",
        "mutation($id: ID!) { bumpQueueItems(selection: {ids: [$id]}) { __typename } }",
    ):
        assert "QueueItemsChanged" not in (await api.post(query, id=one)).text
    await api.db.execute("ALTER TABLE audit_event_away RENAME TO audit_event")
    assert await rows(api) == before
    assert await api.audit() == []


async def test_cancel_then_retry(api: API) -> None:
    one = (await items(api))["ws1"]
    assert (await change(api, "cancelQueueItems", "selection: {ids: [$id]}", id=("ID!", one)))["changed"] == [
        {"state": "CANCELED", "version": 2}
    ]
    again = await change(api, "cancelQueueItems", "selection: {ids: [$id]}", id=("ID!", one))
    assert (again["changedCount"], again["left"]) == (0, [{"because": "CANCELED"}])
    assert (await change(api, "retryQueueItems", "selection: {ids: [$id]}", id=("ID!", one)))["changed"] == [
        {"state": "SCHEDULED", "version": 3}
    ]


async def test_priority_and_bump(api: API) -> None:
    one = (await items(api))["ws1"]
    await change(api, "setQueueItemPriority", "selection: {ids: [$id]}, priority: 90", id=("ID!", one))
    await change(api, "bumpQueueItems", "selection: {ids: [$id]}", id=("ID!", one))
    data = await api.ask("query($id: ID!) { queueItem(id: $id) { priority bumpedAt version } }", id=one)
    assert data["queueItem"]["priority"] == 90
    assert data["queueItem"]["bumpedAt"] is not None
    assert data["queueItem"]["version"] == 3
    assert len(await api.audit()) == 2


async def test_priority_out_of_range_changes_nothing(api: API) -> None:
    before = await rows(api)
    one = (await items(api))["ws1"]
    answer = await change(
        api, "setQueueItemPriority", "selection: {ids: [$id]}, priority: 101", id=("ID!", one)
    )
    assert (answer["__typename"], answer["code"]) == ("ValidationProblem", "INVALID_VALUE")
    assert await rows(api) == before
    assert await api.audit() == []


async def test_by_filter_needs_the_right_count(api: API) -> None:
    before = await rows(api)
    selection = 'selection: {where: {state: {eq: SCHEDULED}}, search: "quillonia"}'
    assert (await change(api, "holdQueueItems", selection))["code"] == "INVALID_VALUE"
    wrong = await change(api, "holdQueueItems", f"{selection}, guard: {{expectedCount: 3}}")
    assert (wrong["__typename"], wrong["actualCount"]) == ("ConflictProblem", 2)
    dry = await change(api, "holdQueueItems", f"{selection}, guard: {{expectedCount: 2, dryRun: true}}")
    assert (dry["matched"], dry["changedCount"], dry["dryRun"]) == (2, 2, True)
    assert await rows(api) == before
    assert await api.audit() == []
    done = await change(api, "holdQueueItems", f"{selection}, guard: {{expectedCount: 2}}")
    assert (done["matched"], done["changedCount"], done["dryRun"]) == (2, 2, False)
    assert {r["state"] for r in await rows(api)} == {"HELD"}
    assert len(await api.audit()) == 1


async def test_another_version_is_a_conflict(api: API) -> None:
    before = await rows(api)
    one = (await items(api))["pacs"]
    answer = await change(
        api, "holdQueueItems", "selection: {ids: [$id]}, guard: {version: 7}", id=("ID!", one)
    )
    assert (answer["__typename"], answer["current"]) == ("ConflictProblem", {"version": 1})
    assert await rows(api) == before
    held = await change(
        api, "holdQueueItems", "selection: {ids: [$id]}, guard: {version: 1}", id=("ID!", one)
    )
    assert held["changedCount"] == 1


async def test_a_version_that_another_is_changing_is_a_conflict(api: API) -> None:
    one = (await items(api))["pacs"]
    guarded = change(api, "holdQueueItems", "selection: {ids: [$id]}, guard: {version: 1}", id=("ID!", one))
    async with open_database(api.db.url) as other, asyncio.TaskGroup() as tasks, other.transaction():
        await other.execute("UPDATE delivery SET version = version + 1")
        held = tasks.create_task(guarded)
        if not api.db.is_sqlite:  # there BEGIN itself waits, and nobody can see that
            await eventually_async(lambda: waits_for_a_lock(other))
    assert (held.result()["__typename"], held.result()["current"]) == ("ConflictProblem", {"version": 2})
    assert {r["state"] for r in await rows(api)} == {"SCHEDULED"}
    assert await api.audit() == []


async def waits_for_a_lock(db: Database) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(await db.fetch_value(waiting))


@pytest.mark.parametrize(
    "selection",
    ["{}", "{ids: []}", '{ids: ["x"]}', '{ids: ["U3R1ZHk6MQ"]}', '{ids: ["UXVldWVJdGVtOjk5OTk5"]}'],
)
async def test_selections_that_cannot_be(api: API, selection: str) -> None:
    before = await rows(api)
    answer = await change(api, "cancelQueueItems", f"selection: {selection}")
    assert answer["__typename"] in ("ValidationProblem", "NotFoundProblem")
    assert await rows(api) == before
    assert await api.audit() == []


async def test_kinds_of_selection_exclude_each_other(api: API) -> None:
    """Each pair of arguments that are not of one kind, with ids and filters that would each find something."""
    data = await api.ask(
        "{ studies { nodes { id series { id instances { nodes { id } } } } } queueItems { nodes { id } } "
        "destinations { nodes { id } } }"
    )
    study = data["studies"]["nodes"][0]
    series = study["series"][0]
    kinds: list[dict[str, object]] = [
        {"ids": [data["queueItems"]["nodes"][0]["id"]]},
        {
            "studyIds": [study["id"]],
            "seriesIds": [series["id"]],
            "instanceIds": [series["instances"]["nodes"][0]["id"]],
            "destinationIds": [data["destinations"]["nodes"][0]["id"]],
        },
        {"search": "quillonia", "where": {"state": {"eq": "SCHEDULED"}}},
    ]
    before, tried = await snapshot(api.db), 0
    for one, other in combinations(kinds, 2):
        for (name, value), (beside, more) in product(one.items(), other.items()):
            for guard in ({}, {"expectedCount": 1}, {"dryRun": True}, {"asOperation": True}):
                given = {name: value, beside: more}
                answer = await change(
                    api,
                    "cancelQueueItems",
                    "selection: $s, guard: $g",
                    s=("QueueItemSelection!", given),
                    g=("ChangeGuard", guard),
                )
                assert (answer["__typename"], answer["code"]) == ("ValidationProblem", "INVALID_VALUE"), given
                assert answer["message"].startswith("selection: give one of "), given
                tried += 1
    assert tried == 4 * (1 * 4 + 1 * 2 + 4 * 2)
    assert await snapshot(api.db) == before


async def test_hold_and_resume_a_destination(api: API) -> None:
    nodes = (await api.ask("{ destinations { nodes { id ae } } }"))["destinations"]["nodes"]
    pacs = next(n["id"] for n in nodes if n["ae"] == "default/pacs")
    held = await change(api, "holdDestination", 'id: $id, reason: "upgrade"', id=("ID!", pacs))
    assert held["changed"] is True
    assert held["destination"] == {"heldBy": "queue-only", "holdReason": "upgrade"}
    data = await api.ask('{ queueItems(search: "to:pacs") { nodes { whyNotMoving { code text } } } }')
    assert data["queueItems"]["nodes"][0]["whyNotMoving"]["code"] == "DESTINATION_HELD"
    resumed = await change(api, "resumeDestination", "id: $id", id=("ID!", pacs))
    assert resumed["destination"] == {"heldBy": None, "holdReason": None}
    again = await change(api, "resumeDestination", "id: $id", id=("ID!", pacs))
    assert again["changed"] is False
    assert [a["target"] for a in await api.audit()] == ["Destination:default/pacs"] * 3


async def test_a_destination_in_trouble_is_probed_at_once(api: API) -> None:
    nodes = (await api.ask("{ destinations { nodes { id ae } } }"))["destinations"]["nodes"]
    pacs = next(n["id"] for n in nodes if n["ae"] == "default/pacs")
    sound = await change(api, "retryDestination", "id: $id", id=("ID!", pacs))
    assert sound["changed"] is False
    later = datetime.now(UTC) + timedelta(minutes=5)
    await api.db.execute(
        "UPDATE destination SET breaker = 'OPEN', next_probe_at = $1 WHERE ae = 'default/pacs'", later
    )
    await change(api, "holdDestination", "id: $id", id=("ID!", pacs))
    assert (await change(api, "retryDestination", "id: $id", id=("ID!", pacs)))["changed"] is False
    assert await take_probe(api.db, now=datetime.now(UTC)) is None
    await change(api, "resumeDestination", "id: $id", id=("ID!", pacs))
    assert await take_probe(api.db, now=datetime.now(UTC)) is None
    retried = await change(api, "retryDestination", 'id: $id, reason: "mended"', id=("ID!", pacs))
    assert retried["changed"] is True
    probe = await take_probe(api.db, now=datetime.now(UTC))
    assert probe is not None
    assert probe.ae == "default/pacs"
    last = (await api.audit())[-1]
    assert (last["action"], json.loads(last["detail"])) == (
        "retryDestination",
        {"changed": True, "reason": "mended"},
    )


async def test_send_studies_sends_once_for_a_key(api: API) -> None:
    data = await api.ask(
        '{ studies(search: "modality:CT") { nodes { id } } destinations { nodes { id ae } } }'
    )
    study = data["studies"]["nodes"][0]["id"]
    ws1 = next(n["id"] for n in data["destinations"]["nodes"] if n["ae"] == "default/ws1")
    query = """mutation($input: SendStudiesInput!) { sendStudies(input: $input) { __typename
        ... on StudiesSent { count dryRun items { id destinationAe instancesTotal requestedBy } }
        ... on Problem { code message } } }"""
    wish = {"studyIds": [study], "destinationIds": [ws1], "idempotencyKey": "k1"}
    before = await rows(api)
    dry = (await api.ask(query, input={**wish, "dryRun": True}))["sendStudies"]
    assert (dry["count"], dry["items"]) == (1, [])
    assert await rows(api) == before
    sent = (await api.ask(query, input=wish))["sendStudies"]
    assert [(i["destinationAe"], i["instancesTotal"], i["requestedBy"]) for i in sent["items"]] == [
        ("default/ws1", 3, "person:both")
    ]
    assert (await api.ask(query, input=wish))["sendStudies"]["items"] == sent["items"]
    assert len(await rows(api)) == len(before) + 1
    told = as_json((await api.audit())[-1]["detail"])
    assert isinstance(told, dict)
    assert told["idempotencyKey"] == hashlib.sha256(b"k1").hexdigest()[:16]
    none = (await api.ask(query, input={**wish, "idempotencyKey": ""}))["sendStudies"]
    assert none["code"] == "INVALID_VALUE"
    assert len(await rows(api)) == len(before) + 1


async def test_reroute_finds_nothing_new(api: API) -> None:
    data = await api.ask('{ studies(search: "modality:CT") { nodes { closeUnits { id } } } }')
    unit = data["studies"]["nodes"][0]["closeUnits"][0]["id"]
    before = await rows(api)
    query = """mutation($id: ID!) { reroute(closeUnitId: $id) { __typename
        ... on Rerouted { outcome queued } ... on Problem { code } } }"""
    answer = (await api.ask(query, id=unit))["reroute"]
    assert answer == {"__typename": "Rerouted", "outcome": "ROUTED", "queued": 0}
    assert await rows(api) == before
    assert [a["action"] for a in await api.audit()] == ["reroute"]
    assert (await api.ask(query, id="Q2xvc2VVbml0Ojk5OTk"))["reroute"]["code"] == "NOT_FOUND"


async def test_what_no_route_matched_is_found_and_routed_by_hand(empty_api: API) -> None:
    api, place = empty_api, empty_api.place
    await place.apply(*(r for r in HOSPITAL if r.metadata.key != key("ct-to-pacs")))
    await fill(place)
    query = """{ closeUnits(outcome: NO_ROUTE) { totalCount { value } nodes { id outcome
        study { modalities } } } dashboard { noRoute trouble { kind text } } }"""
    found = await api.ask(query, token=api.queue)
    assert found["closeUnits"]["totalCount"]["value"] == found["dashboard"]["noRoute"] == 1
    (unit,) = found["closeUnits"]["nodes"]
    assert unit["study"] == {"modalities": ["CT"]}
    assert [t["kind"] for t in found["dashboard"]["trouble"]] == ["NO_ROUTE"]
    await place.apply()
    reroute = """mutation($id: ID!) { reroute(closeUnitId: $id) {
        ... on Rerouted { outcome queued } ... on Problem { message } } }"""
    assert (await api.ask(reroute, id=unit["id"]))["reroute"] == {"outcome": "ROUTED", "queued": 1}
    found = await api.ask(query)
    assert (found["closeUnits"]["nodes"], found["dashboard"]["noRoute"]) == ([], 0)
    data = await api.ask(
        '{ queueItems(search: "to:pacs") { nodes { destinationAe instancesTotal requestedBy } } }'
    )
    assert data["queueItems"]["nodes"] == [
        {"destinationAe": "default/pacs", "instancesTotal": 3, "requestedBy": "person:both"}
    ]
