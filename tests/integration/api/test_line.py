"""Where an item stands, when it begins, what became of its images in words; and what routes would make of a header."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from aegate_core.database import as_datetime
from aegate_core.dicom.identifiers import parse_resource_key
from aegate_core.resources.values import ElementMatch, ElementOp, RouteFrom
from aegate_core.stores.queue import inquiry
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import Caller
from tests.integration.api.clients import API
from tests.integration.api.many_items import as_caller, copy_item
from tests.integration.api.snapshots import snapshot
from tests.integration.intake.hospital import HOSPITAL, route

LINE = """{ queueItems(search: "to:pacs", orderBy: OLDEST, first: 10) { nodes { state position estimatedStart
  whyNotMoving { code } } } }"""


async def a_worker_lives(api: API) -> None:
    now = datetime.now(UTC)
    await api.db.execute(
        "INSERT INTO worker_state (worker, started_at, seen_at, slots) VALUES ('w', $1, $1, 1)", now
    )


async def line(api: API) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = (await api.ask(LINE))["queueItems"]["nodes"]
    return nodes


async def test_place_and_start_in_line(api: API) -> None:
    await copy_item(api.db, 8)
    assert [(n["position"], n["estimatedStart"]) for n in await line(api)] == [
        (n, None) for n in range(1, 10)
    ]
    await a_worker_lives(api)
    nodes = await line(api)
    assert [n["estimatedStart"] is not None for n in nodes] == [True] * 4 + [False] * 5
    now = datetime.now(UTC)
    await api.db.execute(
        "UPDATE delivery SET state = 'COMPLETED', started_at = $1, finished_at = $2 WHERE dedup_key IN "
        "('copy1', 'copy2', 'copy3')",
        now - timedelta(minutes=5),
        now - timedelta(minutes=1),
    )
    nodes = await line(api)
    assert [n["position"] for n in nodes] == [1, None, None, None, 2, 3, 4, 5, 6]
    fifth, sixth = (as_datetime(n["estimatedStart"]) - now for n in nodes[-2:])
    assert timedelta(seconds=30) <= fifth <= timedelta(seconds=60)
    assert timedelta(seconds=59) < sixth - fifth < timedelta(seconds=91)
    await api.db.execute("UPDATE destination SET held_at = $1 WHERE ae = 'default/pacs'", now)
    assert [n["estimatedStart"] for n in await line(api)] == [None] * 9


async def test_places_beyond_a_thousand_are_not_counted(api: API) -> None:
    await copy_item(api.db, inquiry.COUNTED_IN_LINE + 2)
    query = '{ queueItems(search: "to:pacs", first: 4) { nodes { position } } }'
    await api.db.execute(
        "UPDATE delivery SET created_at = $1 WHERE dedup_key IN ('copy999', 'copy1000', 'copy1001', 'copy1002')",
        datetime.now(UTC),
    )
    found = (await api.ask(query))["queueItems"]["nodes"]
    assert [n["position"] for n in found] == [None, None, None, 1_000]


async def test_what_became_of_an_image_is_told_in_words(api: API) -> None:
    await api.db.execute(
        "UPDATE delivery_instance SET state = 'DEAD', status = $1, error_code = 'STATUS_A900'", 0xA900
    )
    data = await api.ask(
        '{ queueItems(search: "to:ws1") { nodes { instances { nodes { statusHex errorCode explanation } } } } }'
    )
    assert data["queueItems"]["nodes"][0]["instances"]["nodes"] == [
        {
            "statusHex": "0xA900",
            "errorCode": "STATUS_A900",
            "explanation": "the data set does not match its SOP class (PS3.4 B.2.3); sending it again gets the same "
            "answer, so it is given up alone; mend the cause, then retry it",
        }
    ]


EXPLAIN = """query($h: SampleHeaderInput!) { explainRouteOfHeader(header: $h) { sourceAe level instances
  verdicts { route matches reason level to } deliveries { destination priority routes instances } } }"""


async def test_routes_say_what_they_would_make_of_a_header(api: API) -> None:
    contrast = ElementMatch("ContrastBolusAgent", ElementOp.EXISTS)
    await api.place.apply(
        *HOSPITAL, route("contrast", ["ws1"], RouteFrom(modalities=("CT",), elements=(contrast,)))
    )
    before = await snapshot(api.db)
    header: dict[str, Any] = {
        "sourceAe": "default/ct1",
        "attributes": [
            {"keyword": "Modality", "values": ["CT"]},
            {"keyword": "ContrastBolusAgent", "values": ["yes"]},
        ],
    }
    found = (await api.ask(EXPLAIN, h=header))["explainRouteOfHeader"]
    assert {v["route"]: v["matches"] for v in found["verdicts"]} == {
        "default/contrast": True,
        "default/ct-to-pacs": True,
        "default/us-to-ws": False,
    }
    assert [(d["destination"], d["priority"]) for d in found["deliveries"]] == [
        ("default/pacs", 70),
        ("default/ws1", 50),
    ]
    header["attributes"].pop()
    found = (await api.ask(EXPLAIN, h=header))["explainRouteOfHeader"]
    (verdict,) = (v for v in found["verdicts"] if v["route"] == "default/contrast")
    assert (verdict["matches"], verdict["reason"]) == (False, "no image meets ContrastBolusAgent Exists")
    assert [d["destination"] for d in found["deliveries"]] == ["default/pacs"]
    assert await snapshot(api.db) == before


async def test_headers_that_cannot_be_and_senders_that_are_not_there(api: API) -> None:
    before = await snapshot(api.db)
    for ae, keyword, code in (
        ("default/ct1", "Modalty", "INVALID_VALUE"),
        ("default/ct1", "PixelData", "INVALID_VALUE"),
        ("ct1", "Modality", "INVALID_VALUE"),
        ("default/nobody", "Modality", "NOT_FOUND"),
    ):
        header = {"sourceAe": ae, "attributes": [{"keyword": keyword, "values": ["CT"]}]}
        assert (await api.refused(EXPLAIN, h=header))["extensions"]["code"] == code
    assert parse_resource_key("default/ct1").name == "ct1"
    stranger = Caller(
        "eve", frozenset({Permission.TOKEN, Permission.DICOM_QUEUE}), partitions=frozenset({"b/b"})
    )
    other = as_caller(api, stranger)
    async with other.client:
        said = [
            await other.refused(EXPLAIN, h={"sourceAe": ae, "attributes": []})
            for ae in ("default/ct1", "default/nobody")
        ]
    assert said[0] == said[1]
    assert said[0]["extensions"]["code"] == "NOT_FOUND"
    assert (await api.refused(EXPLAIN, token=api.editor, h={"sourceAe": "a/b", "attributes": []}))[
        "extensions"
    ]["code"] == "FORBIDDEN"
    assert await snapshot(api.db) == before
