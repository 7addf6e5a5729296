"""Changes of many: batch by batch, each done once, whoever is killed over it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from aegate_core.database import Database, open_database
from aegate_core.services import operations
from aegate_graphql_api.mutations.selection import MOST_AT_ONCE
from aegate_graphql_api.operating import carry_on
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import Caller
from aegate_graphql_api.schema.node import global_id
from aegate_graphql_api.tokens import create_token
from tests.integration.api.clients import API, fill
from tests.integration.api.many_items import as_caller, copy_item
from tests.integration.api.snapshots import snapshot
from tests.integration.api.test_process import api_process
from tests.integration.intake.hospital import Place, spool_folder
from tests.integration.waiting import eventually

MANY = MOST_AT_ONCE + 1
ANSWER = """
  __typename
  ... on QueueItemsChanged { matched dryRun changedCount askedCount leftCount changed { id } left { because } }
  ... on OperationStarted { operation { id state total processed changedCount requestedBy reason } }
  ... on Problem { code message }
  ... on ConflictProblem { actualCount }
"""
OPERATION = """query($id: ID!) { operation(id: $id) { action state total processed changedCount askedCount leftCount
  canceledBy errorCode startedAt finishedAt
  results(first: 100) { nodes { n targetId outcome because } pageInfo { hasNextPage } totalCount { value } } } }"""
CANCEL = """mutation($id: ID!) { cancelOperation(id: $id) { __typename
  ... on OperationChanged { changed operation { state } } ... on Problem { code } } }"""
SCHEDULED: dict[str, Any] = {"where": {"state": {"eq": "SCHEDULED"}}}


async def change(api: API, field: str, selection: dict[str, Any], **guard: object) -> dict[str, Any]:
    extra = ', reason: "works"' if field.startswith(("hold", "cancel", "resume")) else ""
    data = await api.ask(
        f"mutation($s: QueueItemSelection!, $g: ChangeGuard) {{ {field}(selection: $s, guard: $g{extra}) "
        f"{{ {ANSWER} }} }}",
        s=selection,
        g=guard or None,
    )
    answer: dict[str, Any] = data[field]
    return answer


async def to_the_end(api: API, batch: int = operations.BATCH) -> int:
    """Do all batches; return how many there were."""
    count = 0
    while await carry_on(api.db, batch):
        count += 1
    return count


@pytest.fixture
async def busy(api: API) -> API:
    """501 items that wait, beside one for another destination."""
    await copy_item(api.db, MANY - 2)
    return api


async def states(api: API) -> Counter[str]:
    return Counter(str(r["state"]) for r in await api.db.fetch("SELECT state FROM delivery"))


async def test_what_a_filter_finds_is_changed_in_batches_with_an_audit_row_each(busy: API) -> None:
    started = await change(busy, "holdQueueItems", SCHEDULED, expectedCount=MANY, idempotencyKey="k1")
    assert started["__typename"] == "OperationStarted"
    operation = started["operation"]
    assert (operation["state"], operation["total"], operation["processed"]) == ("SCHEDULED", MANY, 0)
    assert (operation["requestedBy"], operation["reason"]) == ("both", "works")
    assert await states(busy) == {"SCHEDULED": MANY}
    assert await carry_on(busy.db, 200)
    midway = (await busy.ask(OPERATION, id=operation["id"]))["operation"]
    assert (midway["state"], midway["processed"], midway["changedCount"]) == ("RUNNING", 200, 200)
    assert await states(busy) == {"HELD": 200, "SCHEDULED": MANY - 200}
    assert await to_the_end(busy, 200) == 2
    done = (await busy.ask(OPERATION, id=operation["id"]))["operation"]
    assert (done["state"], done["processed"], done["changedCount"]) == ("COMPLETED", MANY, MANY)
    assert (done["askedCount"], done["leftCount"], done["results"]["totalCount"]["value"]) == (0, 0, MANY)
    assert {r["outcome"] for r in done["results"]["nodes"]} == {"CHANGED"}
    assert await states(busy) == {"HELD": MANY}
    first = done["results"]["nodes"][0]
    held = await busy.ask(
        "query($id: ID!) { queueItem(id: $id) { heldBy holdReason history { nodes { actor toState } } } }",
        id=first["targetId"],
    )
    assert held["queueItem"]["heldBy"] == "both"
    assert held["queueItem"]["holdReason"] == "works"
    audit = await busy.audit()
    assert [(a["actor"], a["action"]) for a in audit] == [("both", "holdQueueItems")] * 4
    details = [json.loads(a["detail"]) for a in audit]
    assert details[0] == {"total": MANY, "reason": "works"}
    assert [len(d["changed"]) for d in details[1:]] == [200, 200, MANY - 400]
    assert len({a["target"] for a in audit}) == 1
    listed = await busy.ask(
        "{ operations(state: COMPLETED) { nodes { id } } running: operations(state: RUNNING) { nodes { id } } }"
    )
    assert (listed["operations"]["nodes"], listed["running"]["nodes"]) == ([{"id": operation["id"]}], [])


async def test_the_same_key_begins_one_operation(busy: API) -> None:
    guard = {"expectedCount": MANY, "idempotencyKey": "k1"}
    one, two = await asyncio.gather(*(change(busy, "cancelQueueItems", SCHEDULED, **guard) for _ in range(2)))
    assert one["operation"]["id"] == two["operation"]["id"]
    await to_the_end(busy)
    before = await snapshot(busy.db)
    again = await change(busy, "cancelQueueItems", SCHEDULED, **guard)
    assert (again["operation"]["id"], again["operation"]["state"]) == (one["operation"]["id"], "COMPLETED")
    for other in ("holdQueueItems", "cancelQueueItems"):
        wrong = await change(busy, other, {"search": "quillonia"}, **guard)
        assert (wrong["__typename"], wrong["code"]) == ("ValidationProblem", "INVALID_VALUE")
    assert await snapshot(busy.db) == before


async def test_a_key_answers_the_same_for_what_was_done_at_once(api: API) -> None:
    guard = {"expectedCount": 2, "idempotencyKey": "k1"}
    one, two = await asyncio.gather(*(change(api, "bumpQueueItems", SCHEDULED, **guard) for _ in range(2)))
    assert one == two
    assert (one["matched"], one["changedCount"], one["left"]) == (2, 2, [])
    assert [r["version"] for r in await api.db.fetch("SELECT version FROM delivery")] == [2, 2]
    assert len(await api.audit()) == 1
    for key in ("", "x" * 129, "\0"):
        wrong = await change(api, "bumpQueueItems", SCHEDULED, expectedCount=2, idempotencyKey=key)
        assert wrong["code"] == "INVALID_VALUE"
    assert len(await api.audit()) == 1


async def test_a_dry_run_of_many_changes_nothing(busy: API) -> None:
    await busy.db.execute("UPDATE delivery SET state = 'IN_PROGRESS' WHERE dedup_key IN ('copy1', 'copy2')")
    await busy.db.execute("UPDATE delivery SET state = 'COMPLETED' WHERE dedup_key = 'copy3'")
    before = await snapshot(busy.db)
    dry = await change(busy, "holdQueueItems", {"where": {}}, dryRun=True)
    assert (dry["matched"], dry["changedCount"], dry["askedCount"]) == (MANY, MANY - 3, 2)
    assert (dry["leftCount"], dry["left"], dry["dryRun"]) == (1, [{"because": "COMPLETED"}], True)
    assert len(dry["changed"]) == MOST_AT_ONCE - 2
    wrong = await change(busy, "holdQueueItems", {"where": {}}, expectedCount=MANY - 1, dryRun=True)
    assert (wrong["__typename"], wrong["actualCount"]) == ("ConflictProblem", MANY)
    assert await snapshot(busy.db) == before


async def test_another_count_than_expected_begins_nothing(busy: API) -> None:
    before = await snapshot(busy.db)
    for count in (MANY - 1, MANY + 1):
        wrong = await change(busy, "holdQueueItems", SCHEDULED, expectedCount=count, idempotencyKey="k")
        assert (wrong["__typename"], wrong["actualCount"]) == ("ConflictProblem", MANY)
    versioned = await change(busy, "holdQueueItems", SCHEDULED, expectedCount=MANY, version=1)
    assert versioned["code"] == "INVALID_VALUE"
    assert await snapshot(busy.db) == before


async def test_an_operation_that_is_cancelled_leaves_the_rest(busy: API) -> None:
    id = (await change(busy, "holdQueueItems", SCHEDULED, expectedCount=MANY))["operation"]["id"]
    assert await carry_on(busy.db, 100)
    ended = (await busy.ask(CANCEL, id=id))["cancelOperation"]
    assert ended == {"__typename": "OperationChanged", "changed": True, "operation": {"state": "CANCELED"}}
    assert not await carry_on(busy.db, 100)
    assert await states(busy) == {"HELD": 100, "SCHEDULED": MANY - 100}
    now = (await busy.ask(OPERATION, id=id))["operation"]
    assert (now["processed"], now["canceledBy"], now["finishedAt"] is None) == (100, "both", False)
    assert (await busy.ask(CANCEL, id=id))["cancelOperation"]["changed"] is False
    assert (await busy.ask(CANCEL, id="T3BlcmF0aW9uOjk5OTk"))["cancelOperation"]["code"] == "NOT_FOUND"
    assert (await busy.ask(CANCEL, id="U3R1ZHk6MQ"))["cancelOperation"]["code"] == "NOT_FOUND"


async def test_a_fault_ends_one_operation_and_no_other(busy: API) -> None:
    broken = (await change(busy, "holdQueueItems", SCHEDULED, expectedCount=MANY))["operation"]["id"]
    await busy.db.execute("UPDATE operation SET action = 'unheardOf'")
    whole = (await change(busy, "holdQueueItems", SCHEDULED, expectedCount=MANY))["operation"]["id"]
    await to_the_end(busy)
    ends = [(await busy.ask(OPERATION, id=id))["operation"] for id in (broken, whole)]
    assert [(e["state"], e["errorCode"], e["processed"]) for e in ends] == [
        ("FAILED", "INTERNAL", 0),
        ("COMPLETED", None, MANY),
    ]


async def test_an_operation_whose_batch_the_database_does_not_take_lets_others_go_first(
    busy: API, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = (await change(busy, "holdQueueItems", SCHEDULED, expectedCount=MANY))["operation"]["id"]
    await refuse_fates_of_the_only_operation(busy.db)
    whole = (await change(busy, "bumpQueueItems", SCHEDULED, expectedCount=MANY))["operation"]["id"]
    told: set[int] = set()
    done = [await carry_on(busy.db, operations.BATCH, told) for _ in range(3)]
    assert done == [False, True, True]
    ends = [(await busy.ask(OPERATION, id=id))["operation"] for id in (stuck, whole)]
    assert [(e["state"], e["processed"]) for e in ends] == [("SCHEDULED", 0), ("COMPLETED", MANY)]
    waits = [r.__dict__["event_fields"] for r in caplog.records if "others go first" in r.message]
    assert [(w["operation"], w["error"].startswith("the database must have the tables")) for w in waits] == [
        (min(told), True)
    ]
    await busy.db.execute(f"DROP TRIGGER refused{'' if busy.db.is_sqlite else ' ON operation_item'}")
    await busy.db.execute("UPDATE operation SET retry_at = NULL")
    while await carry_on(busy.db, operations.BATCH, told):
        pass
    end = (await busy.ask(OPERATION, id=stuck))["operation"]
    assert (end["state"], end["changedCount"], told) == ("COMPLETED", MANY, set())


async def test_many_that_are_bumped_keep_their_order_and_a_later_bump_goes_before_them(busy: API) -> None:
    rows = await busy.db.fetch("SELECT id FROM delivery ORDER BY created_at, id")
    order = [int(r["id"]) for r in rows]
    await change(busy, "bumpQueueItems", {"where": {}}, expectedCount=MANY)
    assert await carry_on(busy.db, 200)
    last = await busy.ask("{ queueItems(first: 1) { nodes { id } } }")
    await change(busy, "bumpQueueItems", {"ids": [last["queueItems"]["nodes"][0]["id"]]})
    bumped = int((await busy.db.fetch("SELECT id FROM delivery ORDER BY rank, id LIMIT 1"))[0]["id"])
    assert bumped == order[-1]
    await busy.db.execute("UPDATE operation_item SET target = $1 WHERE n = $2", order[0], MANY)
    await to_the_end(busy, 200)
    now = [int(r["id"]) for r in await busy.db.fetch("SELECT id FROM delivery ORDER BY rank, id")]
    assert now[0] == bumped
    assert [i for i in now if i not in (order[0], bumped)] == order[1:-1]


async def test_nobody_sees_or_ends_what_is_about_more_than_they_may_see(busy: API) -> None:
    await busy.db.execute("UPDATE delivery SET partition = 'other/default' WHERE dedup_key = 'copy7'")
    other = as_caller(
        busy,
        Caller(
            "other",
            frozenset({Permission.TOKEN, Permission.DICOM_QUEUE}),
            partitions=frozenset({"other/default"}),
        ),
    )
    mixed = (await change(busy, "holdQueueItems", SCHEDULED, expectedCount=MANY))["operation"]["id"]
    async with other.client:
        before = await snapshot(busy.db)
        for id in (mixed, "T3BlcmF0aW9uOjk5OTk"):
            assert (await other.ask(OPERATION, id=id))["operation"] is None
            assert (await other.ask(CANCEL, id=id))["cancelOperation"]["code"] == "NOT_FOUND"
            found = await other.ask(
                "query($id: ID!) { node(id: $id) { id } operations { nodes { id } } }", id=id
            )
            assert found == {"node": None, "operations": {"nodes": []}}
        foreign = await busy.db.fetch("SELECT id FROM delivery WHERE partition <> 'other/default' LIMIT 1")
        ids = [global_item(int(foreign[0]["id"])), global_item(99_999)]
        for id in ids:
            left = await change(other, "cancelQueueItems", {"ids": [id]}, asOperation=True)
            assert left["code"] == "NOT_FOUND"
        assert await snapshot(busy.db) == before
        own = await change(other, "cancelQueueItems", {"where": {}}, expectedCount=1, asOperation=True)
        assert own["operation"]["total"] == 1
        await to_the_end(busy)
        assert await states(busy) == {"HELD": MANY - 1, "CANCELED": 1}
        assert (await other.ask(OPERATION, id=own["operation"]["id"]))["operation"]["changedCount"] == 1
    assert (await busy.ask(OPERATION, id=own["operation"]["id"]))["operation"]["state"] == "COMPLETED"


def global_item(key: int) -> str:
    return str(global_id("QueueItem", key))


async def test_without_the_permission_there_is_no_operation(busy: API) -> None:
    id = (await change(busy, "holdQueueItems", SCHEDULED, expectedCount=MANY))["operation"]["id"]
    before = await snapshot(busy.db)
    for query in (OPERATION, CANCEL):
        error = await busy.refused(query, token=busy.editor, id=id)
        assert error["extensions"]["code"] == "FORBIDDEN"
    hidden = "query($id: ID!) { node(id: $id) { id } operation(id: $id) { id } operations { nodes { id } } }"
    shown = await busy.ask(hidden, token=busy.editor, id=id)
    assert shown == {"node": None, "operation": None, "operations": {"nodes": []}}
    assert await snapshot(busy.db) == before


async def test_items_of_a_study_a_series_or_an_image(api: API) -> None:
    studies = (
        await api.ask("{ studies { nodes { id modalities series { id instances { nodes { id } } } } } }")
    )["studies"]
    ct, us = (next(s for s in studies["nodes"] if s["modalities"] == [m]) for m in ("CT", "US"))
    image = us["series"][0]["instances"]["nodes"][0]["id"]
    before = await snapshot(api.db)
    for selection, matched in (
        ({"studyIds": [ct["id"]]}, 1),
        ({"studyIds": [ct["id"], us["id"]]}, 2),
        ({"seriesIds": [us["series"][0]["id"]]}, 1),
        ({"instanceIds": [image]}, 1),
        ({"studyIds": [ct["id"]], "instanceIds": [image]}, 2),
    ):
        assert (await change(api, "holdQueueItems", selection, dryRun=True))["matched"] == matched
    for wrong in (
        {"seriesIds": [ct["series"][0]["id"]]},
        {"studyIds": []},
        {"studyIds": [image]},
        {"studyIds": ["U3R1ZHk6OTk5OQ"]},
        {"studyIds": [ct["id"]], "search": "quillonia"},
    ):
        assert "code" in await change(api, "holdQueueItems", wrong)
    assert await snapshot(api.db) == before
    held = await change(api, "holdQueueItems", {"studyIds": [ct["id"]]})
    assert held["changedCount"] == 1
    assert await states(api) == {"HELD": 1, "SCHEDULED": 1}


async def refuse_fates_of_the_only_operation(db: Database) -> None:
    """As if the table had gone: an error of the database, and one of this operation's batches alone."""
    only = await db.fetch_value("SELECT id FROM operation")
    before = "CREATE TRIGGER refused BEFORE UPDATE ON operation_item"
    if db.is_sqlite:
        await db.execute(
            f"{before} WHEN NEW.operation_id = {only} BEGIN SELECT RAISE(ABORT, 'no such table: gone'); END"
        )
        return
    await db.execute(
        "CREATE FUNCTION refused() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'gone' USING ERRCODE = 'undefined_table'; END $$"
    )
    await db.execute(f"{before} FOR EACH ROW WHEN (NEW.operation_id = {only}) EXECUTE FUNCTION refused()")


