"""What is done with images that lie in a bucket: indexed, pushed, removed by age, checked, backed up and restored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from aegate_core.database import open_database
from aegate_core.decisions.moving import OUR_FAULTS, NotMovingCode
from aegate_core.dicom.arrival_ids import new_arrival_id
from aegate_core.errors import BucketCredentials, BucketMissing, BucketUnreachable
from aegate_core.events import DATABASE_AWAY, RETENTION_FAILED, Event
from aegate_core.services.backup import Job, make_backup, restore_backup
from aegate_core.services.fsck import Finding, Kind, Look, Summary, check, repair
from aegate_core.services.retention import retain
from aegate_core.services.studies import close_due
from aegate_core.settings import DataFolder
from aegate_core.stores.blobs import blob_key
from aegate_scp.sink import Sink, SinkOptions
from tests.dicom import ct_study
from tests.integration.backup.conftest import EmptyDatabase
from tests.integration.bucket_server import NAME, BucketServer
from tests.integration.intake.hospital import HOSPITAL, Place, at, spool_folder
from tests.integration.retention.conftest import deliver, partition
from tests.integration.scu.clinic import Clinic, clinic, digests, entity, reaches, why
from tests.integration.waiting import eventually_async

LATER = at(90 * 86400)


@pytest.fixture
async def place(database_url: str, tmp_path: Path, server: BucketServer) -> AsyncIterator[Place]:
    """Three images of a study in a bucket: closed, routed, acknowledged."""
    async with open_database(database_url) as db:
        with spool_folder(tmp_path / "spool") as spool:
            here = Place(db, tmp_path, spool, server.bucket)
            await here.apply(*HOSPITAL, partition())
            here.receive_all(ct_study("s1", 3))
            await here.index()
            assert len(await close_due(db, now=at(600))) == 1
            await deliver(here)
            yield here


async def found(place: Place, *, digests: bool = True) -> list[Finding]:
    return [f async for f in check(place.db, place.data, Summary(), look=Look(digests))]


async def test_what_was_indexed_lies_in_the_bucket_and_left_the_spool(
    place: Place, server: BucketServer, tmp_path: Path
) -> None:
    rows = await place.db.fetch("SELECT blob_key FROM arrival ORDER BY id")
    assert sorted(str(r["blob_key"]) for r in rows) == server.names()
    assert (len(rows), place.spooled()) == (3, [])
    assert list(tmp_path.rglob("blobs/*")) == []


async def test_nothing_leaves_the_spool_that_the_bucket_did_not_take(
    place: Place, server: BucketServer
) -> None:
    place.receive_all(ct_study("s2", 3))
    server.give(secret_key="wrong")
    with pytest.raises(BucketCredentials):
        await place.index()
    assert (len(place.spooled()), await place.count("arrival")) == (3, 3)
    server.give()
    assert (await place.index()).new == 3
    assert (len(server.names()), place.spooled()) == (6, [])


async def test_fsck_tells_missing_changed_unknown_and_foreign_objects(
    place: Place, server: BucketServer
) -> None:
    assert await found(place) == []
    missing, changed, _ = server.names()
    unknown, client = blob_key(new_arrival_id()), server.client()
    whole = (server.objects / changed).read_bytes()
    client.delete_object(Bucket=NAME, Key=server.prefix + missing)
    (server.objects / changed).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # behind the server's back
    client.put_object(Bucket=NAME, Key=server.prefix + unknown, Body=whole)
    client.put_object(Bucket=NAME, Key=server.prefix + "notes.txt", Body=b"mine")

    expected = [Kind.BLOB_CHANGED, Kind.BLOB_MISSING, Kind.BLOB_UNKNOWN, Kind.FOREIGN_FILE]
    findings = await found(place)
    assert sorted(f.kind for f in findings) == expected
    assert [f.subject for f in findings if f.kind is Kind.FOREIGN_FILE] == ["blobs/notes.txt"]
    assert sorted(f.kind for f in await found(place, digests=False)) == expected[1:]

    for finding in findings:
        if finding.is_repairable:
            await repair(place.db, place.data, finding, now=at(700))
    assert sorted(f.kind for f in await found(place)) == [
        Kind.BLOB_CHANGED,
        Kind.BLOB_MISSING,
        Kind.FOREIGN_FILE,
    ]
    assert await place.count("quarantined_object", "ae = 'unknown/unknown'") == 1
    assert unknown in server.names()


async def test_fsck_finds_no_image_missing_where_there_is_no_bucket(
    place: Place, server: BucketServer
) -> None:
    for key in server.names():
        server.client().delete_object(Bucket=NAME, Key=server.prefix + key)
    server.client().delete_bucket(Bucket=NAME)
    with pytest.raises(BucketMissing):
        await found(place)


async def test_retention_removes_objects_and_what_killed_uploads_left(
    place: Place, server: BucketServer
) -> None:
    assert len(server.names()) == 3
    report = await retain(place.db, place.data, now=LATER)
    assert (report.partitions["default/default"].images, server.names()) == (3, [])
    assert await place.count("arrival", "blob_key <> ''") == 0


async def test_retention_removes_nothing_while_the_bucket_is_away(place: Place, server: BucketServer) -> None:
    server.give(secret_key="wrong")
    with pytest.raises(BucketCredentials):
        await retain(place.db, place.data, now=LATER)
    server.give()
    assert (len(server.names()), await place.count("arrival", "removed_at IS NULL")) == (3, 3)
    await retain(place.db, place.data, now=LATER)
    assert server.names() == []


async def test_worker_that_cannot_remove_says_it_of_the_bucket_and_not_of_the_database(
    place: Place, server: BucketServer, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.give(secret_key="wrong")

    def told(event: Event) -> list[str]:
        records = [r for r in caplog.records if getattr(r, "event", None) == event]
        return [str(r.event_fields["error"]) for r in records]  # type: ignore[attr-defined] # what `Log` adds

    async with Clinic(place.db, place.data, database_url).worker() as worker:
        [why_not] = await eventually_async(lambda: told(RETENTION_FAILED), deadline_s=60)
        assert worker.metrics.is_database_away._value.get() == 0

    assert why_not.startswith("bucket 'images' at http://127.0.0.1:")
    assert "got SignatureDoesNotMatch (HTTP 403): put the right access-key-id" in why_not
    assert told(DATABASE_AWAY) == []


async def test_backup_copies_the_objects_and_a_restore_puts_them_into_the_bucket(
    place: Place, server: BucketServer, tmp_path: Path, empty_database: EmptyDatabase
) -> None:
    kept = {key: (server.objects / key).read_bytes() for key in server.names()}
    target, root = tmp_path / "target", tmp_path / "restored"
    made = await make_backup(Job(place.db, place.data, target, data_format=1, now=LATER))
    assert (made.new_images, made.manifest.images, made.manifest.missing) == (3, 3, ())
    again = await make_backup(Job(place.db, place.data, target, data_format=1, now=LATER + timedelta(1)))
    assert (again.new_images, again.manifest.images) == (0, 3)
    assert {str(p.relative_to(target / "blobs")): p.read_bytes() for p in target.glob("blobs/*/*/*")} == kept

    into, database = DataFolder(root, replace(server.bucket, prefix="restored/")), empty_database()
    await restore_backup(target, into, database=database, data_format=1)

    restored = replace(server, prefix="restored/")
    assert {key: (restored.objects / key).read_bytes() for key in restored.names()} == kept
    async with open_database(database or f"sqlite://{root / 'aegate.sqlite3'}") as db:
        assert [f async for f in check(db, into, Summary())] == []


async def test_object_changed_behind_our_back_is_not_sent_until_it_is_mended(
    database_url: str, tmp_path: Path, server: BucketServer
) -> None:
    async with clinic(database_url, tmp_path, server.bucket) as here:
        with Sink(SinkOptions(tmp_path / "sink", transfer_syntaxes=("1.2.840.10008.1.2",))) as sink:
            await here.configure(entity(sink.port))
            arrivals = await here.store(*ct_study("s1", 3))
            blob = server.objects / blob_key(arrivals[1])
            whole = blob.read_bytes()
            blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
            delivery = await here.enqueue(*arrivals)
            async with here.worker():
                await reaches(here, delivery, "RETRY")
                assert (await here.instances(delivery))[1] == ("PENDING", None, "BLOB_DAMAGED")
                assert len(sink.received) == 2
                blob.write_bytes(whole)
                await here.retry_now()
                await reaches(here, delivery, "COMPLETED")
            assert len(sink.received) == 3
        assert list(here.data.blobs.iterdir()) == []


async def test_delivery_waits_for_a_bucket_that_is_away_and_goes_when_it_is_back(
    database_url: str, tmp_path: Path, server: BucketServer
) -> None:
    async with clinic(database_url, tmp_path, server.bucket) as here:
        with Sink(SinkOptions(tmp_path / "sink")) as sink:
            await here.configure(entity(sink.port))
            arrivals = await here.store(*ct_study("s1", 2))
            assert server.child is not None
            server.child.kill()
            delivery = await here.enqueue(*arrivals)
            async with here.worker() as worker:
                await reaches(here, delivery, "RETRY", deadline_s=60)
                text = OUR_FAULTS[BucketUnreachable.code][0]
                assert await why(here, delivery) == (NotMovingCode.BACKOFF, text)
                await eventually_async(lambda: "must answer" in (worker.trouble() or ""), deadline_s=60)
                row = await here.delivery(delivery)
                assert (row["attempts"], row["instances_failed"], len(sink.received)) == (0, 0, 0)
                assert (await here.destination())["breaker"] == "CLOSED"
                with server.running():
                    await eventually_async(lambda: worker.trouble() is None, deadline_s=60)
                    await here.retry_now()
                    await reaches(here, delivery, "COMPLETED", deadline_s=60)
            assert digests([r.path for r in sink.received]) == digests(list(here.stored.values()))
