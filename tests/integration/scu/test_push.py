"""What a worker does with a delivery, proved at real receivers."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from aegate_core.decisions.moving import NotMovingCode
from aegate_core.dicom.ae_title import AETitle
from aegate_core.resources.values import Level, Push, Timeouts
from aegate_core.services import deliveries
from aegate_scp.sink import Sink, SinkOptions
from tests.dicom import ct_study, pydicom_test_files
from tests.integration.peers import StoreSCP
from tests.integration.processes import free_port
from tests.integration.scu.clinic import (
    PACS,
    Clinic,
    breaker_is,
    clinic,
    data_digest,
    digests,
    entity,
    reaches,
    why,
)
from tests.integration.waiting import eventually_async


async def test_study_arrives_byte_for_byte(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        with Sink(SinkOptions(tmp_path / "sink")) as sink:
            await here.configure(entity(sink.port))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 5)))
            async with here.worker():
                await reaches(here, delivery, "COMPLETED")
            assert digests([r.path for r in sink.received]) == digests(list(here.stored.values()))
            assert {r.calling_title for r in sink.received} == {"AEGATE"}
            assert await here.history(delivery) == ["SCHEDULED", "IN_PROGRESS", "COMPLETED"]
            assert await here.instances(delivery) == [("STORED", 0, None)] * 5
            row = await here.delivery(delivery)
            assert (row["instances_done"], row["instances_failed"], row["attempts"]) == (5, 0, 0)
            assert await here.db.fetch_value("SELECT count(*) FROM slot WHERE token IS NOT NULL") == 0


async def test_images_of_one_destination_share_an_association(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        with Sink(SinkOptions(tmp_path / "sink")) as sink:
            await here.configure(entity(sink.port, max_connections=1))
            for arrival in await here.store(*ct_study("s1", 8)):
                await here.enqueue(arrival, level=Level.IMAGE)
            async with here.worker():
                for delivery in await here.states():
                    await reaches(here, delivery, "COMPLETED")
            assert (len(sink.received), sink.associations) == (8, 1)


async def test_new_work_is_seen_within_a_third_of_a_second(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        with Sink(SinkOptions(tmp_path / "sink", transfer_syntaxes=(ExplicitVRLittleEndian,))) as sink:
            await here.configure(entity(sink.port))
            arrivals = await here.store(*ct_study("s1", 5))
            async with here.worker():
                waits = []
                for arrival in arrivals:
                    delivery = await here.enqueue(arrival)
                    await reaches(here, delivery, "COMPLETED")
                    row = await here.db.fetch_one(
                        "SELECT created_at, started_at FROM delivery WHERE id = $1", delivery
                    )
                    assert row is not None
                    waits.append((_at(row["started_at"]) - _at(row["created_at"])).total_seconds())
            assert sorted(waits)[2] <= 0.3


def _at(value: object) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(str(value))


async def test_destination_that_is_down_costs_no_attempt_and_recovers(
    database_url: str, tmp_path: Path
) -> None:
    port = free_port()
    async with clinic(database_url, tmp_path) as here:
        await here.configure(entity(port))
        waiting = [await here.enqueue(*await here.store(*ct_study(f"s{n}", 2))) for n in range(4)]
        async with here.worker():
            await breaker_is(here, "OPEN")

            async def all_wait() -> bool:
                return set((await here.states()).values()) == {"SCHEDULED"}

            await eventually_async(all_wait)
            code, text = await why(here, waiting[3])
            assert code is NotMovingCode.BREAKER_OPEN
            assert "CONNECT" in text
            with Sink(SinkOptions(tmp_path / "sink", port=port)) as sink:
                await here.probe_now()
                for delivery in waiting:
                    await reaches(here, delivery, "COMPLETED")
                assert len(sink.received) == 8
            assert (await here.destination())["breaker"] == "CLOSED"
            assert [(await here.delivery(d))["attempts"] for d in waiting] == [0, 0, 0, 0]


async def test_destination_that_never_answers_keeps_no_other_waiting(
    database_url: str, tmp_path: Path
) -> None:
    port = free_port()
    with ExitStack() as stack:
        # The kernel takes these connections; nobody ever reads what comes over them.
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        async with clinic(database_url, tmp_path) as here:
            await here.configure(
                entity(port),
                *(
                    entity(s.getsockname()[1], name=f"s{n}", title=f"S{n}", timeouts=Timeouts(acse_s=20))
                    for n, s in enumerate(silent)
                ),
            )
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 1)))
            past = datetime.now(UTC) - timedelta(seconds=1)
            await here.db.execute("UPDATE destination SET breaker = 'OPEN', next_probe_at = $1", past)
            later = past + timedelta(milliseconds=1)
            await here.db.execute("UPDATE destination SET next_probe_at = $1 WHERE ae = $2", later, str(PACS))
            with Sink(SinkOptions(tmp_path / "sink", port=port)):
                async with here.worker() as worker:
                    await reaches(here, delivery, "COMPLETED", deadline_s=12)
                    assert worker.trouble() is None
                    for s in silent:
                        s.close()


@pytest.mark.parametrize("status", [0xA900, 0xA801, 0x0122])
async def test_refused_instance_is_dead_lettered_and_the_rest_arrives(
    database_url: str, tmp_path: Path, status: int
) -> None:
    async with clinic(database_url, tmp_path) as here:
        with Sink(SinkOptions(tmp_path / "sink", statuses={2: status})) as sink:
            await here.configure(entity(sink.port))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 4)))
            async with here.worker():
                await reaches(here, delivery, "FAILED")
            code = f"STATUS_{status:04X}"
            assert await here.instances(delivery) == [
                ("STORED", 0, None),
                ("DEAD", status, code),
                ("STORED", 0, None),
                ("STORED", 0, None),
            ]
            assert await why(here, delivery) == (
                NotMovingCode.DEAD,
                f"3 of 4 delivered, 1 given up: 3 of 4 delivered ({code})",
            )
            assert (await here.destination())["breaker"] == "CLOSED"
            async with here.db.transaction() as tx:
                await deliveries.retry(tx, [delivery], actor="ann", now=datetime.now(UTC))
            async with here.worker():
                await reaches(here, delivery, "COMPLETED")
            assert len(sink.received) == 4


@pytest.mark.parametrize("status", [0xB000, 0xB007, 0x0111])
async def test_warning_counts_as_stored(database_url: str, tmp_path: Path, status: int) -> None:
    async with clinic(database_url, tmp_path) as here:
        with Sink(SinkOptions(tmp_path / "sink", statuses={1: status})) as sink:
            await here.configure(entity(sink.port))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 2)))
            async with here.worker():
                await reaches(here, delivery, "WARNING")
            assert await here.instances(delivery) == [("WARNING", status, None), ("STORED", 0, None)]


async def test_full_peer_opens_the_breaker_and_a_stored_trial_closes_it(
    database_url: str, tmp_path: Path
) -> None:
    async with clinic(database_url, tmp_path) as here:
        refusals = dict.fromkeys([1, 2, 3, 4], 0xA700)
        with Sink(SinkOptions(tmp_path / "sink", statuses=refusals)) as sink:
            await here.configure(entity(sink.port, max_connections=1))
            first = await here.enqueue(*await here.store(*ct_study("s1", 2)))
            second = await here.enqueue(*await here.store(*ct_study("s2", 2)))
            async with here.worker():
                await breaker_is(here, "OPEN")
                assert (await here.destination())["probe_backoff_s"] == 5
                await here.probe_now()

                async def trial_failed() -> bool:
                    return (await here.destination())["probe_backoff_s"] == 10

                await eventually_async(trial_failed)
                assert sink.received == ()
                await here.probe_now()
                await reaches(here, first, "COMPLETED")
                await reaches(here, second, "COMPLETED")
            assert len(sink.received) == 4
            assert (await here.delivery(first))["attempts"] == 0


async def test_suspect_instance_has_three_tries(database_url: str, tmp_path: Path) -> None:
    objects = ct_study("s1", 3)
    async with clinic(database_url, tmp_path) as here:
        bad = {str(objects[1].SOPInstanceUID): 0xC000}
        with Sink(SinkOptions(tmp_path / "sink", statuses=bad)) as sink:
            await here.configure(entity(sink.port))
            delivery = await here.enqueue(*await here.store(*objects))
            async with here.worker():
                for _ in range(2):
                    await reaches(here, delivery, "RETRY")
                    code, _text = await why(here, delivery)
                    assert code is NotMovingCode.BACKOFF
                    await here.retry_now()
                    await eventually_async(lambda: _left(here, delivery, "RETRY"))
                await reaches(here, delivery, "FAILED")
            assert (await here.instances(delivery))[1] == ("DEAD", 0xC000, "STATUS_C000")
            assert len(sink.received) == 2
            assert (await here.destination())["breaker"] == "CLOSED"


async def _left(here: Clinic, delivery: int, state: str) -> bool:
    return (await here.states())[delivery] != state


async def test_three_studies_in_a_row_so_refused_are_the_destination(
    database_url: str, tmp_path: Path
) -> None:
    async with clinic(database_url, tmp_path) as here:
        refusals = dict.fromkeys([1, 2, 3], 0xC001)
        with Sink(SinkOptions(tmp_path / "sink", statuses=refusals)) as sink:
            await here.configure(entity(sink.port, max_connections=1))
            ids = [await here.enqueue(*await here.store(*ct_study(f"s{n}", 1))) for n in range(3)]
            async with here.worker():
                await breaker_is(here, "OPEN")
                charged = await here.db.fetch_value("SELECT sum(attempts) FROM delivery_instance")
                assert int(charged) == 0
                await here.retry_now()
                await here.probe_now()
                for delivery in ids:
                    await reaches(here, delivery, "COMPLETED")


async def test_permanent_rejection_is_probed_by_an_association(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        with Sink(SinkOptions(tmp_path / "sink", calling_titles=("STORECT",))) as sink:
            await here.configure(entity(sink.port))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 1)))
            async with here.worker():
                await breaker_is(here, "REJECTED_BY_PEER")
                row = await here.destination()
                assert row["last_error"] == "REJECTED: SINK answered A-ASSOCIATE-RJ (1,1,3)"
                assert (await here.states())[delivery] == "SCHEDULED"
                await here.configure(entity(sink.port, push=Push(calling_title=AETitle("STORECT"))))
                await here.probe_now()
                await reaches(here, delivery, "COMPLETED")
            assert {r.calling_title for r in sink.received} == {"STORECT"}


async def test_native_and_compressed_objects_reach_a_peer_that_takes_only_implicit(
    database_url: str, tmp_path: Path
) -> None:
    names = (
        "MR_small_bigendian.dcm",
        "SC_jpeg_no_color_transform.dcm",
        "JPEG-LL.dcm",
        "image_dfl.dcm",
        "rtdose_expb.dcm",
    )
    files = [p for p in pydicom_test_files() if p.name in names]
    assert len(files) >= 4
    async with clinic(database_url, tmp_path) as here:
        options = SinkOptions(tmp_path / "sink", transfer_syntaxes=(ImplicitVRLittleEndian,))
        with Sink(options) as sink:
            await here.configure(entity(sink.port))
            arrivals = await here.store(*files)
            delivery = await here.enqueue(*arrivals)
            async with here.worker():
                await reaches(here, delivery, "COMPLETED")
            got = {r.sop_instance_uid: r for r in sink.received}
            for sent in files:
                ds = dcmread(sent)
                received = got[str(ds.SOPInstanceUID)]
                assert received.transfer_syntax == ImplicitVRLittleEndian
                assert np.array_equal(dcmread(received.path).pixel_array, ds.pixel_array)
            recorded = await here.db.fetch("SELECT delivered_sha256 FROM delivery_instance")
            assert sorted(r["delivered_sha256"] for r in recorded) == digests([r.path for r in sink.received])


async def test_peer_without_a_fitting_context_gets_nothing_and_says_so(
    database_url: str, tmp_path: Path
) -> None:
    video = "1.2.840.10008.1.2.4.102"
    async with clinic(database_url, tmp_path) as here:
        objects = ct_study("s1", 2)
        options = SinkOptions(tmp_path / "sink", transfer_syntaxes=(ExplicitVRLittleEndian,))
        with Sink(options) as sink:
            await here.configure(entity(sink.port))
            arrivals = await here.store(*objects)
            await here.db.execute(
                "UPDATE arrival SET transfer_syntax_uid = $2 WHERE id = $1", arrivals[0], video
            )
            mixed = await here.enqueue(*arrivals)
            alone = await here.enqueue(arrivals[0])
            async with here.worker():
                await reaches(here, mixed, "FAILED")
                await reaches(here, alone, "FAILED")
            assert await here.instances(mixed) == [("DEAD", None, "NO_CONTEXT"), ("STORED", 0, None)]
            assert await here.instances(alone) == [("DEAD", None, "NO_CONTEXT")]
            assert (await here.destination())["breaker"] == "CLOSED"


async def test_cancel_and_hold_take_effect_between_instances(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        with Sink(
            SinkOptions(tmp_path / "sink", delay_ms=100, transfer_syntaxes=(ExplicitVRLittleEndian,))
        ) as sink:
            await here.configure(entity(sink.port))
            canceled = await here.enqueue(*await here.store(*ct_study("s1", 20)))
            held = await here.enqueue(*await here.store(*ct_study("s2", 20)))
            now = datetime.now(UTC)
            async with here.worker():
                await eventually_async(lambda: len(sink.received) >= 4)
                async with here.db.transaction() as tx:
                    done = await deliveries.cancel(tx, [canceled], actor="ann", now=now)
                    assert (done.done, done.asked, done.refused) == ((), (canceled,), {})
                    await deliveries.hold(tx, [held], actor="ann", reason="wait for ward", now=now)
                await reaches(here, canceled, "CANCELED")
                await reaches(here, held, "HELD")
                assert await why(here, held) == (NotMovingCode.HELD, "held by ann: wait for ward")
                stored = [r[0] for r in await here.instances(canceled)].count("STORED")
                assert 0 < stored < 20
                assert len(sink.received) < 40
                sent = [r[0] for r in await here.instances(held)].count("STORED")
                async with here.db.transaction() as tx:
                    await deliveries.resume(tx, [held], actor="ann", now=now)
                await reaches(here, held, "COMPLETED")
            assert len(sink.received) == stored + 20
            assert 0 < sent < 20


async def test_held_destination_stops_in_mid_delivery_and_goes_on(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        with Sink(SinkOptions(tmp_path / "sink", delay_ms=50)) as sink:
            await here.configure(entity(sink.port))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 20)))
            now = datetime.now(UTC)
            async with here.worker():
                await eventually_async(lambda: len(sink.received) >= 2)
                async with here.db.transaction() as tx:
                    assert await deliveries.hold_destination(tx, PACS, actor="ann", reason="tests", now=now)
                await reaches(here, delivery, "SCHEDULED")
                assert len(sink.received) < 20
                assert await why(here, delivery) == (
                    NotMovingCode.DESTINATION_HELD,
                    "default/pacs is held by ann: tests",
                )
                async with here.db.transaction() as tx:
                    assert await deliveries.resume_destination(tx, PACS, actor="ann", now=now)
                await reaches(here, delivery, "COMPLETED")
            assert len(sink.received) == 20


async def test_stopped_worker_leaves_the_rest_to_the_next(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        with Sink(SinkOptions(tmp_path / "sink", delay_ms=30)) as sink:
            await here.configure(entity(sink.port))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 20)))
            async with here.worker("w1"):
                await eventually_async(lambda: len(sink.received) >= 2)
            assert (await here.states())[delivery] == "SCHEDULED"
            assert len(sink.received) < 20
            async with here.worker("w2"):
                await reaches(here, delivery, "COMPLETED")
            assert len(sink.received) == 20


async def test_dcmtk_receives_what_was_sent(
    database_url: str, tmp_path: Path, start_store_scp: Callable[..., StoreSCP]
) -> None:
    async with clinic(database_url, tmp_path) as here:
        peer = start_store_scp(title="PACS")
        await here.configure(entity(peer.port, title="PACS"))
        delivery = await here.enqueue(*await here.store(*ct_study("s1", 4)))
        async with here.worker():
            await reaches(here, delivery, "COMPLETED")
        assert digests(peer.received()) == digests(list(here.stored.values()))
        assert len({data_digest(p) for p in peer.received()}) == 4


async def test_removed_destination_keeps_its_items_until_it_is_back(
    database_url: str, tmp_path: Path
) -> None:
    async with clinic(database_url, tmp_path) as here:
        with Sink(SinkOptions(tmp_path / "sink")) as sink:
            await here.configure(entity(sink.port))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 1)))
            await here.configure()
            assert (await here.states())[delivery] == "HELD"
            assert (await why(here, delivery))[0] is NotMovingCode.DESTINATION_GONE
            async with here.worker():
                await here.configure(entity(sink.port))
                await reaches(here, delivery, "COMPLETED")
            assert await here.history(delivery) == [
                "SCHEDULED",
                "HELD",
                "SCHEDULED",
                "IN_PROGRESS",
                "COMPLETED",
            ]
