"""The box and the filter over destinations, close units, conflicts, quarantined objects and AEs."""

from __future__ import annotations

import json
from typing import Any

from aegate_core.dicom.text import search_text
from aegate_core.resources.values import ImageRoute, Level, Metadata, PatientPartition
from tests import sentinel
from tests.dicom import uid
from tests.integration.api.clients import API, BEFORE
from tests.integration.intake.hospital import HOSPITAL, entity, key, route


async def found(
    api: API, field: str, kind: str, shown: str, *, asked: str = "", **variables: Any
) -> list[str]:
    query = (
        f"query($s: String, $w: {kind}) {{ {field}(search: $s, where: $w{asked}) {{ nodes {{ {shown} }} }} }}"
    )
    return sorted(str(n[shown]) for n in (await api.ask(query, **variables))[field]["nodes"])


async def test_destinations(api: API) -> None:
    await api.db.execute(
        "UPDATE destination SET breaker = 'OPEN', held_at = $1 WHERE ae = 'default/ws1'", BEFORE
    )

    async def names(**variables: Any) -> list[str]:
        return await found(api, "destinations", "DestinationWhere", "ae", **variables)

    assert await names(s="PACS") == ["default/pacs"]
    assert await names(s="ae:ws*") == ["default/ws1"]
    assert await names(s="nobody") == []
    assert await names(w={"breaker": {"eq": "OPEN"}}) == ["default/ws1"]
    assert await names(w={"heldAt": {"isNull": False}}) == ["default/ws1"]
    assert await names(w={"ae": {"matches": "default/*1"}}) == ["default/ct1", "default/us1", "default/ws1"]


async def test_close_units(api: API) -> None:
    async def sources(**variables: Any) -> list[str]:
        return await found(api, "closeUnits", "CloseUnitWhere", "sourceAe", **variables)

    assert await sources(s="quillonia") == ["default/ct1", "default/us1"]
    assert await sources(s="ae:us1") == ["default/us1"]
    assert await sources(s=f"study:{uid('one')}") == ["default/ct1"]
    assert await sources(s=uid("one")) == ["default/ct1"]
    assert await sources(w={"outcome": {"eq": "NO_ROUTE"}}) == []
    assert await sources(w={"patientName": {"contains": "QUILL"}, "sourceAe": {"eq": "default/ct1"}}) == [
        "default/ct1"
    ]
    assert await sources(w={"closedAt": {"isNull": True}}) == []


async def test_conflicts_and_quarantined_objects(api: API) -> None:
    study = int(await api.db.fetch_value("SELECT id FROM study WHERE study_instance_uid = $1", uid("one")))
    await api.db.execute(
        "INSERT INTO conflict (kind, arrival_id, other_arrival_id, study_id, created_at) "
        "VALUES ('PATIENT_MISMATCH', 'a1', '', $1, $2)",
        study,
        BEFORE,
    )
    for ae in ("default/ct1", "default/us1"):
        await api.db.execute(
            "INSERT INTO quarantined_object (arrival_id, ae, reason, size_bytes, received_at, created_at) "
            "VALUES ($1, $1, 'no DICOM prefix', 1, $2, $2)",
            ae,
            BEFORE,
        )

    async def kinds(**variables: Any) -> list[str]:
        return await found(api, "conflicts", "ConflictWhere", "kind", **variables)

    async def kept(**variables: Any) -> list[str]:
        return await found(api, "quarantinedObjects", "QuarantinedObjectWhere", "sourceAe", **variables)

    assert await kinds(s="quillonia") == await kinds(s=f"id:{sentinel.PATIENT_ID}") == ["PATIENT_MISMATCH"]
    assert await kinds(s="nobody") == []
    assert await kinds(w={"kind": {"eq": "SAME_UID_OTHER_CONTENT"}}) == []
    assert await kinds(w={"resolvedAt": {"isNull": True}}) == ["PATIENT_MISMATCH"]
    assert await kept(s="prefix") == ["default/ct1", "default/us1"]
    assert await kept(s="us1") == await kept(w={"sourceAe": {"startsWith": "default/u"}}) == ["default/us1"]
    assert await kept(w={"receivedAt": {"range": {"to": "2000-01-01T00:00:00Z"}}}) == []


async def test_queue_items_in_each_order(api: API) -> None:
    query = "query($o: QueueOrder!) { queueItems(orderBy: $o) { nodes { destinationAe } } }"

    async def order(name: str) -> list[str]:
        return [n["destinationAe"] for n in (await api.ask(query, o=name))["queueItems"]["nodes"]]

    await api.db.execute("UPDATE delivery SET rank = CASE WHEN source_ae = 'default/ct1' THEN -5 ELSE 7 END")
    assert await order("NEXT") == ["default/pacs", "default/ws1"]
    assert await order("LAST_FINISHED") == []
    await api.db.execute(
        "UPDATE delivery SET state = 'COMPLETED', finished_at = $1 WHERE source_ae = 'default/us1'", BEFORE
    )
    assert await order("NEXT") == ["default/pacs"]
    assert await order("LAST_FINISHED") == ["default/ws1"]


