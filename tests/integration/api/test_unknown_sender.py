"""Files of the store whose sender nobody knows: seen by few, and released once somebody says whose they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aegate_core.database import as_json
from aegate_core.services.entities import load_configuration
from aegate_core.services.fsck import Summary, check, repair
from aegate_core.services.releasing import index_released
from aegate_core.settings import DataFolder
from aegate_graphql_api.permissions import Caller
from tests import dicom
from tests.integration.api.clients import API, BEFORE
from tests.integration.api.many_items import as_caller
from tests.integration.api.snapshots import snapshot
from tests.integration.api.test_troubles import DISMISS, RELEASE, STRANGER

FOUND = """{ quarantinedObjects(where: {sourceAe: {eq: "unknown/unknown"}}) {
  totalCount { value } nodes { id sourceAe } } }"""


@pytest.fixture
async def found(api: API) -> API:
    """Three files of the store of which nobody knows who sent them: two images, and one that is none."""
    await lose(
        api, *(dicom.mr(dicom.Instance(study="lost", number=n)) for n in (1, 2)), b"this is no DICOM object"
    )
    return api


async def lose(api: API, *objects: Any) -> list[tuple[Path, bytes]]:
    """Have a check find objects of which only the blobs are left; return the files of the spool that are gone."""
    gone = []
    for content in objects:
        arrival = api.place.receive(content, "ct1", BEFORE)
        (spooled,) = api.place.spooled()
        api.place.blobs.put(arrival, spooled.path)
        for file in (spooled.side_path, spooled.path):
            gone.append((file, file.read_bytes()))
            file.unlink()
    data = DataFolder(api.place.root)
    for finding in [f async for f in check(api.db, data, Summary())]:
        await repair(api.db, data, finding, now=datetime.now(UTC))
    return gone


async def released(api: API, **wish: object) -> dict[str, Any]:
    text = RELEASE.replace("changedCount", "matched changedCount").replace("{ code }", "{ code message }")
    answer: dict[str, Any] = (await api.ask(text, i=wish))["releaseQuarantined"]
    return answer


async def by_workers(api: API) -> None:
    while await index_released(
        api.db,
        api.place.blobs,
        await load_configuration(api.db),
        lease=timedelta(seconds=30),
        now=datetime.now(UTC),
    ):
        pass


async def test_what_nobody_sent_is_released_once_somebody_says_who_did(found: API) -> None:
    listed = (await found.ask(FOUND))["quarantinedObjects"]
    assert listed["totalCount"]["value"] == 3
    ids = [node["id"] for node in listed["nodes"]]
    named = '{ quarantinedObjects(search: "unknown") { nodes { id } } }'
    assert [n["id"] for n in (await found.ask(named))["quarantinedObjects"]["nodes"]] == ids
    unknown = {"where": {"sourceAe": {"eq": "unknown/unknown"}}}
    before = await snapshot(found.db)
    left = await released(found, ids=ids)
    assert (left["changedCount"], {one["because"] for one in left["left"]}) == (0, {"UNKNOWN_SENDER"})
    for wrong in ("ct1", "default/nobody", "unknown/unknown", "default/CT1"):
        assert "input.sentBy" in (await released(found, ids=ids, sentBy=wrong))["message"]
    for wish in ({}, {"ids": ids, **unknown}, {"ids": []}):
        assert (await released(found, sentBy="default/ct1", **wish))["code"] == "INVALID_VALUE"
    assert "input.expectedCount" in (await released(found, sentBy="default/ct1", **unknown))["message"]
    assert (await released(found, sentBy="default/ct1", expectedCount=2, **unknown))["code"] == "CONFLICT"
    dry = await released(found, sentBy="default/ct1", dryRun=True, **unknown)
    assert (dry["matched"], dry["changedCount"], dry["left"]) == (3, 3, [])
    assert await snapshot(found.db) == before

    wish = {
        "sentBy": "default/ct1",
        "expectedCount": 3,
        "idempotencyKey": "k",
        "reason": "restored",
        **unknown,
    }
    done = [await released(found, **wish) for _ in range(2)]
    assert done[0] == done[1]
    assert (done[0]["matched"], done[0]["changedCount"]) == (3, 3)
    assert (await released(found, **{**wish, "reason": "another"}))["code"] == "INVALID_VALUE"
    (audit,) = await found.audit()
    assert (audit["action"], as_json(audit["detail"])["sentBy"]) == ("releaseQuarantined", "default/ct1")

    await by_workers(found)
    studies = await found.ask(
        '{ studies(search: "modality:MR") { nodes { sourceAe partition instanceCount } } }'
    )
    assert studies["studies"]["nodes"] == [
        {"sourceAe": "default/ct1", "partition": "default/default", "instanceCount": 2}
    ]
    rows = await found.db.fetch("SELECT ae, resolution FROM quarantined_object ORDER BY arrival_id")
    assert [(r["ae"], r["resolution"]) for r in rows] == [("default/ct1", "INDEXED")] * 2 + [
        ("default/ct1", None)
    ]
    last = [node["id"] for node in listed["nodes"] if node["id"] == ids[0]]
    known = await released(found, ids=last, sentBy="default/ct1")
    assert [one["because"] for one in known["left"]] == ["SENDER_KNOWN"]
    assert (await found.ask(FOUND))["quarantinedObjects"]["nodes"] == []


async def test_what_nobody_sent_is_shown_to_callers_of_all_partitions_alone(found: API) -> None:
    ids = [node["id"] for node in (await found.ask(FOUND))["quarantinedObjects"]["nodes"]]
    here = Caller("dora", STRANGER.permissions, partitions=frozenset({"default/default", "unknown/default"}))
    before = await snapshot(found.db)
    other = as_caller(found, here)
    async with other.client:
        assert (await other.ask(FOUND))["quarantinedObjects"] == {"totalCount": {"value": 0}, "nodes": []}
        assert (await released(other, ids=ids, sentBy="default/ct1"))["code"] == "NOT_FOUND"
        filtered = await released(other, where={}, sentBy="default/ct1", dryRun=True)
        assert "found 0" in filtered["message"]
        dismissed = (await other.ask(DISMISS, i={"ids": ids}))["dismissQuarantined"]
        assert dismissed["code"] == "NOT_FOUND"
    stranger = as_caller(found, STRANGER)
    async with stranger.client:
        assert "input.sentBy" in (await released(stranger, ids=ids, sentBy="default/ct1"))["message"]
    assert await snapshot(found.db) == before
    await released(found, ids=ids, sentBy="default/ct1", idempotencyKey="k")
    own = "{ operations { nodes { action total changedCount state } } }"
    assert (await found.ask(own))["operations"]["nodes"] == [
        {"action": "releaseQuarantined", "total": 3, "changedCount": 3, "state": "COMPLETED"}
    ]
    stranger = as_caller(found, STRANGER)
    async with stranger.client:
        assert (await stranger.ask(own))["operations"]["nodes"] == []


async def test_what_its_own_indexer_brings_in_the_end_is_of_its_own_sender(api: API) -> None:
    gone = await lose(api, dicom.mr(dicom.Instance(study="lost")))
    (node,) = (await api.ask(FOUND))["quarantinedObjects"]["nodes"]
    assert (await released(api, ids=[node["id"]], sentBy="default/us1"))["changedCount"] == 1
    for path, content in gone:
        path.write_bytes(content)
    await api.place.index()
    await by_workers(api)
    (row,) = await api.db.fetch("SELECT ae, resolution FROM quarantined_object")
    assert (row["ae"], row["resolution"]) == ("default/ct1", "INDEXED")
    assert await api.place.count("arrival", "ae = 'default/us1'") == 1
    assert await api.place.count("study", "source_ae = 'default/ct1'") == 2


async def test_a_file_that_is_gone_leaves_its_object_nobodys(api: API) -> None:
    await lose(api, dicom.mr(dicom.Instance(study="lost")))
    (node,) = (await api.ask(FOUND))["quarantinedObjects"]["nodes"]
    key = await api.db.fetch_value("SELECT blob_key FROM arrival WHERE ae = 'unknown/unknown'")
    (api.place.root / "blobs" / str(key)).unlink()
    assert (await released(api, ids=[node["id"]], sentBy="default/us1"))["changedCount"] == 1
    await by_workers(api)
    (row,) = (await api.ask(FOUND))["quarantinedObjects"]["nodes"]
    assert (row["id"], row["sourceAe"]) == (node["id"], "unknown/unknown")


async def test_many_are_dismissed_by_a_filter_once(found: API) -> None:
    listed = "{ quarantinedObjects { nodes { id } } }"

    async def dismiss(**wish: object) -> dict[str, Any]:
        answer: dict[str, Any] = (await found.ask(DISMISS, i=wish))["dismissQuarantined"]
        return answer

    wish = {"search": "fsck", "expectedCount": 3, "idempotencyKey": "k"}
    done = [await dismiss(**wish) for _ in range(2)]
    assert done[0] == done[1]
    assert done[0]["changedCount"] == 3
    assert (await found.ask(listed))["quarantinedObjects"]["nodes"] == []
    assert len(await found.audit()) == 1
