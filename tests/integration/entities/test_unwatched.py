"""Namespaces that a release watches no longer, in a database that two releases share: whose rows go, and whose stay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aegate_core.database import Database, open_database
from aegate_core.resources.values import Resource
from aegate_core.services.entities import Applied, Observed, apply_configuration
from aegate_core.services.studies import close_due
from aegate_core.stores.queue.destinations import UNWATCHED
from tests.dicom import ct_study
from tests.integration.intake.hospital import HOSPITAL, Place, at, spool_folder
from tests.unit.resources.builders import ae, resource

T0 = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)
ONE, OTHER = "pacs/aegate", "pacs-2/aegate"


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url) as opened:
        yield opened


def of(namespace: str) -> Resource:
    return resource(
        {**ae("ct1", title=namespace.upper()), "metadata": {"namespace": namespace, "name": "ct1"}}
    )


class Release:
    """Applies what lies in the namespaces that it watches, each time an hour later."""

    hours = 0

    def __init__(self, db: Database, name: str) -> None:
        self._db = db
        self._name = name

    async def watch(self, *namespaces: str, there: Sequence[str] = (), takes_over: bool = True) -> Applied:
        Release.hours += 1
        return await apply_configuration(
            self._db,
            [of(namespace) for namespace in there or namespaces],
            observed=Observed(namespaces=namespaces, projector=self._name, takes_over=takes_over),
            now=T0 + timedelta(hours=Release.hours),
        )


async def live(db: Database) -> dict[str, str | None]:
    """Return the namespaces whose AE is live, and whose each is."""
    rows = await db.fetch(
        "SELECT namespace, projected_by FROM application_entity WHERE deleted_at IS NULL ORDER BY namespace"
    )
    return {str(r["namespace"]): r["projected_by"] for r in rows}


async def gone(db: Database) -> list[str]:
    rows = await db.fetch("SELECT ae FROM destination WHERE gone_at IS NOT NULL ORDER BY ae")
    return [str(r["ae"]) for r in rows]


async def test_namespace_that_is_watched_no_longer_is_left_behind_in_no_row(db: Database) -> None:
    one, other = Release(db, ONE), Release(db, OTHER)
    await one.watch("ct", "mr")
    await other.watch("us")

    applied = await one.watch("ct")

    assert {str(ref): change for ref, change in applied.changes.items()} == {
        "ApplicationEntity mr/ct1": "unwatched"
    }
    assert (await live(db), await gone(db)) == ({"ct": ONE, "us": OTHER}, ["mr/ct1"])
    assert (await one.watch("ct")).changes == {}


async def test_release_of_the_whole_cluster_that_becomes_one_of_a_namespace_leaves_all_others(
    db: Database,
) -> None:
    one = Release(db, ONE)
    await one.watch(there=["ct", "mr"])
    await one.watch("mr")
    assert (await live(db), await gone(db)) == ({"mr": ONE}, ["ct/ct1"])


async def test_namespace_that_another_release_took_over_stays_its(db: Database) -> None:
    one, other = Release(db, ONE), Release(db, OTHER)
    await one.watch("ct", "mr")
    await other.watch("mr")
    assert (await one.watch("ct")).changes == {}
    assert (await live(db), await gone(db)) == ({"ct": ONE, "mr": OTHER}, [])


async def test_release_that_is_still_at_work_does_not_take_back_what_another_took_over(db: Database) -> None:
    one, other = Release(db, ONE), Release(db, OTHER)
    await one.watch("ct", "mr")
    await other.watch("mr")
    assert (await one.watch("ct", "mr", takes_over=False)).changes == {}
    await one.watch("ct")
    assert (await live(db), await gone(db)) == ({"ct": ONE, "mr": OTHER}, [])


async def test_namespace_that_is_taken_over_later_takes_up_its_queue_again(db: Database) -> None:
    one, other = Release(db, ONE), Release(db, OTHER)
    await one.watch("ct", "mr")
    await one.watch("ct")
    await other.watch("mr")
    assert (await live(db), await gone(db)) == ({"ct": ONE, "mr": OTHER}, [])


async def test_rows_of_nobody_known_stay(db: Database) -> None:
    """An operator before this wrote them, or a local supervisor: they may be anybody's."""
    await Release(db, "").watch(there=["ct", "mr"])
    await Release(db, ONE).watch("ct")
    assert (await live(db), await gone(db)) == ({"ct": ONE, "mr": None}, [])


async def test_what_waits_for_a_receiver_that_is_watched_no_longer_says_so(
    db: Database, tmp_path: Path
) -> None:
    with spool_folder(tmp_path / "spool") as spool:
        place = Place(db, tmp_path, spool)
        await apply_configuration(db, HOSPITAL, observed=Observed(projector=ONE), now=at(0))
        place.receive_all(ct_study("s1", 1))
        await place.index()
        assert len(await close_due(db, now=at(600))) == 1

        await apply_configuration(db, [], observed=Observed(namespaces=["ct"], projector=ONE), now=at(700))

        [item] = await place.deliveries()
        assert (item["state"], item["hold_code"]) == ("HELD", "DESTINATION_GONE")
        event = await db.fetch_one("SELECT code, message FROM delivery_event ORDER BY id DESC LIMIT 1")
        assert event == {"code": "DESTINATION_GONE", "message": UNWATCHED}
        await apply_configuration(db, HOSPITAL, observed=Observed(projector=ONE), now=at(800))
        assert [item["state"] for item in await place.deliveries()] == ["SCHEDULED"]
