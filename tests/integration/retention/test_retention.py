"""What is old enough goes, what is wanted stays, and what is known of removed images stays true."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from aegate_core.database import DatabaseClock, open_database
from aegate_core.decisions.retention import Keep
from aegate_core.errors import NotFound
from aegate_core.events import RETENTION_FAILED
from aegate_core.services import deliveries, operations
from aegate_core.services.deliveries import SendByHand
from aegate_core.services.fsck import Kind, Summary, check
from aegate_core.services.operations import Wanted
from aegate_core.services.retention import OPERATIONS_KEPT, Report, retain
from aegate_core.services.studies import close_due, reroute
from aegate_core.settings import DataFolder
from tests.dicom import Instance, ct, ct_study
from tests.integration.intake.hospital import HOSPITAL, Place, at, key
from tests.integration.retention.conftest import deliver, partition
from tests.integration.scu.clinic import Clinic
from tests.integration.waiting import eventually_async

DAY = 86_400
LATER = at(31 * DAY)
MUCH_LATER = at(91 * DAY)


async def run(place: Place, now: datetime = LATER, *, dry_run: bool = False) -> Report:
    return await retain(place.db, DataFolder(place.root), now=now, dry_run=dry_run)


async def _is_empty(place: Place) -> bool:
    return blobs(place) == 0


def blobs(place: Place) -> int:
    return len(list(place.root.glob("blobs/*/*/*")))


async def findings(place: Place) -> tuple[list[Kind], Summary]:
    summary = Summary()
    return [f.kind async for f in check(place.db, DataFolder(place.root), summary)], summary


async def send(place: Place, key_: str = "k") -> tuple[int, ...]:
    study = int(await place.db.fetch_value("SELECT id FROM study"))
    request = SendByHand((study,), (key("ws1"),), "anna", key_)
    async with place.db.transaction() as tx:
        return await deliveries.send_by_hand(tx, request, now=LATER)


REMOVAL = "action LIKE 'remove%'"


async def test_nothing_goes_before_its_time_nor_without_days(place: Place) -> None:
    assert (await run(place, at(30 * DAY - 1))).partitions == {}
    await place.apply(*HOSPITAL, partition(images_days=None))
    assert (await run(place)).partitions == {}
    assert blobs(place) == 3


async def test_dry_run_says_what_the_run_does_and_changes_nothing(place: Place) -> None:
    size = int(await place.db.fetch_value("SELECT sum(size_bytes) FROM arrival"))

    said = await run(place, MUCH_LATER, dry_run=True)
    assert (blobs(place), await place.count("audit_event", REMOVAL), await place.count("delivery")) == (
        3,
        0,
        1,
    )
    assert await place.count("arrival", "removed_at IS NOT NULL") == 0

    assert await run(place, MUCH_LATER) == said
    removed = said.partitions["default/default"]
    assert (removed.studies, removed.images, removed.size_bytes, removed.deliveries) == (1, 3, size, 1)
    assert (blobs(place), await place.count("delivery")) == (0, 0)
    assert await place.count("arrival", "removed_at IS NOT NULL AND blob_key = ''") == 3
    rows = await place.db.fetch(f"SELECT action FROM audit_event WHERE {REMOVAL} ORDER BY id")
    assert [r["action"] for r in rows] == ["remove-queue-items", "remove-images"]
    assert (await run(place, MUCH_LATER)).partitions == {}


async def test_what_is_known_of_removed_images_stays(place: Place) -> None:
    before = await place.db.fetch("SELECT * FROM study")
    await run(place)
    assert await place.db.fetch("SELECT * FROM study") == before
    assert await place.count("instance") == 3
    found, summary = await findings(place)
    assert (found, summary.arrivals, summary.blobs, summary.to_delete) == ([], 0, 0, 0)


WANTED = {
    "waiting": ("UPDATE delivery SET state = 'SCHEDULED'", Keep.IN_QUEUE),
    "held": ("UPDATE delivery SET state = 'HELD'", Keep.IN_QUEUE),
    "open": ("UPDATE close_unit SET due_at = closed_at", Keep.NOT_CLOSED),
    "never closed": ("UPDATE close_unit SET closed_at = NULL", Keep.NOT_CLOSED),
    "conflict": (
        "INSERT INTO conflict (kind, arrival_id, other_arrival_id, study_id, created_at) "
        "SELECT 'SAME_UID_OTHER_STUDY', 'x', min(id), NULL, min(received_at) FROM arrival",
        Keep.CONFLICT,
    ),
    "failed": (
        "UPDATE delivery_instance SET state = 'DEAD' WHERE id = (SELECT min(id) FROM delivery_instance)",
        Keep.NOT_DELIVERED,
    ),
    "cancelled": ("UPDATE delivery_instance SET state = 'CANCELED'", Keep.ONLY_COPY),
}


@pytest.mark.parametrize("name", WANTED)
async def test_what_is_still_wanted_stays(place: Place, name: str) -> None:
    statement, keep = WANTED[name]
    assert await place.db.execute(statement) > 0
    if name == "failed":
        await place.db.execute(
            "UPDATE delivery SET state = 'FAILED', instances_done = 2, instances_failed = 1"
        )

    said = await run(place, MUCH_LATER, dry_run=True)
    assert await run(place, MUCH_LATER) == said
    removed = said.partitions["default/default"]
    assert (removed.kept, removed.studies, removed.images) == ({keep: 1}, 0, 0)
    assert (blobs(place), await place.count("arrival", "removed_at IS NOT NULL")) == (3, 0)
    assert await place.count("delivery", "state = 'FAILED'") == (1 if name == "failed" else 0)


async def test_failed_item_goes_when_its_destination_got_the_image_otherwise(place: Place) -> None:
    await place.db.execute("UPDATE delivery_instance SET state = 'DEAD'")
    await place.db.execute("UPDATE delivery SET state = 'FAILED', instances_done = 0, instances_failed = 3")
    study = int(await place.db.fetch_value("SELECT id FROM study"))
    async with place.db.transaction() as tx:
        await deliveries.send_by_hand(tx, SendByHand((study,), (key("pacs"),), "anna", "k"), now=at(1300))
    await deliver(place)

    removed = (await run(place, MUCH_LATER)).partitions["default/default"]
    assert (removed.deliveries, removed.images, removed.kept) == (2, 3, {})


async def test_other_data_folder_is_not_taken_for_the_one_of_the_database(
    place: Place, tmp_path: Path
) -> None:
    report = await retain(place.db, DataFolder(tmp_path / "other"), now=LATER)
    assert report.partitions["default/default"].kept == {Keep.BLOBS_NOT_HERE: 1}
    assert await place.count("arrival", "removed_at IS NOT NULL") == 0


async def test_removed_images_are_refused_in_words_to_whoever_wants_to_send_them(place: Place) -> None:
    await place.db.execute("UPDATE delivery_instance SET state = 'CANCELED'")
    await place.db.execute("UPDATE delivery SET state = 'CANCELED', instances_done = 0")
    await place.apply(*HOSPITAL, partition(images_require_delivered=False))
    await run(place)
    items = [int(str(d["id"])) for d in await place.deliveries()]

    with pytest.raises(NotFound, match="removed 3 of the 3 images of 1 of 1 studies"):
        await send(place)
    async with place.db.transaction() as tx:
        changed = await deliveries.retry(tx, items, actor="anna", now=LATER)
        assert (changed.done, changed.refused) == ((), {items[0]: "IMAGES_REMOVED"})
        unit = int(await tx.fetch_value("SELECT id FROM close_unit"))
        with pytest.raises(NotFound, match="removed by retention, nothing is left to route"):
            await reroute(tx, unit, actor="anna", now=LATER)
    assert [d["state"] for d in await place.deliveries()] == ["CANCELED"]


async def test_image_that_comes_again_after_removal_is_here_again_and_not_sent_twice(place: Place) -> None:
    await run(place, MUCH_LATER)
    again = place.receive_all(ct_study("s1", 3), when=MUCH_LATER)
    result = await place.index(MUCH_LATER)
    assert (result.new, result.duplicates) == (0, 3)

    rows = await place.db.fetch("SELECT current_arrival_id FROM instance")
    assert sorted(r["current_arrival_id"] for r in rows) == again
    assert len(await close_due(place.db, now=at(92 * DAY))) == 1
    assert await place.count("delivery") == 0
    assert (await findings(place))[0] == []
    assert len(await send(place)) == 1
    assert await place.count("delivery_instance") == 3
    # Nothing of it goes while it is in the queue, whatever lies beside it.
    assert (await run(place, at(200 * DAY))).partitions["default/default"].kept == {Keep.IN_QUEUE: 1}


async def test_own_object_that_comes_back_after_its_queue_item_is_gone_is_not_routed(place: Place) -> None:
    await place.apply(*HOSPITAL)
    assert (await run(place, MUCH_LATER)).partitions["default/default"].deliveries == 1
    place.receive(ct_study("s1", 1)[0], "us1", MUCH_LATER)
    await place.index(MUCH_LATER)
    assert await place.count("delivery") == 0
    assert await place.count("arrival", "ae = 'default/us1' AND NOT routable") == 1


async def test_reroute_sends_what_comes_new_and_not_what_is_removed(place: Place) -> None:
    await place.apply(*HOSPITAL, partition(finished_deliveries_days=1))
    await run(place)
    await place.db.execute("DELETE FROM delivered")
    new = place.receive(ct(Instance(study="s1", number=9)), when=LATER)
    await place.index(LATER)
    unit = int(await place.db.fetch_value("SELECT id FROM close_unit"))
    async with place.db.transaction() as tx:
        assert (await reroute(tx, unit, actor="anna", now=at(32 * DAY))).deliveries == 1
    rows = await place.db.fetch("SELECT arrival_id FROM delivery_instance")
    assert [r["arrival_id"] for r in rows] == [new]


async def test_two_at_once_remove_each_study_once(place: Place, database_url: str) -> None:
    async with open_database(database_url) as other:
        reports = await asyncio.gather(
            *(retain(db, DataFolder(place.root), now=MUCH_LATER) for db in (place.db, other))
        )
    sums = [
        sum(getattr(p, n) for r in reports for p in r.partitions.values()) for n in ("images", "deliveries")
    ]
    assert sums == [3, 1]
    assert (blobs(place), (await findings(place))[0]) == (0, [])
    assert await place.count("audit_event", "action = 'remove-images'") == 1


async def test_image_that_is_being_sent_by_hand_just_now_stays(place: Place, database_url: str) -> None:
    async with open_database(database_url) as other:
        async with place.db.transaction() as tx:
            study = int(await tx.fetch_value("SELECT id FROM study"))
            request = SendByHand((study,), (key("ws1"),), "anna", "k")
            assert len(await deliveries.send_by_hand(tx, request, now=LATER)) == 1
            running = asyncio.create_task(retain(other, DataFolder(place.root), now=LATER))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(running), 0.5)
        await running
    assert (blobs(place), await place.count("arrival", "removed_at IS NOT NULL")) == (3, 0)


async def test_worker_removes_what_is_old_enough_by_itself(place: Place, database_url: str) -> None:
    await place.db.execute("UPDATE study SET last_arrival_at = $1", at(-400 * DAY))
    async with Clinic(place.db, DataFolder(place.root), database_url).worker():
        await eventually_async(lambda: _is_empty(place), what="the files are gone")
    assert await place.count("arrival", "removed_at IS NOT NULL AND blob_key = ''") == 3


async def test_worker_removes_nothing_by_a_clock_that_went_ahead_by_days_at_once(
    place: Place, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await place.db.execute("UPDATE study SET last_arrival_at = $1", at(-400 * DAY))
    behind_s = 0.0
    clock = DatabaseClock(lambda: time.monotonic() - behind_s)
    await clock.look(place.db)
    behind_s = 2.0 * DAY

    def doubts() -> list[object]:
        told = [r for r in caplog.records if getattr(r, "event", None) == RETENTION_FAILED]
        return [r.event_fields["error"] for r in told]  # type: ignore[attr-defined] # what `Log` adds

    async with Clinic(place.db, DataFolder(place.root), database_url).worker(clock=clock):
        said = await eventually_async(doubts)
    assert said == ["the database's clock went ahead by 2 days at once: set it right, or start anew if it is"]
    assert (blobs(place), await place.count("arrival", "removed_at IS NOT NULL")) == (3, 0)


async def test_blob_that_a_late_indexer_puts_again_goes_again(place: Place) -> None:
    late = place.receive(ct(Instance(study="s1", number=2)))
    [spooled] = place.spooled()
    content, side = spooled.path.read_bytes(), spooled.side_path.read_bytes()
    await place.index()
    await close_due(place.db, now=at(700))
    await deliver(place)
    await run(place)
    spooled.side_path.write_bytes(side)  # as if its indexer had ended before it took them out of the spool
    spooled.path.write_bytes(content)

    await place.index(LATER)

    assert [p.stem for p in place.root.glob("blobs/*/*/*")] == [late]
    assert (await findings(place))[1].to_delete == 1
    assert ((await run(place)).left_over, blobs(place)) == (1, 0)


@pytest.mark.parametrize(("step", "left"), [("TOMBSTONED", 3), ("BLOB_DELETED", 0)])
async def test_killed_between_row_and_file_the_next_run_finishes_it(
    place: Place, database_url: str, step: str, left: int
) -> None:
    (place.root / "VERSION").write_text("1\n")
    await place.db.execute("UPDATE study SET last_arrival_at = $1", at(-400 * DAY))
    await killed_at(step, place, database_url)
    assert blobs(place) == left
    found, summary = await findings(place)
    assert (found, summary.to_delete) == ([], left)

    said = await run(place, dry_run=True)
    assert await run(place) == said
    assert (said.left_over, blobs(place)) == (3, 0)
    assert (await run(place)).left_over == 0


async def test_item_that_wants_a_removed_image_is_found_by_fsck_and_not_mended(place: Place) -> None:
    await run(place)
    await place.db.execute("UPDATE delivery_instance SET state = 'PENDING'")
    await place.db.execute("UPDATE delivery SET state = 'SCHEDULED', instances_done = 0")
    found = [f async for f in check(place.db, DataFolder(place.root), Summary())]
    assert [f.kind for f in found] == [Kind.DELIVERY_WITHOUT_ARRIVAL] * 3
    assert not any(f.is_repairable for f in found)


@pytest.mark.timeout(300)
async def test_killed_again_and_again_it_removes_in_the_end_exactly_what_the_dry_run_said(
    place: Place, database_url: str
) -> None:
    (place.root / "VERSION").write_text("1\n")
    place.receive_all([ds for n in range(2, 6) for ds in ct_study(f"s{n}", 2)])
    await place.index()
    await close_due(place.db, now=at(600))
    await deliver(place)
    wanted = await place.db.fetch_value("SELECT max(id) FROM study")
    await place.db.execute("UPDATE delivery SET state = 'HELD' WHERE study_id = $1", wanted)
    await place.db.execute("UPDATE study SET last_arrival_at = $1", at(-400 * DAY))
    said = (await run(place, dry_run=True)).partitions["default/default"]
    assert (said.studies, said.images, said.kept) == (4, 9, {Keep.IN_QUEUE: 1})

    left = []
    for step in ("TOMBSTONED", "BLOB_DELETED", "TOMBSTONED:2", "BLOB_DELETED:3"):
        await killed_at(step, place, database_url)
        assert (await findings(place))[0] == []
        left.append(blobs(place))
    assert left == [11, 8, 8, 2]
    last = await run(place)
    assert (last.left_over, blobs(place)) == (2, 2)
    kept = await place.db.fetch("SELECT DISTINCT study_id FROM arrival WHERE removed_at IS NULL")
    assert [r["study_id"] for r in kept] == [wanted]
    assert await place.count("arrival", "removed_at IS NOT NULL AND blob_key = ''") == said.images
    assert last.partitions["default/default"].kept == said.kept


async def killed_at(step: str, place: Place, database_url: str) -> None:
    command = [sys.executable, "-m", "aegate_cli", "retention", "--data", str(place.root)]
    killed = await asyncio.to_thread(
        subprocess.run,
        [*command, "--database", database_url],
        env={**os.environ, "AEGATE_DIE_AT": step},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr


async def test_sizes_whose_sum_is_a_round_number_are_counted(place: Place) -> None:
    await place.db.execute("UPDATE arrival SET size_bytes = 30000")
    said = await run(place, MUCH_LATER, dry_run=True)
    assert said.partitions["default/default"].size_bytes == 90_000


async def test_fault_in_retention_keeps_no_image_from_going_out(
    place: Place, database_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> Report:
        raise ValueError("4711")

    monkeypatch.setattr("aegate_scu.retaining.retain", fails)

    def told() -> list[object]:
        records = [r for r in caplog.records if getattr(r, "event", None) == RETENTION_FAILED]
        return [r.event_fields["error"] for r in records]  # type: ignore[attr-defined] # what `Log` adds

    async with Clinic(place.db, DataFolder(place.root), database_url).worker() as worker:
        [said] = await eventually_async(told)
        assert worker.trouble() is None
    assert str(said).startswith("ValueError at test_retention.py:")


async def test_a_process_of_its_own_removes_once_and_ends(place: Place) -> None:
    await place.apply(*HOSPITAL, partition(images_days=1))
    assert blobs(place) == 3
    environ = {
        "AEGATE_DATA": str(place.root),
        "AEGATE_DATABASE_URL": place.db.url,
        "AEGATE_LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "aegate_scu.retaining"]
    done = await asyncio.create_subprocess_exec(*command, env=environ, stderr=asyncio.subprocess.PIPE)
    _, said = await asyncio.wait_for(done.communicate(), 60)
    assert (done.returncode, blobs(place)) == (0, 0), said
    [event] = [json.loads(line) for line in said.splitlines()]
    assert (event["event"], event["images"]) == ("retention.done", 3)


async def test_a_worker_that_must_not_removes_nothing(place: Place) -> None:
    await place.apply(*HOSPITAL, partition(images_days=1))
    here = Clinic(place.db, DataFolder(place.root), place.db.url)
    async with here.worker(retains=False) as worker:
        started = time.monotonic()
        await eventually_async(lambda: worker._beat > started)
    assert blobs(place) == 3


async def test_operations_go_ninety_days_after_their_end(place: Place) -> None:
    async with place.db.transaction() as tx:
        for ended, n in (
            (MUCH_LATER - OPERATIONS_KEPT, 1),
            (MUCH_LATER - OPERATIONS_KEPT + timedelta(seconds=1), 2),
        ):
            begun = await operations.begin(tx, Wanted("holdQueueItems", "anna"), f"k{n}", None, now=LATER)
            await operations.about(tx, begun.id, [1])
            await tx.execute("UPDATE operation SET finished_at = $2 WHERE id = $1", begun.id, ended)
        await operations.begin(tx, Wanted("holdQueueItems", "anna"), "open", None, now=LATER)
    await run(place, MUCH_LATER, dry_run=True)
    assert await place.count("operation") == 3
    await run(place, MUCH_LATER)
    kept = await place.db.fetch("SELECT idempotency_key FROM operation ORDER BY id")
    assert [r["idempotency_key"] for r in kept] == ["k2", "open"]
    assert (await place.count("operation_item"), await place.count("operation_partition")) == (1, 1)
