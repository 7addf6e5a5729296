"""The rows follow the cluster: also after a night without the database, and after one without the operator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from aegate_core.database import Database, migrate, open_database
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.conditions import ConditionType, find_condition
from aegate_core.resources.locations import Location
from aegate_core.resources.reference import ResourceRef
from aegate_core.services.entities import Configuration, apply_configuration, load_configuration
from aegate_core.services.locations import import_locations
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY
from aegate_operator.projection import MOST_EDITED, Projection, ProjectionTimes
from tests.integration.waiting import eventually_async
from tests.unit.operator.ground import Ground

RARELY = ProjectionTimes(quiet_s=600, edited_s=0.02, ticks=30_000, look_s=600)
SOON = ProjectionTimes(quiet_s=0.02, look_s=0.1, retry_s=0.05)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url) as opened:
        yield opened


@asynccontextmanager
async def projecting(
    db: Database, ground: Ground, times: ProjectionTimes = SOON
) -> AsyncIterator[Projection]:
    """Rows that follow what ``ground`` knows."""
    projection = Projection(
        db,
        ground.declared,
        ground.outcomes,
        times=times,
        locations_changed=lambda: [ground.queue.add(ref) for ref in ground.informer.everything()] and None,
    )
    ground.outcomes.changed = projection.mark
    ground.declared_changed, ground.looked_at = projection.edited, projection.looked_at
    running = asyncio.create_task(projection.run())
    try:
        yield projection
    finally:
        running.cancel()
        await asyncio.wait({running})


async def rows_of(db: Database, *names: str) -> Configuration:
    """The configuration, as soon as it holds just these AEs."""

    async def found() -> Configuration | None:
        now = await load_configuration(db)
        return now if {key.name for key in now.entities} == set(names) else None

    configuration = await eventually_async(found, deadline_s=30)
    assert configuration is not None
    return configuration


def ready(configuration: Configuration, key: ResourceKey) -> tuple[str, str]:
    condition = find_condition(
        configuration.conditions[ResourceRef("ApplicationEntity", key)], ConditionType.READY
    )
    assert condition is not None
    return condition.status.value, condition.reason.value


async def test_what_somebody_changes_is_there_though_the_rows_are_left_alone(db: Database) -> None:
    ground = Ground()
    keys = [ground.add_ae(name) for name in ("ct1", "mr1")]
    await ground.settle()
    async with projecting(db, ground, RARELY):
        await rows_of(db, "ct1", "mr1")
        ground.add_ae("ct1", comment="of the ward")
        await ground.settle()

        async def is_read() -> bool:
            return (await load_configuration(db)).entities[keys[0]].comment == "of the ward"

        await eventually_async(is_read, deadline_s=30)
        ground.add_ae("us1")
        keys.append(ground.add_ae("us1", "cardiology"))
        await ground.settle()

        async def is_second() -> bool:
            now = await load_configuration(db)
            return keys[2] in now.entities and not now.is_accepted(keys[2])

        await eventually_async(is_second, deadline_s=30)
        ground.cluster.lose(APPLICATION_ENTITY, keys[1])
        await ground.settle()
        await rows_of(db, "ct1", "us1")
        found = await db.fetch(
            "SELECT ae, gone_at IS NULL AS is_there, (SELECT count(*) FROM slot "
            "WHERE destination_id = destination.id) AS slots FROM destination"
        )
        there = {row["ae"]: (bool(row["is_there"]), row["slots"] > 0) for row in found}
        assert there[str(keys[1])] == (False, True)
        assert there["radiology/us1"] == (True, True)


async def test_what_may_not_be_put_in_force_keeps_others_waiting(db: Database) -> None:
    ground = Ground()
    key = ground.add_ae(port=104)
    await ground.settle()
    async with projecting(db, ground, RARELY):
        await rows_of(db, "ct1")
        ground.add_ae(port=70_000)
        await ground.settle()
        ground.add_ae("mr1")
        await ground.settle()
        ground.add_ae(port=105)
        await ground.settle()
        assert (await rows_of(db, "ct1", "mr1")).entities[key].port == 105


async def test_a_look_at_the_version_before_does_not_count_for_an_edit(db: Database) -> None:
    ground = Ground()
    key = ground.add_ae()
    await ground.settle()
    async with projecting(db, ground, RARELY) as projection:
        await rows_of(db, "ct1")
        ground.add_ae(comment="of the ward")
        projection.looked_at(ResourceRef("ApplicationEntity", key))
        await eventually_async(lambda: not projection._due, deadline_s=30)
        await ground.settle()

        async def is_read() -> bool:
            return (await load_configuration(db)).entities[key].comment == "of the ward"

        await eventually_async(is_read, deadline_s=10)


async def test_many_changes_at_once_wait_for_the_write_of_all(db: Database) -> None:
    ground = Ground()
    ground.add_ae()
    await ground.settle()
    async with projecting(db, ground, RARELY) as projection:
        await rows_of(db, "ct1")
        ground.looked_at = lambda ref: None
        keys = [ground.add_ae(f"mr{n}") for n in range(MOST_EDITED + 1)]
        await ground.settle()
        for key in keys:
            projection.looked_at(ResourceRef("ApplicationEntity", key))
        ground.looked_at = projection.looked_at
        await eventually_async(lambda: not projection._due, deadline_s=30)
        ground.add_ae("us1")
        await ground.settle()
        await rows_of(db, "ct1", "us1")
        assert not projection.is_current


async def test_row_that_another_took_with_it_comes_back(db: Database) -> None:
    ground = Ground()
    ground.add_ae()
    await ground.settle()
    async with projecting(db, ground):
        await rows_of(db, "ct1")
        await apply_configuration(db, [], now=datetime.now(UTC))
        await rows_of(db, "ct1")


async def test_rows_say_what_the_status_says(db: Database) -> None:
    ground = Ground()
    key = ground.add_ae()
    await ground.settle()
    async with projecting(db, ground):
        assert ready(await rows_of(db, "ct1"), key) == ground.conditions(key)["Ready"]
        await ground.serve(key)

        async def is_ready() -> bool:
            return ready(await load_configuration(db), key) == ("True", "Ready")

        await eventually_async(is_ready, deadline_s=30)
        row = await db.fetch_one("SELECT * FROM application_entity")
        assert row is not None
        assert row["endpoint"] == "ae-ct1.radiology.svc:11112"
        assert row["uid"] == ground.cluster.of(APPLICATION_ENTITY, key)["metadata"]["uid"]
        destination = await db.fetch_one("SELECT * FROM destination")
        assert destination is not None


async def test_deleted_while_no_operator_ran_it_leaves_the_database_on_the_first_list(db: Database) -> None:
    ground = Ground()
    for name in ("ct1", "mr1"):
        ground.add_ae(name)
    await ground.settle()
    async with projecting(db, ground):
        await rows_of(db, "ct1", "mr1")
    ground.cluster.lose(APPLICATION_ENTITY, ResourceKey("radiology", "mr1"), is_told=False)
    again = Ground(ground.cluster)
    await again.settle()
    async with projecting(db, again):
        await rows_of(db, "ct1")


async def test_a_title_is_the_same_ones_in_rows_and_status(db: Database) -> None:
    ground = Ground()
    keys = []
    for namespace in ("radiology", "cardiology"):
        keys.append(ground.add_ae("ct1", namespace))
        await ground.settle()
    async with projecting(db, ground):
        configuration = await rows_of(db, "ct1")
        assert [configuration.is_accepted(key) for key in keys] == [True, False]


async def test_an_invalid_one_keeps_its_last_good_version_and_says_so(db: Database) -> None:
    ground = Ground()
    key = ground.add_ae(port=104)
    await ground.settle()
    async with projecting(db, ground):
        await rows_of(db, "ct1")
        ground.add_ae(port=70_000)
        await ground.settle()
        ref = ResourceRef("ApplicationEntity", key)

        async def is_stalled() -> bool:
            now = await load_configuration(db)
            return find_condition(now.conditions[ref], ConditionType.STALLED) is not None

        await eventually_async(is_stalled, deadline_s=30)
        assert (await load_configuration(db)).entities[key].port == 104


async def test_an_unknown_location_is_looked_at_again_when_the_table_changes(db: Database) -> None:
    ground = Ground()
    key = ground.add_ae(locationCode="ER")
    async with projecting(db, ground):
        await eventually_async(lambda: ground.outcomes.locations is not None, deadline_s=30)
        await ground.settle()
        assert ground.conditions(key)["ResolvedRefs"] == ("False", "LocationUnknown")
        await import_locations(db, [Location("ER", "Emergency")])
        await eventually_async(lambda: ground.outcomes.locations == frozenset(["ER"]), deadline_s=30)
        await ground.settle()
        assert ground.conditions(key)["ResolvedRefs"] == ("True", "ResolvedRefs")


async def test_children_are_looked_after_before_there_is_a_schema_and_rows_follow(
    empty_database_url: str,
) -> None:
    ground = Ground()
    key = ground.add_ae()
    async with open_database(empty_database_url) as db, projecting(db, ground) as projection:
        await eventually_async(lambda: projection.is_away, deadline_s=30)
        await ground.settle()
        await ground.serve(key)
        assert ground.conditions(key)["Ready"] == ("True", "Ready")
        await migrate(empty_database_url)
        await rows_of(db, "ct1")
        assert projection.is_away is False
