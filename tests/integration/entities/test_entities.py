"""Configuration in the database: written where it differs, remembered when it is gone, read back whole."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from aegate_core.database import Database, open_database
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.conditions import Condition, ConditionType, Reason, Status, find_condition
from aegate_core.resources.locations import Location
from aegate_core.resources.reference import ResourceRef, ref_of
from aegate_core.resources.values import ApplicationEntity, Resource
from aegate_core.services.entities import Observed, apply_configuration, load_configuration
from aegate_core.services.locations import import_locations
from tests.unit.resources.builders import ae, partition, resource, route

T0 = datetime(2026, 11, 24, 4, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
CT = ResourceKey("default", "ct1")
CT_REF = ResourceRef("ApplicationEntity", CT)
TABLES = ("application_entity", "image_route", "patient_partition", "destination", "slot", "location")


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url) as opened:
        yield opened


def hospital() -> list[Resource]:
    """An AE, where its images go, its partition, and a route."""
    return [
        resource(ae("ct1", patientPartition="p1", comment="Müller's room"), labels={"department": "er"}),
        resource(ae("pacs", maxConnections=3)),
        resource(partition("p1", issuerOfPatientID="I")),
        resource(route("r1", source={"aes": ["ct1"], "elements": [{"keyword": "StudyID", "op": "Exists"}]})),
    ]


async def contents(db: Database) -> dict[str, list[dict[str, object]]]:
    """Every row of the tables concerned."""
    return {table: [dict(r) for r in await db.fetch(f"SELECT * FROM {table} ORDER BY 1")] for table in TABLES}


async def row(db: Database, name: str = "ct1") -> dict[str, object]:
    """The row of an AE."""
    found = await db.fetch_one("SELECT * FROM application_entity WHERE name = $1", name)
    assert found is not None
    return dict(found)


def condition(conditions: tuple[Condition, ...], type: ConditionType = ConditionType.READY) -> Condition:
    """One condition that must be there."""
    found = find_condition(conditions, type)
    assert found is not None
    return found


async def test_what_is_applied_is_read_back(db: Database) -> None:
    applied = await apply_configuration(db, hospital(), now=T0)
    assert {str(ref): change for ref, change in applied.changes.items()} == {
        "ApplicationEntity default/ct1": "created",
        "ApplicationEntity default/pacs": "created",
        "ImageRoute default/r1": "created",
        "PatientPartition default/p1": "created",
    }
    configuration = await load_configuration(db)
    read = [
        *configuration.entities.values(),
        *configuration.partitions.values(),
        *configuration.routes.values(),
    ]
    for wished, found in zip(sorted(hospital(), key=ref_of), sorted(read, key=ref_of), strict=True):
        assert found.metadata.uid
        assert found.metadata.generation == 1
        assert found.metadata.created_at == T0.isoformat()
        assert found.metadata.labels == wished.metadata.labels
        assert type(found)(**_but_metadata(found), metadata=wished.metadata) == wished
    assert configuration.conditions == applied.conditions
    assert configuration.accepted_entities == tuple(configuration.entities.values())


def _but_metadata(value: Resource) -> dict[str, object]:
    names = [name for name in value.__dataclass_fields__ if name != "metadata"]
    return {name: getattr(value, name) for name in names}


async def test_searched_columns_and_destinations_follow(db: Database) -> None:
    await apply_configuration(db, hospital(), now=T0)
    found = await row(db)
    assert (found["title"], found["node"], found["port"], found["ability"]) == (
        "CT1",
        "10.1.2.3",
        104,
        "Push",
    )
    assert (found["partition"], found["location_code"]) == ("default/p1", None)
    assert found["search_text"] == "ct1 ct1 10.1.2.3 muller's room"
    slots = await db.fetch(
        "SELECT d.ae, count(*) AS n FROM destination d JOIN slot s ON s.destination_id = d.id "
        "GROUP BY d.ae ORDER BY d.ae"
    )
    assert [(r["ae"], r["n"]) for r in slots] == [("default/ct1", 4), ("default/pacs", 3)]


async def test_unchanged_apply_writes_nothing(db: Database) -> None:
    await apply_configuration(db, hospital(), now=T0)
    before = await contents(db)
    applied = await apply_configuration(db, hospital(), now=T0 + HOUR)
    assert applied.changes == {}
    assert await contents(db) == before


async def test_changed_spec_counts_the_generation_up(db: Database) -> None:
    await apply_configuration(db, hospital(), now=T0)
    uid = (await row(db))["uid"]
    changed = [resource(ae("ct1", port=11112)), *hospital()[1:]]
    applied = await apply_configuration(db, changed, now=T0 + HOUR)
    assert applied.changes == {CT_REF: "updated"}
    found = await row(db)
    assert (found["uid"], found["generation"], found["port"]) == (uid, 2, 11112)
    ready = condition(applied.conditions[CT_REF])
    assert (ready.observed_generation, ready.last_transition_time) == (2, T0)


async def test_changed_label_keeps_the_generation(db: Database) -> None:
    await apply_configuration(db, hospital(), now=T0)
    same = ae("ct1", patientPartition="p1", comment="Müller's room")
    relabelled = [resource(same, labels={"a": "b"}), *hospital()[1:]]
    applied = await apply_configuration(db, relabelled, now=T0 + HOUR)
    assert applied.changes == {CT_REF: "updated"}
    assert (await row(db))["generation"] == 1


async def test_condition_that_changes_gets_a_new_time(db: Database) -> None:
    await apply_configuration(db, hospital(), now=T0)
    applied = await apply_configuration(db, [r for r in hospital() if r.key.name != "p1"], now=T0 + HOUR)
    assert applied.changes == {
        CT_REF: "observed",
        ResourceRef("PatientPartition", ResourceKey("default", "p1")): "removed",
    }
    ready = condition(applied.conditions[CT_REF])
    assert (ready.status, ready.reason, ready.last_transition_time) == (
        Status.FALSE,
        Reason.PARTITION_NOT_FOUND,
        T0 + HOUR,
    )
    assert condition(applied.conditions[CT_REF], ConditionType.ACCEPTED).last_transition_time == T0


async def test_removed_resource_stays_as_a_tombstone(db: Database) -> None:
    await apply_configuration(db, hospital(), now=T0)
    applied = await apply_configuration(db, hospital()[1:], now=T0 + HOUR)
    assert applied.changes[CT_REF] == "removed"
    assert (await row(db))["deleted_at"] is not None
    configuration = await load_configuration(db)
    assert CT not in configuration.entities
    assert CT_REF not in configuration.conditions
    gone = await db.fetch_one("SELECT gone_at FROM destination WHERE ae = $1", "default/ct1")
    assert gone is not None
    assert gone["gone_at"] is not None


async def test_who_speaks_for_one_namespace_touches_no_other(db: Database) -> None:
    """Two installations share a database, each with namespaces of its own."""
    await apply_configuration(db, hospital(), observed=Observed(namespaces=["default"]), now=T0)
    before = await contents(db)
    manifest = ae("ct1", node="10.9.9.9")
    theirs = resource({**manifest, "metadata": {"namespace": "cardiology", "name": "ct1"}})
    applied = await apply_configuration(
        db, [theirs], observed=Observed(namespaces=["cardiology"]), now=T0 + HOUR
    )
    assert list(applied.changes) == [ResourceRef("ApplicationEntity", ResourceKey("cardiology", "ct1"))]
    applied = await apply_configuration(
        db, [], observed=Observed(namespaces=["cardiology"]), now=T0 + 2 * HOUR
    )
    assert list(applied.changes.values()) == ["removed"]
    after = await contents(db)
    assert {table: [r for r in after[table] if r in rows] for table, rows in before.items()} == before
    gone = await db.fetch("SELECT ae FROM destination WHERE gone_at IS NOT NULL")
    assert [r["ae"] for r in gone] == ["cardiology/ct1"]


async def test_resource_that_comes_back_is_a_new_one_in_the_same_row(db: Database) -> None:
    await apply_configuration(db, hospital(), now=T0)
    first = await row(db)
    await apply_configuration(db, [], now=T0 + HOUR)
    applied = await apply_configuration(db, hospital(), now=T0 + 2 * HOUR)
    again = await row(db)
    assert applied.changes[CT_REF] == "created"
    assert (again["id"], again["generation"], again["deleted_at"]) == (first["id"], 1, None)
    assert again["uid"] != first["uid"]
    assert condition(applied.conditions[CT_REF]).last_transition_time == T0 + 2 * HOUR
    found = (await load_configuration(db)).entities[CT]
    assert found.metadata.created_at == (T0 + 2 * HOUR).isoformat()


async def test_wrong_manifest_keeps_the_last_good_version(db: Database) -> None:
    await apply_configuration(db, hospital(), now=T0)
    errors = {CT_REF: "ct.yaml:4: spec.port: expected at least 1, got 0"}
    applied = await apply_configuration(db, hospital()[1:], source_errors=errors, now=T0 + HOUR)
    assert applied.changes == {CT_REF: "observed"}
    assert (await load_configuration(db)).entities[CT].port == 104
    stalled = condition(applied.conditions[CT_REF], ConditionType.STALLED)
    assert (stalled.status, stalled.reason) == (Status.TRUE, Reason.INVALID)
    assert stalled.message == f"{errors[CT_REF]} (generation 1 stays in force)"
    healed = await apply_configuration(db, hospital(), now=T0 + 2 * HOUR)
    assert find_condition(healed.conditions[CT_REF], ConditionType.STALLED) is None


async def test_error_of_a_resource_that_never_was_changes_nothing(db: Database) -> None:
    applied = await apply_configuration(db, [], source_errors={CT_REF: "wrong"}, now=T0)
    assert applied.changes == {}
    assert (await load_configuration(db)).entities == {}


async def test_resource_of_a_server_keeps_its_uid_and_generation(db: Database) -> None:
    value = ae("ct1")
    value["metadata"] = {"name": "ct1", "generation": 7}
    given = resource(value, uid="from-the-server", created_at="2026-01-31T10:00:00Z")
    applied = await apply_configuration(db, [given], now=T0)
    found = (await load_configuration(db)).entities[CT]
    assert (found.metadata.uid, found.metadata.generation) == ("from-the-server", 7)
    assert condition(applied.conditions[CT_REF]).observed_generation == 7
    assert (await apply_configuration(db, [given], now=T0 + HOUR)).changes == {}


async def test_title_stays_with_the_one_accepted_before(db: Database) -> None:
    old, new = resource(ae("z", title="CT#1")), resource(ae("a", title="ct#1"))
    await apply_configuration(db, [old], now=T0)
    await apply_configuration(db, [new, old], now=T0 + HOUR)
    configuration = await load_configuration(db)
    assert [str(e.key) for e in configuration.accepted_entities] == ["default/z"]
    assert not configuration.is_accepted(new.key)
    invalid = {
        r["ae"]: r["invalid_condition"]
        for r in await db.fetch("SELECT ae, invalid_condition FROM destination")
    }
    assert invalid == {"default/a": "TitleConflict", "default/z": None}
    applied = await apply_configuration(db, [new], now=T0 + 2 * HOUR)
    assert condition(applied.conditions[ref_of(new)], ConditionType.ACCEPTED).is_true
    assert (await load_configuration(db)).accepted_entities != ()


@pytest.mark.parametrize(
    ("value", "reason"),
    [(ae("x", ability="Print"), "PrintNotAvailable"), (ae("x", port=2761), "ISCLNotSupported")],
)
async def test_nothing_is_sent_where_it_cannot_go(
    db: Database, value: dict[str, object], reason: str
) -> None:
    await apply_configuration(db, [resource(value), resource(route("x", to=["x"]))], now=T0)
    found = await db.fetch_one("SELECT invalid_condition FROM destination WHERE ae = $1", "default/x")
    assert found is not None
    assert found["invalid_condition"] == reason


async def test_listener_trouble_comes_and_goes(db: Database) -> None:
    await apply_configuration(db, hospital(), now=T0)
    trouble = Observed(secrets=frozenset(), listener_troubles={CT: "Port 104 is taken."})
    applied = await apply_configuration(db, hospital(), observed=trouble, now=T0 + HOUR)
    ready = condition(applied.conditions[CT_REF])
    assert (ready.reason, ready.message, ready.last_transition_time) == (
        Reason.LISTENER_NOT_READY,
        "Port 104 is taken.",
        T0 + HOUR,
    )
    healed = await apply_configuration(db, hospital(), now=T0 + 2 * HOUR)
    assert condition(healed.conditions[CT_REF]).is_true


async def test_the_endpoint_of_a_listener_is_kept_until_there_is_none(db: Database) -> None:
    served = Observed(endpoints={CT: "10.0.0.1:11112"})
    await apply_configuration(db, hospital(), observed=served, now=T0)
    assert ((await row(db))["endpoint"], (await row(db, "pacs"))["endpoint"]) == ("10.0.0.1:11112", None)
    again = await apply_configuration(db, hospital(), observed=served, now=T0 + HOUR)
    assert again.changes == {}
    await apply_configuration(db, hospital(), now=T0 + 2 * HOUR)
    assert (await row(db))["endpoint"] is None


async def test_location_becomes_known(db: Database) -> None:
    wished = [resource(ae("ct1", locationCode="ER"))]
    before = await apply_configuration(db, wished, now=T0)
    assert condition(before.conditions[CT_REF], ConditionType.RESOLVED_REFS).reason is Reason.LOCATION_UNKNOWN
    assert condition(before.conditions[CT_REF]).is_true
    assert await import_locations(db, [Location("ER", "Emergency"), Location("RAD", "Radiology")]) == 2
    after = await apply_configuration(db, wished, now=T0 + HOUR)
    assert condition(after.conditions[CT_REF], ConditionType.RESOLVED_REFS).is_true
    assert (await load_configuration(db)).locations == {"ER", "RAD"}


async def test_importing_locations_again_changes_nothing_and_removes_none(db: Database) -> None:
    await import_locations(db, [Location("ER", "Emergency"), Location("RAD", "Radiology")])
    assert await import_locations(db, [Location("ER", "Emergency")]) == 0
    assert await import_locations(db, [Location("ER", "Emergency department")]) == 1
    names = await db.fetch("SELECT code, display_name FROM location ORDER BY code")
    assert [tuple(r.values()) for r in names] == [("ER", "Emergency department"), ("RAD", "Radiology")]


async def test_configuration_is_read_again_only_when_it_changed(db: Database) -> None:
    await apply_configuration(db, hospital(), now=T0)
    first = await load_configuration(db)
    assert await load_configuration(db, first) is first
    await apply_configuration(db, hospital(), now=T0 + HOUR)
    assert await load_configuration(db, first) is first
    await apply_configuration(db, hospital()[1:], now=T0 + 2 * HOUR)
    second = await load_configuration(db, first)
    assert second is not first
    assert CT not in second.entities
    await import_locations(db, [Location("ER", "Emergency")])
    assert (await load_configuration(db, second)).locations == {"ER"}


async def test_two_at_once_do_no_harm(db: Database, database_url: str) -> None:
    async def apply_elsewhere(comment: str) -> None:
        async with open_database(database_url) as other:
            wished = [*hospital()[1:], resource(ae("ct1", comment=comment))]
            await apply_configuration(other, wished, now=T0)

    tasks = [asyncio.create_task(apply_elsewhere(comment)) for comment in ("a", "b", "a", "b")]
    await asyncio.gather(*tasks)
    found = (await load_configuration(db)).entities
    assert sorted(str(key) for key in found) == ["default/ct1", "default/pacs"]
    assert isinstance(found[CT], ApplicationEntity)
    assert found[CT].comment in ("a", "b")
    assert 2 <= found[CT].metadata.generation <= 4


async def test_failed_apply_changes_nothing(db: Database) -> None:
    await apply_configuration(db, hospital(), now=T0)
    before = await contents(db)
    value = ae("x")
    value["metadata"] = {"name": "x", "generation": 2**63}
    unwritable = resource(value, uid="no database holds such a generation")
    with pytest.raises((OverflowError, asyncpg.DataError)):
        await apply_configuration(db, [resource(ae("ct1", port=11112)), unwritable], now=T0 + HOUR)
    assert await contents(db) == before


async def test_changes_are_logged_once(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    def events() -> list[tuple[str, object]]:
        named = [
            (r.__dict__["event"].name, r.__dict__["event_fields"])
            for r in caplog.records
            if "event" in r.__dict__
        ]
        return [(name, fields.get("change") or fields.get("reason")) for name, fields in named]

    caplog.set_level(logging.DEBUG, logger="aegate")
    wished = [resource(ae("ct1", patientPartition="p9"))]
    await apply_configuration(db, wished, now=T0)
    assert events() == [
        ("resource.applied", "created"),
        ("condition.changed", "PartitionNotFound"),
        ("condition.changed", "PartitionNotFound"),
    ]
    caplog.clear()
    await apply_configuration(db, wished, now=T0 + HOUR)
    assert events() == []
    await apply_configuration(db, [], now=T0 + HOUR)
    assert events() == [("resource.applied", "removed")]