def test_a_killed_process_leaves_its_operation_to_the_next(database_url: str, tmp_path: Path) -> None:
    total = 600
    asyncio.run(filled(database_url, tmp_path, total))
    token = create_token(tmp_path / "tokens.json", "ann", ["DICOM_QUEUE"])
    headers = {"Authorization": f"Bearer {token}"}

    def ask(client: httpx.Client, query: str, **variables: object) -> Any:
        answer = client.post(
            "/graphql", json={"query": query, "variables": variables}, headers=headers
        ).json()
        assert "errors" not in answer, answer
        return answer["data"]

    begin = f"""mutation {{ holdQueueItems(selection: {{where: {{state: {{eq: SCHEDULED}}}}}},
        guard: {{expectedCount: {total}, idempotencyKey: "k"}}) {{
        ... on OperationStarted {{ operation {{ id }} }} }} }}"""
    progress = "query($id: ID!) { operation(id: $id) { state processed changedCount } }"
    with api_process(tmp_path, database_url, "one", killed=True, AEGATE_OPERATION_BATCH="1") as (one, first):
        id = ask(one, begin)["holdQueueItems"]["operation"]["id"]
        eventually(lambda: ask(one, progress, id=id)["operation"]["processed"] > 3, deadline_s=60)
        first.kill()
    midway = asyncio.run(counted(database_url))
    held = midway["processed"]
    assert 3 < held < total
    assert midway == {
        "state": "RUNNING",
        "processed": held,
        "held": held,
        "fates": held,
        "events": held,
        "audited": held + 1,
    }
    with api_process(tmp_path, database_url, "two") as (two, _):
        eventually(lambda: ask(two, progress, id=id)["operation"]["state"] == "COMPLETED", deadline_s=120)
        assert ask(two, begin)["holdQueueItems"]["operation"]["id"] == id
    done = asyncio.run(counted(database_url))
    assert (done["processed"], done["held"], done["fates"], done["events"]) == (total, total, total, total)


