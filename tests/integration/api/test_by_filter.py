"""Series and images that a filter finds are sent; items, units and conflicts are chosen by their study or receiver."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests import dicom
from tests.integration.api.clients import API, BEFORE
from tests.integration.api.many_items import as_caller
from tests.integration.api.snapshots import snapshot
from tests.integration.api.test_many import HOSPITAL_WITH_WS, STARTED, STRANGER, ended

SEND = {
    field: f"mutation($i: {field[0].upper()}{field[1:]}Input!) {{ sent: {field}(input: $i) {{ {STARTED} "
    "... on StudiesSent { count dryRun items { id } } } }"
    for field in ("sendSeries", "sendInstances")
}
HOLD = f"""mutation($s: QueueItemSelection!, $g: ChangeGuard) {{
  done: holdQueueItems(selection: $s, guard: $g) {{ {STARTED}
  ... on QueueItemsChanged {{ matched changedCount changed {{ destinationAe }} }} }} }}"""
MANY = f"""{{ ... on SelectionCounted {{ matched }} {STARTED} }}"""


async def there(api: API) -> tuple[dict[str, str], dict[str, str]]:
    """Return the ids of studies by the AE that sent them, and of destinations by name."""
    data = await api.ask("{ studies { nodes { id sourceAe } } destinations { nodes { id ae } } }")
    return (
        {s["sourceAe"].removeprefix("default/"): s["id"] for s in data["studies"]["nodes"]},
        {d["ae"].removeprefix("default/"): d["id"] for d in data["destinations"]["nodes"]},
    )


@pytest.mark.parametrize(
    ("field", "wish", "count", "level"),
    [
        ("sendSeries", {"where": {"modality": {"eq": "CT"}}}, 1, "Series"),
        ("sendSeries", {"search": "modality:us"}, 1, "Series"),
        (
            "sendSeries",
            {"search": "quillonia ae:ct1", "where": {"instanceCount": {"range": {"from": 3}}}},
            1,
            "Series",
        ),
        (
            "sendInstances",
            {"where": {"modality": {"eq": "CT"}, "instanceNumber": {"in": ["1", "3"]}}},
            2,
            "Image",
        ),
        ("sendInstances", {"search": "ae:us1"}, 1, "Image"),
        ("sendInstances", {"where": {"sopInstanceUid": {"eq": dicom.uid("one/series 1/2")}}}, 1, "Image"),
    ],
)
async def test_what_a_filter_finds_is_sent_once(
    api: API, field: str, wish: dict[str, object], count: int, level: str
) -> None:
    _, to = await there(api)

    async def send(who: API = api, **more: object) -> dict[str, Any]:
        given = {"destinationIds": [to["ws1"], to["pacs"]], "idempotencyKey": "k", **wish, **more}
        answer: dict[str, Any] = (await who.ask(SEND[field], i=given))["sent"]
        return answer

    before = await snapshot(api.db)
    assert (await send(dryRun=True)) == {
        "__typename": "StudiesSent",
        "count": 2 * count,
        "dryRun": True,
        "items": [],
    }
    assert (
        "input"
        in (await send(seriesIds=[]) if field == "sendSeries" else await send(instanceIds=[]))["message"]
    )
    assert "guard.expectedCount" in (await send())["message"]
    refused = await send(expectedCount=count + 1)
    assert (refused["code"], refused["actualCount"]) == ("CONFLICT", count)
    other = as_caller(api, STRANGER)
    async with other.client:
        assert (await send(other, expectedCount=count))["code"] == "NOT_FOUND"
    assert await snapshot(api.db) == before

    started = [await send(expectedCount=count) for _ in range(2)]
    assert started[0] == started[1]
    done = await ended(api, started[0]["operation"]["id"])
    assert (done["state"], done["changedCount"]) == ("COMPLETED", count)
    rows = await api.db.fetch(
        "SELECT level, count(*) AS n FROM delivery WHERE requested_by = 'person:both' GROUP BY level"
    )
    assert [(r["level"], r["n"]) for r in rows] == [(level, 2 * count)]
    assert [a["action"] for a in await api.audit()] == [field] * 2


@pytest.mark.parametrize(
    ("field", "kind", "count"), [("sendSeries", "SeriesWhere", 2), ("sendInstances", "InstanceWhere", 4)]
)
async def test_every_field_of_the_filter_is_one_that_the_list_knows(
    api: API, field: str, kind: str, count: int
) -> None:
    shape = await api.ask(f'{{ __type(name: "{kind}") {{ inputFields {{ name type {{ name }} }} }} }}')
    kinds = {f["name"]: f["type"]["name"] for f in shape["__type"]["inputFields"]}
    some = {
        "TextFilter": {"isNull": False},
        "TimeFilter": {"isNull": False},
        "NumberFilter": {"range": {"from": 1}},
    }
    each = [{name: some[type]} for name, type in kinds.items() if type in some]
    assert {name for name, type in kinds.items() if type not in some} == {"AND", "OR"}
    _, to = await there(api)
    found = {"destinationIds": [to["ws1"]], "idempotencyKey": "k", "dryRun": True, "where": {"OR": each}}
    assert (await api.ask(SEND[field], i=found))["sent"]["count"] == count


async def test_ids_may_have_their_count_checked_as_well(api: API) -> None:
    data = await api.ask("{ studies { nodes { series { id } } } destinations { nodes { id } } }")
    ids = [series["id"] for study in data["studies"]["nodes"] for series in study["series"]]
    wish = {
        "destinationIds": [data["destinations"]["nodes"][0]["id"]],
        "idempotencyKey": "k",
        "seriesIds": ids,
    }
    before = await snapshot(api.db)
    refused = (await api.ask(SEND["sendSeries"], i={**wish, "expectedCount": 3}))["sent"]
    assert (refused["code"], refused["actualCount"]) == ("CONFLICT", 2)
    assert await snapshot(api.db) == before
    assert (await api.ask(SEND["sendSeries"], i={**wish, "expectedCount": 2}))["sent"]["count"] == 2


async def test_items_are_chosen_by_where_they_go(api: API) -> None:
    studies, to = await there(api)
    await api.db.execute("UPDATE delivery SET state = 'COMPLETED' WHERE source_ae = 'default/us1'")
    before = await snapshot(api.db)

    async def hold(selection: dict[str, object], **guard: object) -> dict[str, Any]:
        answer: dict[str, Any] = (await api.ask(HOLD, s=selection, g=guard))["done"]
        return answer

    alone = {"destinationIds": [to["pacs"], to["ws1"]]}
    assert "guard.expectedCount" in (await hold(alone))["message"]
    assert (await hold(alone, dryRun=True))["matched"] == 1
    assert (await hold(alone, expectedCount=2))["actualCount"] == 1
    other = {"studyIds": [studies["ct1"]], "destinationIds": [to["ws1"]]}
    assert (await hold(other))["code"] == "INVALID_VALUE"
    for wrong in ({"destinationIds": ["x"]}, {**alone, "where": {}}, {**alone, "ids": []}):
        assert (await hold(wrong, dryRun=True))["code"] in ("INVALID_VALUE", "NOT_FOUND")
    assert await snapshot(api.db) == before
    held = await hold({"studyIds": [studies["ct1"]], "destinationIds": [to["pacs"]]})
    assert [item["destinationAe"] for item in held["changed"]] == ["default/pacs"]
    assert (await hold(alone, expectedCount=1))["changedCount"] == 0


async def test_units_and_conflicts_are_chosen_by_their_study(api: API) -> None:
    changed = dicom.ct(dicom.Instance(study="one", number=1))
    changed.SeriesDescription = "made anew"
    api.place.receive(changed, "ct1", BEFORE + timedelta(minutes=40))
    await api.place.index(BEFORE + timedelta(minutes=40))
    await api.db.execute("UPDATE close_unit SET due_at = NULL")
    studies, _ = await there(api)
    await api.place.apply(*HOSPITAL_WITH_WS)
    reroute = (
        "mutation($s: CloseUnitSelection!, $g: ChangeGuard) { done: rerouteUnits(selection: $s, guard: $g) "
        f"{MANY} }}"
    )
    resolve = (
        "mutation($s: ConflictSelection!, $g: ChangeGuard) { done: resolveConflicts(selection: $s, "
        f"resolution: KEEP_NEWER, guard: $g) {MANY} }}"
    )
    found = await api.ask("{ closeUnits { nodes { id } } conflicts { nodes { id } } }")
    for change, count, kind in ((reroute, 1, "closeUnits"), (resolve, 1, "conflicts")):
        ids = {"ids": [found[kind]["nodes"][0]["id"]]}
        before = await snapshot(api.db)
        counted = (await api.ask(change, s={"studyIds": [studies["ct1"]]}, g={"dryRun": True}))["done"]
        assert counted["matched"] == count
        for wrong in (
            {"studyIds": [studies["ct1"]], "where": {}},
            {"studyIds": [studies["ct1"]], "search": "quillonia"},
            {"studyIds": [studies["ct1"]], "ids": []},
            {"studyIds": [studies["ct1"]], **ids},
            {"where": {}, **ids},
            {"search": "quillonia", **ids},
            {"studyIds": ["x"]},
            {"studyIds": []},
        ):
            assert (await api.ask(change, s=wrong))["done"]["code"] in ("INVALID_VALUE", "NOT_FOUND")
        assert await snapshot(api.db) == before
        started = (await api.ask(change, s={"studyIds": [studies["ct1"]]}))["done"]
        assert (await ended(api, started["operation"]["id"]))["changedCount"] == count
    nothing = (await api.ask(resolve, s={"studyIds": [studies["us1"]]}))["done"]
    assert nothing["code"] == "INVALID_VALUE"