async def test_an_index_of_words_follows_what_is_known(api: API) -> None:
    query = "query($s: String!) { studies(search: $s) { totalCount { value } } }"

    async def count(search: str) -> int:
        return int((await api.ask(query, s=search))["studies"]["totalCount"]["value"])

    assert (await count("quillonia"), await count("newname")) == (2, 0)
    await api.db.execute(
        "UPDATE study SET search_text = $1 WHERE source_ae = 'default/ct1'", search_text("Newname^Ann")
    )
    assert (await count("quillonia"), await count("newname")) == (1, 1)
    study = int(await api.db.fetch_value("SELECT id FROM study WHERE source_ae = 'default/ct1'"))
    for table in ("close_unit", "arrival", "conflict"):
        await api.db.execute(f"DELETE FROM {table} WHERE study_id = $1", study)
    await api.db.execute(
        "DELETE FROM instance WHERE series_id IN (SELECT id FROM series WHERE study_id = $1)", study
    )
    await api.db.execute("DELETE FROM series WHERE study_id = $1", study)
    await api.db.execute("DELETE FROM study WHERE id = $1", study)
    assert (await count("quillonia"), await count("newname")) == (1, 0)


async def names_of(api: API, field: str, where: str) -> list[str]:
    """Return the names of what is found, in the list's order; the count says the same."""
    data = await api.ask(f"{{ {field}(where: {where}) {{ nodes {{ name }} totalCount {{ value }} }} }}")
    assert data[field]["totalCount"]["value"] == len(data[field]["nodes"])
    return [node["name"] for node in data[field]["nodes"]]


ROUTES = (
    route("a", ["pacs", "ws1"], priority=95, level=Level.SERIES, comment="Night 100%"),
    route("b", ["pacs"], enabled=False, priority=5),
    route("c", ["pacs-2"], priority=0, level=Level.IMAGE),
    route("d", ["ws1"]),
)


ROUTES_BY = {
    "{enabled: {eq: false}}": "b",
    "{enabled: {eq: true}}": "acd",
    "{priority: {eq: 95}}": "a",
    "{priority: {in: [0, 5]}}": "bc",
    "{priority: {range: {from: 5}}}": "ab",
    "{priority: {range: {from: 0, to: 9}}}": "bc",
    '{level: {eq: "Series"}}': "a",
    '{level: {in: ["Image", "Series"]}}': "ac",
    "{level: {isNull: true}}": "bd",
    '{to: {eq: "pacs"}}': "ab",
    '{to: {in: ["ws1", "pacs-2"]}}': "acd",
    '{to: {startsWith: "PACS"}}': "abc",
    '{to: {contains: "-"}}': "c",
    '{to: {matches: "ws?"}}': "ad",
    '{to: {eq: "nobody"}}': "",
    '{AND: [{to: {eq: "pacs"}}, {to: {eq: "ws1"}}]}': "a",
    '{OR: [{to: {eq: "ws1"}}, {enabled: {eq: false}}]}': "abd",
    '{comment: {contains: "100%"}}': "a",
    "{comment: {isNull: true}}": "bcd",
}


async def test_routes_by_what_they_do(empty_api: API) -> None:
    await empty_api.place.apply(*(r for r in HOSPITAL if not isinstance(r, ImageRoute)), *ROUTES)
    for where, expected in ROUTES_BY.items():
        assert "".join(await names_of(empty_api, "imageRoutes", where)) == expected, where


ENTITIES_BY = {
    "{enabled: {eq: false}}": "b",
    "{enabled: {eq: true}}": "acd",
    '{ready: {eq: "True"}}': "a",
    '{ready: {in: ["False", "Unknown"]}}': "bc",
    "{ready: {isNull: true}}": "d",
    "{ready: {isNull: false}, enabled: {eq: true}}": "ac",
    '{comment: {contains: "STAIRS"}}': "a",
    '{comment: {eq: "By the stairs"}}': "a",
    "{comment: {isNull: true}}": "bcd",
}


async def test_entities_by_how_they_are(empty_api: API) -> None:
    entities = (entity("a", comment="By the stairs"), entity("b", enabled=False), entity("c"), entity("d"))
    await empty_api.place.apply(*entities)
    for name, status in (("a", "True"), ("b", "False"), ("c", "Unknown"), ("d", None)):
        said = [{"type": "ListenerReady", "status": "False"}]
        said += [{"type": "Ready", "status": status}] if status else []
        await empty_api.db.execute(
            "UPDATE application_entity SET conditions = $2 WHERE name = $1", name, json.dumps(said)
        )
    for where, expected in ENTITIES_BY.items():
        assert "".join(await names_of(empty_api, "applicationEntities", where)) == expected, where


async def test_values_that_no_route_or_entity_has_are_refused(empty_api: API) -> None:
    for field, where in (
        ("imageRoutes", '{to: {eq: "default/pacs"}}'),
        ("imageRoutes", '{level: {eq: "Instance"}}'),
        ("applicationEntities", '{ready: {eq: "true"}}'),
    ):
        error = await empty_api.refused(f"{{ {field}(where: {where}) {{ nodes {{ name }} }} }}")
        assert error["extensions"]["code"] == "BAD_FILTER", where


async def test_routes_and_partitions_by_filter(api: API) -> None:
    issuers = {"house": "HOSPITAL-B", "annex": None}
    houses = (
        PatientPartition(Metadata(key(name)), issuer_of_patient_id=who) for name, who in issuers.items()
    )
    await api.place.apply(*HOSPITAL, *houses)

    async def names(field: str, where: str) -> list[str]:
        return await names_of(api, field, where)

    assert await names("imageRoutes", '{name: {startsWith: "CT-"}}') == ["ct-to-pacs"]
    assert await names("imageRoutes", '{namespace: {eq: "other"}}') == []
    assert await names("imageRoutes", '{OR: [{name: {contains: "ws"}}, {name: {eq: "ct-to-pacs"}}]}') == [
        "ct-to-pacs",
        "us-to-ws",
    ]
    assert await names("partitions", '{issuerOfPatientId: {eq: "HOSPITAL-B"}}') == ["house"]
    assert await names("partitions", "{issuerOfPatientId: {isNull: true}}") == ["annex"]
