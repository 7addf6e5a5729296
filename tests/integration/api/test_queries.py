"""Tests of queries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests import sentinel
from tests.dicom import ct_study, uid
from tests.integration.api.clients import API, BEFORE
from tests.integration.intake.hospital import HOSPITAL


async def test_viewer_knows_its_permissions(api: API) -> None:
    data = await api.ask("{ viewer { name permissions expiresAt } }", token=api.queue)
    assert data["viewer"] == {"name": "queue-only", "permissions": ["DICOM_QUEUE"], "expiresAt": None}


async def test_resources_are_listed_by_name(api: API) -> None:
    data = await api.ask(
        """{ applicationEntities { nodes { id name title node port ability routeLevel enabled spec
               conditions { type status reason } } totalCount { value precision } }
             imageRoutes { nodes { name to enabled conditions { type status } } }
             partitions { nodes { name } } }"""
    )
    entities = data["applicationEntities"]["nodes"]
    assert [e["name"] for e in entities] == ["ct1", "pacs", "us1", "ws1"]
    assert (entities[0]["title"], entities[0]["port"], entities[2]["routeLevel"]) == ("CT1", 104, "Image")
    assert {c["type"] for c in entities[0]["conditions"]} >= {"Accepted", "Ready"}
    assert data["applicationEntities"]["totalCount"] == {"value": 4, "precision": "EXACT"}
    assert [(r["name"], r["to"]) for r in data["imageRoutes"]["nodes"]] == [
        ("ct-to-pacs", ["pacs"]),
        ("us-to-ws", ["ws1"]),
    ]
    assert data["partitions"]["nodes"] == []


async def test_entities_are_searched_and_filtered(api: API) -> None:
    query = """query($s: String, $w: ApplicationEntityWhere) {
        applicationEntities(search: $s, where: $w) { nodes { name } } }"""

    async def names(**variables: object) -> list[str]:
        return [n["name"] for n in (await api.ask(query, **variables))["applicationEntities"]["nodes"]]

    assert await names(s="PACS") == ["pacs"]
    assert await names(s="title:U") == ["us1"]
    assert await names(w={"OR": [{"name": {"eq": "ct1"}}, {"title": {"startsWith": "ws"}}]}) == ["ct1", "ws1"]
    assert await names(w={"port": {"range": {"from": 105}}}) == []


async def test_study_with_series_and_instances(api: API) -> None:
    data = await api.ask(
        """{ studies(search: "quillonia", where: {modality: {eq: "CT"}}) { nodes {
               studyInstanceUid accessionNumber modalities instanceCount sizeBytes sourceAe
               patient { name patientId birthDate identified }
               closeUnits { sourceAe outcome closedAt }
               series { modality instanceCount instances(first: 2) {
                   nodes { sopInstanceUid transferSyntaxUid sha256 sourceAe } pageInfo { hasNextPage }
                   totalCount { value } } } } } }"""
    )
    (study,) = data["studies"]["nodes"]
    assert study["studyInstanceUid"] == uid("one")
    assert study["modalities"] == ["CT"]
    assert (study["instanceCount"], study["sourceAe"]) == (3, "default/ct1")
    assert study["patient"]["name"] == sentinel.PATIENT_NAME
    assert [u["outcome"] for u in study["closeUnits"]] == ["ROUTED"]
    (series,) = study["series"]
    assert series["instances"]["totalCount"]["value"] == 3
    assert series["instances"]["pageInfo"]["hasNextPage"] is True
    page = {i["sopInstanceUid"] for i in series["instances"]["nodes"]}
    assert len(page) == 2
    assert page < {str(ds.SOPInstanceUID) for ds in ct_study("one", 3)}


async def test_studies_are_found_by_each_field(api: API) -> None:
    query = "query($s: String) { studies(search: $s) { nodes { modalities } } }"
    for search, found in (
        ("patient:zzsentinel", 2),
        (f"id:{sentinel.PATIENT_ID.lower()}", 2),
        (f"accession:{sentinel.ACCESSION_NUMBER}", 2),
        (f"study:{uid('one')}", 1),
        ("modality:US", 1),
        ("ae:ct1", 1),
        ("ct1 quillonia", 1),
        ("ae:nobody", 0),
        ("quillonia nothing-like-this", 0),
    ):
        data = await api.ask(query, s=search)
        assert len(data["studies"]["nodes"]) == found, search


async def test_a_name_is_compared_whole_or_in_parts(api: API) -> None:
    await api.db.execute(
        "UPDATE study SET description = 'Übersicht Knie', search_text = search_text || ' ubersicht knie' "
        "WHERE source_ae = 'default/ct1'"
    )
    studies = "query($w: StudyWhere) { studies(where: $w) { nodes { modalities } } }"
    items = "query($w: QueueItemWhere) { queueItems(where: $w) { nodes { state } } }"
    name = sentinel.PATIENT_NAME
    for comparison, found in (
        ({"eq": name}, 2),
        ({"in": ["Nobody", name]}, 2),
        ({"in": ["Nobody"]}, 0),
        ({"startsWith": "zzsentinel qu"}, 2),
        ({"startsWith": "Quillonia"}, 0),
        ({"contains": "QUILLONIA"}, 2),
        ({"contains": sentinel.PATIENT_ID}, 0),
        ({"range": {"from": "Zz", "to": "Zzt"}}, 2),
        ({"isNull": True}, 0),
        ({"isNull": False}, 2),
    ):
        data = await api.ask(studies, w={"patientName": comparison})
        assert len(data["studies"]["nodes"]) == found, comparison
        data = await api.ask(items, w={"patientName": comparison})
        assert len(data["queueItems"]["nodes"]) == found, comparison
    for part in ({"contains": "Übersicht"}, {"startsWith": "Übersicht K"}, {"contains": "bersicht KNIE"}):
        data = await api.ask(studies, w={"description": part})
        assert len(data["studies"]["nodes"]) == 1, part


async def test_queue_items_say_why_they_wait(api: API) -> None:
    data = await api.ask(
        """{ queueItems(orderBy: OLDEST) { nodes { state destinationAe level instancesTotal requestedBy version
               whyNotMoving { code text nextStep }
               study { studyInstanceUid } destination { ae maxConnections slots { n } waiting { state count } }
               instances { nodes { sopInstanceUid state status statusHex } totalCount { value } }
               history { nodes { fromState toState actor } } } totalCount { value precision } } }"""
    )
    by_destination = {item["destinationAe"]: item for item in data["queueItems"]["nodes"]}
    assert set(by_destination) == {"default/pacs", "default/ws1"}
    item = by_destination["default/pacs"]
    assert (item["state"], item["level"], item["instancesTotal"]) == ("SCHEDULED", "Study", 3)
    assert item["requestedBy"] == "route:default/ct-to-pacs"
    assert item["whyNotMoving"]["code"] == "NO_WORKER"
    assert item["study"]["studyInstanceUid"] == uid("one")
    assert item["destination"] == {
        "ae": "default/pacs",
        "maxConnections": 4,
        "slots": [],
        "waiting": [{"state": "SCHEDULED", "count": 1}],
    }
    assert item["instances"]["totalCount"]["value"] == 3
    assert {i["state"] for i in item["instances"]["nodes"]} == {"PENDING"}
    assert item["history"]["nodes"][-1]["toState"] == "SCHEDULED"
    assert data["queueItems"]["totalCount"] == {"value": 2, "precision": "EXACT"}


async def test_what_is_not_complete_yet_says_until_when_it_waits(api: API) -> None:
    now = datetime.now(UTC)
    api.place.receive_all(ct_study("late", 2), "ct1", now)
    await api.place.index(now)
    query = """query($uid: String) { studies(where: {studyInstanceUid: {eq: $uid}}) { nodes { closeUnits {
        id dueAt outcome whyNotMoving { code text nextStep until } } } } }"""
    (study,) = (await api.ask(query, uid=uid("late")))["studies"]["nodes"]
    (unit,) = study["closeUnits"]
    assert (unit["outcome"], unit["whyNotMoving"]["code"]) == (None, "WAITING_FOR_COMPLETE")
    assert unit["whyNotMoving"]["until"] == unit["dueAt"]
    assert unit["whyNotMoving"]["text"].startswith("waits for more images until")
    node = "query($id: ID!) { node(id: $id) { ... on CloseUnit { whyNotMoving { until } } } }"
    assert (await api.ask(node, id=unit["id"]))["node"]["whyNotMoving"] == {"until": unit["dueAt"]}
    listed = await api.ask("{ closeUnits(open: true) { nodes { id study { studyInstanceUid } } } }")
    assert listed["closeUnits"]["nodes"] == [{"id": unit["id"], "study": {"studyInstanceUid": uid("late")}}]
    (closed,) = (await api.ask(query, uid=uid("one")))["studies"]["nodes"]
    assert [(u["outcome"], u["whyNotMoving"]) for u in closed["closeUnits"]] == [("ROUTED", None)]


async def test_queue_items_are_searched_and_filtered(api: API) -> None:
    query = "query($s: String, $w: QueueItemWhere) { queueItems(search: $s, where: $w) { nodes { destinationAe } } }"

    async def found(**variables: object) -> list[str]:
        return sorted(n["destinationAe"] for n in (await api.ask(query, **variables))["queueItems"]["nodes"])

    assert await found(s="quillonia") == ["default/pacs", "default/ws1"]
    assert await found(s="to:pacs") == ["default/pacs"]
    assert await found(s="from:us1") == ["default/ws1"]
    assert await found(s="route:ct-to") == ["default/pacs"]
    assert await found(s="ct-to-pacs") == ["default/pacs"]
    assert await found(s="from:pacs") == []
    assert await found(w={"state": {"in": ["SCHEDULED"]}, "patientName": {"contains": "QUILL"}}) == [
        "default/pacs",
        "default/ws1",
    ]
    assert await found(w={"state": {"eq": "FAILED"}}) == []
    assert await found(w={"priority": {"range": {"from": 60}}}) == ["default/pacs"]
    assert await found(w={"createdAt": {"range": {"from": "2200-01-01T00:00:00Z"}}}) == []


async def test_destinations_with_their_entity(api: API) -> None:
    data = await api.ask("{ destinations { nodes { ae breaker heldAt applicationEntity { title } } } }")
    assert [
        (d["ae"], d["breaker"], d["applicationEntity"]["title"]) for d in data["destinations"]["nodes"]
    ] == [
        ("default/ct1", "CLOSED", "CT1"),
        ("default/pacs", "CLOSED", "PACS"),
        ("default/us1", "CLOSED", "US1"),
        ("default/ws1", "CLOSED", "WS1"),
    ]


async def test_dashboard_counts_and_puts_trouble_first(api: API) -> None:
    await api.db.execute(
        "UPDATE destination SET breaker = 'OPEN', last_error = 'connection refused' WHERE ae = 'default/ws1'"
    )
    await api.db.execute("UPDATE close_unit SET outcome = 'NO_ROUTE' WHERE ae = 'default/us1'")
    data = await api.ask(
        """{ dashboard { trouble { kind ae count text } counts { state count }
               byDestination { name counts { state count } } bySource { name } byRoute { name } byLocation { name }
               noRoute openConflicts quarantined failed unclosedUnits unindexed arriving { sourceAe } oldest } }"""
    )
    dashboard = data["dashboard"]
    assert [t["kind"] for t in dashboard["trouble"]][:1] == ["DESTINATION_DOWN"]
    assert dashboard["trouble"][0]["text"] == "OPEN: connection refused"
    assert dashboard["counts"] == [{"state": "SCHEDULED", "count": 2}]
    assert [c["name"] for c in dashboard["byDestination"]] == ["default/pacs", "default/ws1"]
    assert [c["name"] for c in dashboard["bySource"]] == ["default/ct1", "default/us1"]
    assert [c["name"] for c in dashboard["byRoute"]] == ["default/ct-to-pacs", "default/us-to-ws"]
    assert dashboard["unindexed"] == 0
    assert dashboard["failed"] == 0
    assert dashboard["oldest"] is not None


async def test_dashboard_counts_the_day_of_a_time_zone(api: API) -> None:
    query = "query($zone: String!) { dashboard(timeZone: $zone) { finishedSince counts { state count } sentLastHour } }"
    now = datetime.now(UTC)
    began = {}
    for zone, hours in (("Etc/GMT+12", -12), ("UTC", 0), ("Etc/GMT-14", 14)):
        away = timedelta(hours=hours)
        began[zone] = (now + away).replace(hour=0, minute=0, second=0, microsecond=0) - away
    ids = [int(r["id"]) for r in await api.db.fetch("SELECT id FROM delivery ORDER BY id")]
    finished = "UPDATE delivery SET state = 'COMPLETED', finished_at = $2 WHERE id = $1"
    await api.db.execute(finished, ids[0], min(began.values()))
    await api.db.execute(finished, ids[1], now - timedelta(minutes=5))
    for zone, since in began.items():
        found = (await api.ask(query, zone=zone))["dashboard"]
        assert datetime.fromisoformat(found["finishedSince"]) == since
        times = (min(began.values()), (now - timedelta(minutes=5)).replace(second=0))
        expected = sum(at >= since for at in times)
        assert found["counts"] == [{"state": "COMPLETED", "count": expected}]
        assert found["sentLastHour"] == sum(now - at < timedelta(hours=1) for at in times)
    assert (await api.refused(query, zone="Europe"))["extensions"]["code"] == "INVALID_VALUE"


async def test_a_category_of_the_dashboard_lists_what_it_counts(api: API) -> None:
    await api.db.execute(
        "UPDATE delivery SET location_code = 'ER', state = 'FAILED' WHERE source_ae = 'default/us1'"
    )
    kinds = ("byDestination", "bySource", "byLocation", "byRoute", "byPartition")
    asked = " ".join(f"{kind} {{ name where counts {{ state count }} oldest }}" for kind in kinds)
    board = (await api.ask(f"{{ dashboard {{ {asked} }} }}"))["dashboard"]
    assert [len(board[kind]) for kind in kinds] == [1, 1, 0, 1, 1]  # failed ones are no longer unfinished
    await api.db.execute("UPDATE delivery SET state = 'HELD' WHERE state = 'FAILED'")
    board = (await api.ask(f"{{ dashboard {{ {asked} }} }}"))["dashboard"]
    assert [[c["name"] for c in board[kind]] for kind in kinds] == [
        ["default/ws1", "default/pacs"],  # trouble first
        ["default/us1", "default/ct1"],
        ["ER"],
        ["default/us-to-ws", "default/ct-to-pacs"],
        ["default/default"],
    ]
    items = "query($w: QueueItemWhere) { queueItems(where: $w) { totalCount { value } } }"
    for kind in kinds:
        for category in board[kind]:
            found = (await api.ask(items, w=category["where"]))["queueItems"]["totalCount"]["value"]
            assert found == sum(c["count"] for c in category["counts"]), category


async def test_explain_route_names_every_route(api: API) -> None:
    study = (await api.ask('{ studies(search: "modality:CT") { nodes { id } } }'))["studies"]["nodes"][0][
        "id"
    ]
    data = await api.ask(
        """query($id: ID!) { explainRoute(studyId: $id) { sources { sourceAe level instances
             verdicts { route matches reason level to } deliveries { destination priority routes instances } } } }""",
        id=study,
    )
    (source,) = data["explainRoute"]["sources"]
    assert (source["sourceAe"], source["level"], source["instances"]) == ("default/ct1", "Study", 3)
    assert {v["route"]: v["matches"] for v in source["verdicts"]} == {
        "default/ct-to-pacs": True,
        "default/us-to-ws": False,
    }
    assert source["deliveries"] == [
        {"destination": "default/pacs", "priority": 70, "routes": ["default/ct-to-pacs"], "instances": 3}
    ]


async def test_conflicts_and_quarantined_objects(api: API) -> None:
    api.place.receive(b"this is no DICOM object", "ct1")
    await api.place.index()
    data = await api.ask(
        """{ quarantinedObjects { nodes { id sourceAe reason sizeBytes resolvedAt } totalCount { value } }
             conflicts(resolved: null) { nodes { kind study { id } } } }"""
    )
    (kept,) = data["quarantinedObjects"]["nodes"]
    assert (kept["sourceAe"], kept["sizeBytes"], kept["resolvedAt"]) == ("default/ct1", 23, None)
    assert data["conflicts"]["nodes"] == []
    again = await api.ask("query($id: ID!) { node(id: $id) { id __typename } }", id=kept["id"])
    assert again["node"] == {"id": kept["id"], "__typename": "QuarantinedObject"}


async def test_every_kind_of_node_is_found_by_its_id(api: API) -> None:
    data = await api.ask(
        """{ applicationEntities(first: 1) { nodes { id } } imageRoutes(first: 1) { nodes { id } }
             queueItems(first: 1) { nodes { id study { id closeUnits { id }
                 series { id instances(first: 1) { nodes { id } } } } destination { id } } } }"""
    )
    item = data["queueItems"]["nodes"][0]
    series = item["study"]["series"][0]
    ids = [
        data["applicationEntities"]["nodes"][0]["id"],
        data["imageRoutes"]["nodes"][0]["id"],
        item["id"],
        item["study"]["id"],
        series["id"],
        series["instances"]["nodes"][0]["id"],
        item["destination"]["id"],
        *(u["id"] for u in item["study"]["closeUnits"]),
    ]
    found = (await api.ask("query($ids: [ID!]!) { nodes(ids: $ids) { id __typename } }", ids=ids))["nodes"]
    assert [n["id"] for n in found] == ids
    assert [n["__typename"] for n in found][:7] == [
        "ApplicationEntity",
        "ImageRoute",
        "QueueItem",
        "Study",
        "Series",
        "Instance",
        "Destination",
    ]


async def test_an_ae_that_was_removed_is_a_trouble_while_something_waits_for_it(api: API) -> None:
    asked = "{ dashboard { trouble { kind ae count text } } }"

    async def gone() -> list[dict[str, object]]:
        trouble = (await api.ask(asked))["dashboard"]["trouble"]
        return [t for t in trouble if t["kind"] == "DESTINATION_GONE"]

    await api.place.apply(*(r for r in HOSPITAL if r.key.name != "pacs"))
    assert await gone() == [
        {
            "kind": "DESTINATION_GONE",
            "ae": "default/pacs",
            "count": 1,
            "text": "removed, and items wait for it (1): declare the ApplicationEntity again, or cancel them",
        }
    ]
    await api.db.execute("UPDATE delivery SET state = 'CANCELED', finished_at = $1, hold_code = NULL", BEFORE)
    assert await gone() == []
