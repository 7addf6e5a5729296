"""Series and single images are sent by hand: once for a key, and nothing of what is not there or not whole."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import Caller
from tests.integration.api.clients import API
from tests.integration.api.many_items import as_caller
from tests.integration.api.snapshots import snapshot

SENT = """__typename ... on StudiesSent { count dryRun items { id destinationAe level unitUid instancesTotal priority
  requestedBy sourceAe state sizeBytes } } ... on Problem { code message }"""
FIELDS = {
    "sendStudies": ("studyIds", "SendStudiesInput"),
    "sendSeries": ("seriesIds", "SendSeriesInput"),
    "sendInstances": ("instanceIds", "SendInstancesInput"),
}


async def send(api: API, field: str, ids: list[str], to: list[str], **more: object) -> dict[str, Any]:
    named, kind = FIELDS[field]
    wish = {named: ids, "destinationIds": to, "idempotencyKey": "k", **more}
    data = await api.ask(f"mutation($i: {kind}!) {{ {field}(input: $i) {{ {SENT} }} }}", i=wish)
    answer: dict[str, Any] = data[field]
    return answer


async def there(api: API) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the CT series with its images, and the destinations by name."""
    data = await api.ask(
        """{ studies(search: "modality:CT") { nodes { id series { id seriesInstanceUid instances { nodes { id
             sopInstanceUid } } } } } destinations { nodes { id ae } } }"""
    )
    (study,) = data["studies"]["nodes"]
    return study, {d["ae"].removeprefix("default/"): d["id"] for d in data["destinations"]["nodes"]}


async def test_a_series_and_single_images_are_sent(api: API) -> None:
    study, to = await there(api)
    (series,) = study["series"]
    images = series["instances"]["nodes"]
    sent = await send(api, "sendSeries", [series["id"]], [to["ws1"]], priority=80)
    assert [
        (i["level"], i["unitUid"], i["instancesTotal"], i["priority"], i["requestedBy"])
        for i in sent["items"]
    ] == [("Series", series["seriesInstanceUid"], 3, 80, "person:both")]
    two = await send(api, "sendInstances", [i["id"] for i in images[:2]], [to["ws1"], to["pacs"]])
    assert (two["count"], {i["level"] for i in two["items"]}) == (4, {"Image"})
    assert {i["unitUid"] for i in two["items"]} == {i["sopInstanceUid"] for i in images[:2]}
    covered = await api.db.fetch(
        "SELECT d.id, count(*) AS n FROM delivery d JOIN delivery_instance i ON i.delivery_id = d.id "
        "WHERE d.level = 'Image' AND d.requested_by = 'person:both' GROUP BY d.id"
    )
    assert [r["n"] for r in covered] == [1, 1, 1, 1]
    audit = await api.audit()
    assert [(a["actor"], a["action"]) for a in audit] == [("both", "sendSeries"), ("both", "sendInstances")]
    assert json.loads(audit[1]["detail"])["destinations"] == ["default/ws1", "default/pacs"]


@pytest.mark.parametrize("field", ["sendSeries", "sendInstances"])
async def test_one_key_sends_once_also_when_two_ask_at_once(api: API, field: str) -> None:
    study, to = await there(api)
    (series,) = study["series"]
    ids = [series["id"]] if field == "sendSeries" else [i["id"] for i in series["instances"]["nodes"]]
    before = await snapshot(api.db)
    dry = await send(api, field, ids, [to["ws1"]], dryRun=True)
    assert (dry["count"], dry["dryRun"], dry["items"]) == (len(ids), True, [])
    assert await snapshot(api.db) == before
    one, two = await asyncio.gather(*(send(api, field, ids, [to["ws1"]]) for _ in range(2)))
    assert one == two
    assert one["count"] == len(ids)
    assert (await send(api, field, ids, [to["ws1"]]))["items"] == one["items"]
    assert await api.place.count("delivery") == 2 + len(ids)


async def test_what_is_not_there_or_not_whole_is_not_sent(api: API) -> None:
    study, to = await there(api)
    (series,) = study["series"]
    image = series["instances"]["nodes"][0]["id"]
    removed = datetime.now(UTC)
    await api.db.execute("UPDATE arrival SET removed_at = $1 WHERE ae = 'default/ct1'", removed)
    before = await snapshot(api.db)
    stranger = Caller(
        "eve", frozenset({Permission.TOKEN, Permission.DICOM_QUEUE}), partitions=frozenset({"b/b"})
    )
    other = as_caller(api, stranger)
    for field, ids, code in (
        ("sendSeries", [series["id"]], "NOT_FOUND"),
        ("sendInstances", [image], "NOT_FOUND"),
        ("sendSeries", [image], "NOT_FOUND"),
        ("sendSeries", ["U2VyaWVzOjk5OTk"], "NOT_FOUND"),
        ("sendInstances", [], "INVALID_VALUE"),
        ("sendInstances", [image] * 4_901, "INVALID_VALUE"),
    ):
        assert (await send(api, field, ids, [to["ws1"]]))["code"] == code
    async with other.client:
        for field, ids in (
            ("sendStudies", [study["id"]]),
            ("sendSeries", [series["id"]]),
            ("sendInstances", [image]),
        ):
            assert (await send(other, field, ids, [to["ws1"]]))["code"] == "NOT_FOUND"
    for more in ({"priority": 101}, {"priority": -1}, {"idempotencyKey": ""}):
        assert (await send(api, "sendInstances", [image], [to["ws1"]], **more))["code"] == "INVALID_VALUE"
    nowhere = await send(api, "sendInstances", [image], ["RGVzdGluYXRpb246ZGVmYXVsdC9ub2JvZHk"])
    assert nowhere["code"] == "NOT_FOUND"
    assert await snapshot(api.db) == before
