"""Each process does its work with the role of its own alone, and is refused what is not its own. PostgreSQL only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aegate_core.database import Database, open_database
from aegate_core.database.roles import RIGHTS, DatabaseRole, ensure_roles, parse_roles
from aegate_core.errors import DatabaseUnavailable, InvalidValue, NotFound
from aegate_core.resources.values import Level
from aegate_core.services import audit
from aegate_core.services.audit import Deed
from aegate_core.services.entities import load_configuration
from aegate_core.services.fsck import Summary, check, repair
from aegate_core.services.intake import prepare
from aegate_core.services.ownership import must_be_ours
from aegate_core.services.releasing import index_released
from aegate_core.services.studies import close_due
from aegate_core.settings import DataFolder
from aegate_core.stores.index import releasing
from aegate_core.stores.index.progress import forget_progress
from aegate_graphql_api.operating import carry_on
from aegate_scp.sink import Sink, SinkOptions
from tests.dicom import ct, ct_study
from tests.integration.api.clients import BEFORE, connect
from tests.integration.database.roles import RoledDatabase, granted, roled_database
from tests.integration.intake.hospital import Place, entity, route, spool_folder
from tests.integration.postgres import PostgresServer
from tests.integration.scu.clinic import clinic, reaches
from tests.integration.scu.clinic import entity as receiver

PROCESSES = sorted(RIGHTS)
NOT_THEIRS = {
    "api": (
        "application_entity",
        "image_route",
        "patient_partition",
        "patient",
        "study",
        "arrival",
        "fencing",
    ),
    "worker": (
        "application_entity",
        "image_route",
        "patient_partition",
        "conflict",
        "indexer_state",
        "change",
        "worklist_item",
    ),
    "indexer": (
        "application_entity",
        "image_route",
        "patient_partition",
        "delivery",
        "destination",
        "slot",
        "change",
        "worklist_item",
    ),
    "operator": (
        "patient",
        "study",
        "instance",
        "arrival",
        "close_unit",
        "delivery_instance",
        "fencing",
        "change",
        "worklist_item",
    ),
}


@pytest.fixture
def roled(postgres: PostgresServer, postgres_template: str) -> Iterator[RoledDatabase]:
    with roled_database(postgres, postgres_template) as database:
        yield database


@asynccontextmanager
async def place_as(url: str, root: Path) -> AsyncIterator[Place]:
    async with open_database(url) as db:
        with spool_folder(root / "spool") as spool:
            yield Place(db, root, spool)


async def refused(db: Database, statement: str) -> bool:
    """Whether the database does not let this role do it."""
    with pytest.raises(DatabaseUnavailable, match="does not let this user"):
        await db.execute(statement)
    return True


SECOND = (
    "SELECT column_name FROM information_schema.columns WHERE table_name = $1 AND column_name <> 'id' "
    "ORDER BY ordinal_position LIMIT 1"
)
"""A column beside the key: a lock needs the right to the key alone."""

QUEUE = (
    "mutation($ids: [ID!]!) {"
    " hold: holdQueueItems(selection: {ids: $ids}) { ...Done }"
    " resume: resumeQueueItems(selection: {ids: $ids}) { ...Done }"
    " sooner: setQueueItemPriority(selection: {ids: $ids}, priority: 90) { ...Done }"
    " bump: bumpQueueItems(selection: {ids: $ids}) { ...Done }"
    " cancel: cancelQueueItems(selection: {ids: $ids}) { ...Done }"
    " retry: retryQueueItems(selection: {ids: $ids}) { ...Done } }"
    " fragment Done on QueueItemsChanged { changedCount }"
)

WORKLIST = """mutation { createWorklistItem(input: {partition: "default/default", attributes: {
    patientName: "Miller^Ann", patientId: "1", scheduledStationAeTitle: ["CT1"], modality: "CT",
    scheduledProcedureStepStartDate: "20260131", scheduledProcedureStepStartTime: "09",
    scheduledProcedureStepDescription: "CT Thorax"}}) { ... on WorklistItemChanged { worklistItem { id } } } }"""
MOVED = """mutation($id: ID!) { updateWorklistItem(input: {worklistItemId: $id,
    attributes: {scheduledStationAeTitle: ["CT2"]}}) { ... on WorklistItemChanged { changed } } }"""

IN_BACKGROUND = """mutation { bumpQueueItems(selection: {where: {}},
    guard: {expectedCount: 1, asOperation: true, idempotencyKey: "k"}) { __typename } }"""


async def expand(url: str) -> None:
    """Add to every table what a newer version may add while this one runs."""
    async with open_database(url) as owner:
        for row in await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"):
            table = row["tablename"]
            await owner.execute(f"ALTER TABLE {table} ADD COLUMN later_known text")
            await owner.execute(f"ALTER TABLE {table} ADD COLUMN later_counted int NOT NULL DEFAULT 0")
            await owner.execute(f"CREATE INDEX ON {table} (later_known)")


@pytest.mark.parametrize("is_expanded", [False, True])
async def test_each_process_works_with_its_role_alone(
    roled: RoledDatabase, tmp_path: Path, is_expanded: bool
) -> None:
    await granted(roled)
    if is_expanded:
        await expand(roled.owner)
    with Sink(SinkOptions(tmp_path / "sink")) as sink:
        async with place_as(roled.of("operator"), tmp_path / "data") as operator:
            resources = entity("ct1"), receiver(sink.port), route("all", ["pacs"])
            await operator.apply(*resources, entity("us1", max_connections=3))
            await operator.apply(*resources)
            assert await operator.count("application_entity", "deleted_at IS NOT NULL") == 1

        async with place_as(roled.of("indexer"), tmp_path / "data") as indexer:
            for _ in range(2):
                indexer.receive_all(ct_study("one", 3), "ct1", BEFORE)
                await indexer.index(BEFORE)
            assert await indexer.count("arrival", "outcome = 'DUPLICATE'") == 3
            await indexer.db.execute("UPDATE indexer_state SET scanned_at = $1", datetime.now(UTC))
            async with indexer.db.transaction() as tx:  # what one says that rests, or finds a lost one's word
                await forget_progress(tx, ["another"])

        async with clinic(roled.of("worker"), tmp_path) as worker:
            assert len(await close_due(worker.db, now=datetime.now(UTC))) == 1
            [item] = await worker.states()
            await change_queue(roled.of("api"), tmp_path)
            async with worker.worker():
                await reaches(worker, item, "COMPLETED")
        assert len(sink.received) == 3


async def test_indexer_takes_over_what_the_owner_found_first(roled: RoledDatabase, tmp_path: Path) -> None:
    await granted(roled)
    host = DataFolder(tmp_path / "host")
    host.root.mkdir()
    host.blobs.symlink_to(tmp_path / "data" / "blobs")
    async with place_as(roled.of("operator"), tmp_path / "data") as operator:
        await operator.apply(entity("ct1"))
    async with (
        place_as(roled.of("indexer"), tmp_path / "data") as indexer,
        open_database(roled.owner) as owner,
    ):
        indexer.receive_all(ct_study("one", 1), "ct1", BEFORE)
        prepare(indexer.blobs, indexer.spooled())
        [finding] = [f async for f in check(owner, host, Summary())]
        assert await repair(owner, host, finding, now=BEFORE)

        assert (await indexer.index(BEFORE)).new == 1

        await must_be_ours(indexer.db, indexer.blobs)
        assert await indexer.count("quarantined_object", "resolved_at IS NOT NULL") == 1


async def test_worker_indexes_what_people_release(roled: RoledDatabase, tmp_path: Path) -> None:
    await granted(roled)
    data = DataFolder(tmp_path / "data")
    async with place_as(roled.of("operator"), data.root) as operator:
        await operator.apply(entity("ct1", Level.IMAGE), receiver(104), route("all", ["pacs"]))
    async with place_as(roled.of("indexer"), data.root) as indexer, open_database(roled.owner) as owner:
        arrival = indexer.receive(ct(), "ct1", BEFORE)
        indexer.spooled()[0].side_path.write_bytes(b"{}")
        [finding] = [f async for f in check(owner, data, Summary())]
        assert await repair(owner, data, finding, now=BEFORE)
    async with place_as(roled.of("api"), data.root) as api, api.db.transaction() as tx:
        assert await releasing.release(tx, [arrival], by="anna", now=BEFORE) == [arrival]
    async with place_as(roled.of("worker"), data.root) as worker:
        known = await load_configuration(worker.db)
        now = datetime.now(UTC)
        assert await index_released(worker.db, worker.blobs, known, lease=timedelta(seconds=30), now=now)
        assert await worker.count("quarantined_object", "resolution = 'INDEXED'") == 1
        assert len(await worker.deliveries()) == 1


async def change_queue(url: str, root: Path) -> None:
    """Do all that people do with a queue item."""
    async with place_as(url, root) as here:
        api = connect(here, root)
        async with api.client:
            nodes = (await api.ask("{ queueItems { nodes { id } } }"))["queueItems"]["nodes"]
            done = await api.ask(QUEUE, ids=[node["id"] for node in nodes])
            assert done == {name: {"changedCount": 1} for name in done}
            assert [row["outcome"] for row in await api.audit()] == ["DONE"] * 6
            told = (await api.ask("{ changes(first: 100) { nodes { kind } } }"))["changes"]["nodes"]
            assert [change["kind"] for change in told].count("QUEUE_ITEM") == 7
            await api.ask(IN_BACKGROUND)
            assert await carry_on(here.db)
            ended = await api.ask("{ operations { nodes { state changedCount } } }")
            assert ended["operations"]["nodes"] == [{"state": "COMPLETED", "changedCount": 1}]
            step = (await api.ask(WORKLIST))["createWorklistItem"]["worklistItem"]["id"]
            assert (await api.ask(MOVED, id=step))["updateWorklistItem"] == {"changed": True}


@pytest.mark.parametrize("process", PROCESSES)
async def test_what_is_not_theirs_is_refused(roled: RoledDatabase, process: str) -> None:
    await granted(roled)
    async with open_database(roled.of(process)) as db:
        await audit.record(db, Deed("somebody", "act", "target"))
        for table in NOT_THEIRS[process]:
            assert await db.fetch_value(f"SELECT count(*) FROM {table}") == (1 if table == "fencing" else 0)
            assert await refused(db, f"DELETE FROM {table}")
            second = await db.fetch_value(SECOND, table)
            assert await refused(db, f"UPDATE {table} SET {second} = {second}")
        for statement in (
            "UPDATE audit_event SET actor = 'nobody'",
            "DELETE FROM audit_event",
            "TRUNCATE audit_event",
            "DELETE FROM delivery",
            "DELETE FROM arrival",
            "CREATE TABLE mine (id int)",
            "DELETE FROM tortoise_migrations",
        ):
            assert await refused(db, statement)
        assert await db.fetch_value("SELECT actor FROM audit_event") == "somebody"


async def test_every_table_is_written_by_somebody_and_every_right_is_to_a_table(roled: RoledDatabase) -> None:
    by_the_owner_alone = {"location", "delivered", "installation", "tortoise_migrations"}
    """Locations are imported, what retention leaves is written, and an installation gets its mark, by the owner."""
    written = {table for rights in RIGHTS.values() for table in rights}
    async with open_database(roled.owner) as db:
        rows = await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    assert written | by_the_owner_alone == {row["tablename"] for row in rows}


async def test_rights_are_given_again_without_harm_and_those_to_the_audit_are_taken_back(
    roled: RoledDatabase,
) -> None:
    await granted(roled)
    async with open_database(roled.owner) as owner, open_database(roled.of("api")) as api:
        await owner.execute("GRANT DELETE ON audit_event TO aegate_api")
        await granted(roled)
        assert await refused(api, "DELETE FROM audit_event")


async def test_roles_that_do_not_fit_are_refused_with_what_to_type(roled: RoledDatabase) -> None:
    roles = (*parse_roles(roled.roles), DatabaseRole("api", 'it"s'), DatabaseRole("api", "absent"))
    async with open_database(roled.owner) as owner:
        with pytest.raises(NotFound) as caught:
            await ensure_roles(owner, roles)
        assert 'it lacks absent, it"s' in caught.value.message
        assert (
            """CREATE ROLE "absent" LOGIN PASSWORD '…'; CREATE ROLE "it""s" LOGIN""" in caught.value.message
        )
        with pytest.raises(InvalidValue, match="must have rights of its own, got aegate, which"):
            await ensure_roles(owner, parse_roles("api=aegate"))
        await ensure_roles(owner, parse_roles(roled.roles))


@pytest.mark.parametrize("text", ["api", "api=", "clerk=x", f"api={'x' * 64}", "api=a,api=b"])
def test_roles_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="AEGATE_ROLES must"):
        parse_roles(text)
