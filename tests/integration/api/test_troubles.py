"""What people decide about conflicts, quarantined objects and single images; what is held goes with the decision."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aegate_core.database import as_json
from aegate_core.services.studies import close_due
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import Caller
from tests import dicom
from tests.integration.api.clients import API, BEFORE
from tests.integration.api.many_items import as_caller
from tests.integration.api.snapshots import snapshot

STRANGER = Caller("eve", frozenset({Permission.TOKEN, Permission.DICOM_QUEUE}), partitions=frozenset({"b/b"}))
RESOLVE = """mutation($i: ResolveConflictInput!) { resolveConflict(input: $i) { __typename
  ... on ConflictResolved { changed dryRun releasedCount canceledCount conflict { resolvedBy resolution choices } }
  ... on Problem { code message } } }"""
DISMISS = """mutation($i: DismissQuarantinedInput!) { dismissQuarantined(input: $i) { __typename
  ... on QuarantinedDismissed { changedCount dryRun objects { resolvedBy resolution } } ... on Problem { code } } }"""
RELEASE = """mutation($i: ReleaseQuarantinedInput!) { releaseQuarantined(input: $i) { __typename
  ... on QuarantinedReleased { changedCount dryRun left { id because } objects { resolvedAt releasedBy } }
  ... on Problem { code } } }"""
RETRY = """mutation($i: RetryInstancesInput!) { retryQueueItemInstances(input: $i) { __typename
  ... on InstancesRetried { dryRun retried left queueItem { state instancesFailed version } }
  ... on Problem { code } } }"""


async def resolve(api: API, id: str, resolution: str, **more: object) -> dict[str, Any]:
    wish = {"conflictId": id, "resolution": resolution, **more}
    answer: dict[str, Any] = (await api.ask(RESOLVE, i=wish))["resolveConflict"]
    return answer


async def the_conflict(api: API) -> dict[str, Any]:
    (found,) = (await api.ask("{ conflicts { nodes { id kind choices arrivalId otherArrivalId } } }"))[
        "conflicts"
    ]["nodes"]
    conflict: dict[str, Any] = found
    return conflict


async def receive(api: API, *objects: Any) -> None:
    """Receive, index, close and route."""
    when = BEFORE + timedelta(minutes=40)
    api.place.receive_all(objects, "ct1", when)
    await api.place.index(when)
    await api.db.execute("UPDATE indexer_state SET scanned_at = $1", datetime.now(UTC))
    await close_due(api.db, now=datetime.now(UTC))


@pytest.fixture
async def mismatch(api: API) -> API:
    """Two queue items that are held because their study came under another patient id."""
    await receive(api, dicom.ct(dicom.Instance(study="one", number=8, patient_id="OTHER-8")))
    await api.db.execute(
        "UPDATE delivery SET state = 'HELD', hold_code = 'PATIENT_MISMATCH' WHERE source_ae = 'default/ct1'"
    )
    return api


async def held(api: API) -> list[str]:
    rows = await api.db.fetch("SELECT state FROM delivery WHERE source_ae = 'default/ct1' ORDER BY id")
    return [str(r["state"]) for r in rows]


@pytest.mark.parametrize(
    ("resolution", "state", "counts"),
    [("SEND_AS_IT_IS", "SCHEDULED", (2, 0)), ("DO_NOT_SEND", "CANCELED", (0, 2))],
)
async def test_what_is_held_for_a_mismatch_goes_by_the_decision(
    mismatch: API, resolution: str, state: str, counts: tuple[int, int]
) -> None:
    conflict = await the_conflict(mismatch)
    assert (conflict["kind"], conflict["choices"]) == ("PATIENT_MISMATCH", ["SEND_AS_IT_IS", "DO_NOT_SEND"])
    before = await snapshot(mismatch.db)
    dry = await resolve(mismatch, conflict["id"], resolution, dryRun=True)
    assert (dry["releasedCount"], dry["canceledCount"]) == counts
    assert await snapshot(mismatch.db) == before
    done = await resolve(mismatch, conflict["id"], resolution, reason="asked the ward")
    assert (done["changed"], done["releasedCount"], done["canceledCount"]) == (True, *counts)
    assert done["conflict"] == {
        "resolvedBy": "both",
        "resolution": f"{resolution}: asked the ward",
        "choices": [],
    }
    assert await held(mismatch) == [state, state]
    (audit,) = await mismatch.audit()
    assert (audit["action"], audit["target"][:9]) == ("resolveConflict", "Conflict:")
    assert len(json.loads(audit["detail"])["released" if counts[0] else "canceled"]) == 2
    after = await snapshot(mismatch.db)
    assert (await resolve(mismatch, conflict["id"], resolution))["changed"] is False
    other = "DO_NOT_SEND" if resolution == "SEND_AS_IT_IS" else "SEND_AS_IT_IS"
    assert (await resolve(mismatch, conflict["id"], other))["__typename"] == "ConflictProblem"
    assert await snapshot(mismatch.db) == after


async def test_two_who_decide_at_once_decide_once(mismatch: API) -> None:
    id = (await the_conflict(mismatch))["id"]
    done = await asyncio.gather(*(resolve(mismatch, id, "SEND_AS_IT_IS") for _ in range(2)))
    assert sorted(d["changed"] for d in done) == [False, True]
    assert sum(d["releasedCount"] for d in done) == 2
    assert len(await mismatch.audit()) == 1


async def test_what_makes_no_sense_for_a_conflict_or_is_not_there_is_refused(mismatch: API) -> None:
    id = (await the_conflict(mismatch))["id"]
    other = as_caller(mismatch, STRANGER)
    before = await snapshot(mismatch.db)
    for resolution in ("KEEP_NEWER", "KEEP_OLDER", "KEEP_BOTH"):
        assert (await resolve(mismatch, id, resolution))["code"] == "INVALID_VALUE"
    assert (await resolve(mismatch, id, "SEND_AS_IT_IS", reason="x" * 201))["code"] == "INVALID_VALUE"
    async with other.client:
        for key in (id, "Q29uZmxpY3Q6OTk5OQ", "U3R1ZHk6MQ"):
            assert (await resolve(other, key, "SEND_AS_IT_IS"))["code"] == "NOT_FOUND"
    assert await snapshot(mismatch.db) == before


async def test_the_older_of_two_contents_may_count_again(api: API) -> None:
    changed = dicom.ct(dicom.Instance(study="one", number=1))
    changed.SeriesDescription = "made anew"
    await receive(api, changed)
    conflict = await the_conflict(api)
    assert (conflict["kind"], conflict["choices"]) == ("SAME_UID_OTHER_CONTENT", ["KEEP_NEWER", "KEEP_OLDER"])
    current = "SELECT count(*) FROM instance WHERE current_arrival_id = $1"
    assert await api.db.fetch_value(current, conflict["arrivalId"]) == 1
    done = await resolve(api, conflict["id"], "KEEP_OLDER")
    assert (done["changed"], done["conflict"]["resolution"]) == (True, "KEEP_OLDER")
    assert await api.db.fetch_value(current, conflict["otherArrivalId"]) == 1
    assert await api.db.fetch_value(current, conflict["arrivalId"]) == 0
    assert await api.place.count("arrival") == 5


async def test_the_older_counts_also_where_it_was_indexed_late(api: API) -> None:
    changed = dicom.ct(dicom.Instance(study="one", number=1))
    changed.SeriesDescription = "made anew"
    when = BEFORE - timedelta(minutes=5)
    api.place.receive(changed, "ct1", when)
    await api.place.index(BEFORE)
    conflict = await the_conflict(api)
    current = "SELECT count(*) FROM instance WHERE current_arrival_id = $1"
    assert await api.db.fetch_value(current, conflict["otherArrivalId"]) == 1
    for _ in range(2):
        assert (await resolve(api, conflict["id"], "KEEP_OLDER"))["__typename"] == "ConflictResolved"
        assert await api.db.fetch_value(current, conflict["arrivalId"]) == 1


async def test_an_older_content_that_is_gone_or_was_overtaken_does_not_count_again(api: API) -> None:
    for text in ("second", "third"):
        changed = dicom.ct(dicom.Instance(study="one", number=1))
        changed.SeriesDescription = text
        await receive(api, changed)
    nodes = (await api.ask("{ conflicts { nodes { id otherArrivalId } } }"))["conflicts"]["nodes"]
    newest, first = nodes
    await api.db.execute(
        "UPDATE arrival SET removed_at = $1 WHERE id = $2", datetime.now(UTC), newest["otherArrivalId"]
    )
    before = await snapshot(api.db)
    for conflict in (newest, first):
        assert (await resolve(api, conflict["id"], "KEEP_OLDER"))["code"] == "CONFLICT"
    assert await snapshot(api.db) == before
    assert (await resolve(api, newest["id"], "KEEP_NEWER"))["changed"] is True


async def test_quarantined_objects_count_as_looked_at_and_are_kept(api: API) -> None:
    api.place.receive(b"this is no DICOM object", "ct1")
    await api.place.index()
    listed = "{ quarantinedObjects { nodes { id } } }"
    (kept,) = (await api.ask(listed))["quarantinedObjects"]["nodes"]
    other = as_caller(api, STRANGER)
    before = await snapshot(api.db)

    async def dismiss(api: API, *ids: str, **more: object) -> dict[str, Any]:
        answer: dict[str, Any] = (await api.ask(DISMISS, i={"ids": ids, **more}))["dismissQuarantined"]
        return answer

    async with other.client:
        assert (await dismiss(other, kept["id"]))["code"] == "NOT_FOUND"
    assert (await dismiss(api))["code"] == "INVALID_VALUE"
    assert (await dismiss(api, "U3R1ZHk6MQ"))["code"] == "NOT_FOUND"
    assert (await dismiss(api, kept["id"], dryRun=True))["changedCount"] == 1
    assert await snapshot(api.db) == before
    done = await dismiss(api, kept["id"], reason="a test object")
    assert done["objects"] == [{"resolvedBy": "both", "resolution": "LOOKED_AT: a test object"}]
    assert (await dismiss(api, kept["id"]))["changedCount"] == 0
    assert (await api.ask(listed))["quarantinedObjects"]["nodes"] == []
    assert await api.place.count("arrival", "outcome = 'QUARANTINED'") == 1
    assert len(await api.audit()) == 1


async def test_quarantined_objects_are_released_to_a_worker_once(api: API) -> None:
    api.place.receive(b"this is no DICOM object", "ct1")
    await api.place.index()
    listed = "{ quarantinedObjects { nodes { id releasedAt } } }"
    (kept,) = (await api.ask(listed))["quarantinedObjects"]["nodes"]
    other = as_caller(api, STRANGER)
    before = await snapshot(api.db)

    async def release(api: API, *ids: str, **more: object) -> dict[str, Any]:
        answer: dict[str, Any] = (await api.ask(RELEASE, i={"ids": ids, **more}))["releaseQuarantined"]
        return answer

    async with other.client:
        assert (await release(other, kept["id"]))["code"] == "NOT_FOUND"
    assert (await release(api))["code"] == "INVALID_VALUE"
    assert (await release(api, "U3R1ZHk6MQ"))["code"] == "NOT_FOUND"
    assert (await release(api, kept["id"], dryRun=True))["changedCount"] == 1
    assert await snapshot(api.db) == before
    done = await release(api, kept["id"], reason="the parser was mended")
    assert (done["changedCount"], done["left"]) == (1, [])
    assert done["objects"] == [{"resolvedAt": None, "releasedBy": "both"}]
    again = await release(api, kept["id"])
    assert (again["changedCount"], again["left"]) == (0, [{"id": kept["id"], "because": "WAITING"}])
    assert len(await api.audit()) == 1
    await api.db.execute("UPDATE arrival SET removed_at = $1 WHERE outcome = 'QUARANTINED'", BEFORE)
    assert (await release(api, kept["id"]))["left"] == [{"id": kept["id"], "because": "REMOVED"}]


async def test_single_images_of_an_item_are_sent_again(api: API) -> None:
    data = await api.ask(
        '{ queueItems(search: "to:pacs") { nodes { id instances { nodes { arrivalId } } } } }'
    )
    (item,) = data["queueItems"]["nodes"]
    one, two, three = (i["arrivalId"] for i in item["instances"]["nodes"])
    await api.db.execute(
        "UPDATE delivery_instance SET state = 'DEAD', status = 43264 WHERE arrival_id IN ($1, $2)", one, two
    )
    await api.db.execute("UPDATE delivery_instance SET state = 'STORED' WHERE arrival_id = $1", three)
    await api.db.execute(
        "UPDATE delivery SET state = 'FAILED', instances_failed = 2, instances_done = 1 WHERE level = 'Study'"
    )

    async def retry(api: API, *arrivals: str, **more: object) -> dict[str, Any]:
        wish = {"queueItemId": item["id"], "arrivalIds": arrivals, **more}
        answer: dict[str, Any] = (await api.ask(RETRY, i=wish))["retryQueueItemInstances"]
        return answer

    other = as_caller(api, STRANGER)
    before = await snapshot(api.db)
    async with other.client:
        assert (await retry(other, one))["code"] == "NOT_FOUND"
    assert (await retry(api))["code"] == "INVALID_VALUE"
    assert (await retry(api, one, version=7))["code"] == "CONFLICT"
    assert (await retry(api, one, three, dryRun=True))["retried"] == [one]
    assert await snapshot(api.db) == before
    done = await retry(api, one, three, "DOE^JANE")
    assert (done["retried"], done["left"]) == ([one], [three, "DOE^JANE"])
    told = as_json((await api.audit())[-1]["detail"])
    assert told == {"retried": [one], "leftCount": 2, "reason": None}
    assert (done["queueItem"]["state"], done["queueItem"]["instancesFailed"]) == ("SCHEDULED", 1)
    states = await api.db.fetch("SELECT arrival_id, state FROM delivery_instance")
    assert {r["arrival_id"]: r["state"] for r in states if r["arrival_id"] in (one, two, three)} == {
        one: "PENDING",
        two: "DEAD",
        three: "STORED",
    }
    await api.db.execute("UPDATE delivery SET state = 'IN_PROGRESS' WHERE level = 'Study'")
    assert (await retry(api, two))["code"] == "CONFLICT"
    await api.db.execute("UPDATE delivery SET state = 'HELD' WHERE level = 'Study'")
    assert (await retry(api, two))["queueItem"]["state"] == "HELD"
    assert len(await api.audit()) == 2