async def filled(url: str, folder: Path, total: int) -> None:
    async with open_database(url) as db:
        with spool_folder(folder / "spool") as spool:
            place = Place(db, folder, spool)
            await place.apply()
            await fill(place)
        await copy_item(db, total - 2)


COUNTS = {
    "held": "SELECT count(*) FROM delivery WHERE state = 'HELD'",
    "fates": "SELECT count(*) FROM operation_item WHERE outcome = 'CHANGED'",
    "events": "SELECT count(*) FROM delivery_event WHERE to_state = 'HELD'",
    "audited": "SELECT count(*) FROM audit_event WHERE action = 'holdQueueItems'",
}


async def counted(url: str) -> dict[str, Any]:
    async with open_database(url) as db:
        row = await db.fetch_one("SELECT state, processed FROM operation")
        assert row is not None
        return {**row, **{name: await db.fetch_value(sql) for name, sql in COUNTS.items()}}


async def test_a_dry_run_as_an_operation_tells_each_fate_and_changes_nothing(busy: API) -> None:
    before = await states(busy)
    started = await change(busy, "holdQueueItems", {"where": {}}, dryRun=True, asOperation=True)
    assert started["operation"]["total"] == MANY
    while await carry_on(busy.db, 200):
        assert await states(busy) == before
    done = (await busy.ask(OPERATION, id=started["operation"]["id"]))["operation"]
    assert (done["state"], done["changedCount"], done["leftCount"]) == ("COMPLETED", MANY, 0)
    assert await states(busy) == before
    assert [a["action"] for a in await busy.audit()] == ["holdQueueItems"]
