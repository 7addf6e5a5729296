"""What people release from quarantine goes the way of any image, or is back in quarantine with the reason."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from datetime import timedelta

import pytest

from aegate_core.dicom.identifiers import ArrivalId
from aegate_core.services.entities import load_configuration
from aegate_core.services.fsck import Look, Summary, check, repair
from aegate_core.services.releasing import MOST_ATTEMPTS, index_released
from aegate_core.settings import DataFolder
from aegate_core.stores.index import releasing
from tests.dicom import Instance, ct, us
from tests.integration.intake.hospital import Place, at

LEASE = timedelta(seconds=30)


@pytest.fixture
async def kept(place: Place) -> ArrivalId:
    """A sound ultrasound image that was quarantined because its side record was broken."""
    arrival = place.receive(us(Instance(study="late", frames=3)), "us1")
    place.spooled()[0].side_path.write_bytes(b"{}")
    data = DataFolder(place.root)
    for finding in [f async for f in check(place.db, data, Summary(), look=Look(digests=False))]:
        await repair(place.db, data, finding, now=at(1))
    assert await place.count("quarantined_object", f"arrival_id = '{arrival}' AND resolved_at IS NULL") == 1
    return arrival


async def let_go(place: Place, arrival: str, seconds: float = 10) -> list[str]:
    async with place.db.transaction() as tx:
        return await releasing.release(tx, [arrival], by="anna", now=at(seconds))


async def run(place: Place, seconds: float) -> bool:
    configuration = await load_configuration(place.db)
    return await index_released(place.db, place.blobs, configuration, lease=LEASE, now=at(seconds))


async def listed(place: Place, arrival: str) -> dict[str, object]:
    row = await place.db.fetch_one(
        "SELECT resolution, resolved_by, released_by, reason FROM quarantined_object WHERE arrival_id = $1",
        arrival,
    )
    assert row is not None
    return row


async def told(place: Place) -> list[tuple[str, str, str]]:
    rows = await place.db.fetch(
        "SELECT actor, outcome, target FROM audit_event WHERE action = 'releaseQuarantined' ORDER BY id"
    )
    return [(r["actor"], r["outcome"], r["target"]) for r in rows]


async def test_a_released_object_is_indexed_and_routed_once(place: Place, kept: ArrivalId) -> None:
    assert not await run(place, 5)
    assert await let_go(place, kept) == [kept]
    assert await let_go(place, kept) == []
    async with place.db.transaction() as tx:
        assert await releasing.why_not(tx, [kept]) == {kept: "WAITING"}

    assert await run(place, 20)
    assert not await run(place, 21)

    assert await place.count("arrival", f"id = '{kept}' AND outcome = 'NEW' AND instance_id IS NOT NULL") == 1
    assert await place.count("study") == 1
    [delivery] = await place.deliveries()
    assert (delivery["destination"], delivery["requested_by"]) == ("default/ws1", "route:default/us-to-ws")
    row = await listed(place, kept)
    assert (row["resolution"], row["resolved_by"], row["released_by"]) == ("INDEXED", "anna", "anna")
    assert await told(place) == [("anna", "DONE", f"QuarantinedObject:{kept}")]
    async with place.db.transaction() as tx:
        assert await releasing.why_not(tx, [kept]) == {kept: "INDEXED"}
    assert await let_go(place, kept) == []
    assert [f async for f in check(place.db, DataFolder(place.root), Summary())] == []


async def test_an_object_of_which_the_reason_still_holds_is_back_and_says_why(place: Place) -> None:
    arrival = place.receive(b"this is no DICOM object")
    await place.index()
    assert await let_go(place, arrival) == [arrival]
    assert await run(place, 20)
    row = await listed(place, arrival)
    assert (row["resolution"], row["released_by"]) == (None, None)
    assert "DICM" in str(row["reason"])
    assert await told(place) == [("anna", "REFUSED", f"QuarantinedObject:{arrival}")]
    assert await place.count("study") == 0
    assert await let_go(place, arrival) == [arrival]


async def test_a_file_that_is_gone_or_another_is_no_image(place: Place, kept: ArrivalId) -> None:
    key = await place.db.fetch_value("SELECT blob_key FROM arrival WHERE id = $1", kept)
    blob = place.root / "blobs" / str(key)
    content = blob.read_bytes()
    for wrong, word in (
        (content[:-2] + b"\1\2", "not what was received"),
        (None, "not in the store of images"),
    ):
        blob.unlink()
        if wrong is not None:
            blob.write_bytes(wrong)
        assert await let_go(place, kept) == [kept]
        assert await run(place, 20)
        assert word in str((await listed(place, kept))["reason"])
    assert await place.count("study") == 0


async def test_an_object_over_which_workers_end_is_given_back(place: Place, kept: ArrivalId) -> None:
    await let_go(place, kept)
    for n in range(MOST_ATTEMPTS):
        taken = await releasing.take(place.db, LEASE, now=at(20 + 31 * n))
        assert taken is not None
        assert await releasing.take(place.db, LEASE, now=at(21 + 31 * n)) is None
    assert await run(place, 20 + 31 * MOST_ATTEMPTS)
    assert "ended a worker 3 times" in str((await listed(place, kept))["reason"])


async def test_what_nobody_sent_is_not_released(place: Place) -> None:
    arrival = place.receive(ct(Instance(study="lost")))
    place.blobs.put(arrival, place.spooled()[0].path)
    for file in (place.spooled()[0].side_path, place.spooled()[0].path):
        file.unlink()
    data = DataFolder(place.root)
    for finding in [f async for f in check(place.db, data, Summary())]:
        await repair(place.db, data, finding, now=at(1))
    assert await let_go(place, arrival) == []
    async with place.db.transaction() as tx:
        assert await releasing.why_not(tx, [arrival]) == {arrival: "UNKNOWN_SENDER"}


async def test_a_worker_killed_over_it_leaves_it_to_the_next(
    place: Place, kept: ArrivalId, database_url: str
) -> None:
    await let_go(place, kept)
    environ = os.environ | {
        "AEGATE_DATA": str(place.root),
        "AEGATE_DATABASE_URL": database_url,
        "AEGATE_LEASE_SECONDS": "1.5",
        "AEGATE_RETENTION": "no",
    }
    for step in ("RELEASE_TAKEN", "COMMITTED"):
        killed = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "aegate_scu"],
            env=environ | {"AEGATE_DIE_AT": step},
            capture_output=True,
            timeout=60,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert await place.count("arrival", f"id = '{kept}'") == 1
    assert await place.count("quarantined_object", "resolution = 'INDEXED' AND resolved_by = 'anna'") == 1
    assert not await run(place, 1000)
    assert await place.count("instance") == 1
    assert len(await place.deliveries()) == 1
    assert await told(place) == [("anna", "DONE", f"QuarantinedObject:{kept}")]
