"""Answers to C-STORE that are none, or not for this object: never a success, never a hang."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aegate_core.decisions.moving import NotMovingCode
from aegate_core.resources.values import Timeouts
from aegate_core.services import pushing
from aegate_core.services.pushing import Answer, Ending, Moment
from aegate_core.stores.blobs import FolderStore
from aegate_scu.peer import PeerAddress
from aegate_scu.push import Control, Push, push
from aegate_scu.storing import MOST_PDU_BYTES
from tests.dicom import Instance, ct, ct_study
from tests.integration.scu.clinic import breaker_is, clinic, data_digest, entity, reaches, why
from tests.integration.scu.raw_peer import Store, command, data, pdu, raw_peer, response
from tests.integration.waiting import eventually_async

SHORT = Timeouts(dimse_response_s=1)
LONGER_THAN_ANY_BUFFER = ct(Instance(rows=4096, columns=2048))
"""Of TCP: 16 MiB, so that what the peer says of the beginning is there before the end is sent."""


def good(store: Store) -> bytes:
    """Answer that the object is stored."""
    return response(store.message_id, 0x0000)


@pytest.mark.parametrize(
    "bad",
    [
        lambda store: response(store.message_id),
        lambda store: response(store.message_id, data_set_type=1) + data(2, b""),
        lambda store: response(store.message_id, 0x0000, data_set_type=1),
        lambda store: response(store.message_id + 1, 0x0000),
        lambda store: response(store.message_id, 0x0000, field=0x0001),
        lambda store: response(store.message_id, 0x0000)[:9],
        lambda store: data(3, b"") + pdu(7, bytes(4)),
        lambda store: pdu(9, b"nonsense"),
        lambda store: struct.pack(">BBL", 4, 0, 0xFFFFFFFF),
        lambda store: struct.pack(">BBL", 4, 0, 0x7FFFFFFF) + bytes(3_000_000),
        lambda store: b"",
        lambda store: data(2, b"ab") + good(store),
        lambda store: data(0, b"ab") * 3 + good(store),
        lambda store: data(3, command((0x0100, b"\1\0"), (0x0800, b"\1\0"))) + good(store),
        lambda store: data(3, good(store)[12:] + struct.pack("<HHL", 0, 0x1000, 90) + b"1.2"),
        lambda store: data(1, bytes(20_000)) + good(store),
    ],
    ids=[
        "no status",
        "empty data set",
        "data set that never comes",
        "of another message",
        "request with a status",
        "half a PDU",
        "empty, then abort",
        "unknown PDU",
        "endless PDU",
        "endless PDU that comes",
        "connection ends",
        "data set without a command",
        "unfinished data set without a command",
        "after a request",
        "element beyond the end",
        "endless command",
    ],
)
async def test_what_is_no_answer_is_destination_trouble(
    database_url: str, tmp_path: Path, bad: Callable[[Store], bytes]
) -> None:
    async with clinic(database_url, tmp_path) as here:
        with raw_peer(lambda store: bad(store) if store.number == 2 else good(store)) as peer:
            await here.configure(entity(peer.port, timeouts=SHORT))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 2)))
            async with here.worker():
                await reaches(here, delivery, "RETRY")
                first, second = await here.instances(delivery)
                assert (first, second) == (("STORED", 0, None), ("PENDING", None, "ASSOCIATION_BROKE"))
                row = await here.delivery(delivery)
                assert (row["instances_done"], row["instances_failed"], row["attempts"]) == (1, 0, 0)
                assert await why(here, delivery) == (
                    NotMovingCode.BACKOFF,
                    "BROKEN: SINK gave no status for an instance",
                )
                assert (await here.destination())["failures_in_row"] == 1
                assert await here.db.fetch_value("SELECT count(*) FROM slot WHERE token IS NOT NULL") == 0
                await here.retry_now()
                await reaches(here, delivery, "COMPLETED")
            sent = [store.sha256 for store in peer.stores]
            assert sorted(set(sent)) == sorted(data_digest(p) for p in here.stored.values())
            assert (len(sent), sent[1]) == (3, sent[2])


async def test_an_answer_that_comes_twice_is_not_taken_for_the_next_object(
    database_url: str, tmp_path: Path
) -> None:
    def answer(store: Store) -> bytes:
        if store.number == 1:
            return good(store) * 2
        return response(store.message_id, 0xA900) if store.number == 2 else good(store)

    async with clinic(database_url, tmp_path) as here:
        with raw_peer(answer) as peer:
            await here.configure(entity(peer.port, timeouts=SHORT))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 3)))
            async with here.worker():
                await reaches(here, delivery, "FAILED")
            states = {r[0]: r[1] for r in await here.instances(delivery)}
            assert states == {"STORED": 0, "DEAD": 0xA900}


@pytest.mark.parametrize("ahead", [1, 2])
async def test_an_answer_to_what_was_not_sent_yet_is_none(
    database_url: str, tmp_path: Path, ahead: int
) -> None:
    def answer(store: Store) -> bytes:
        if store.number == 1:
            return good(store) + response(store.message_id + ahead, 0x0000)
        return response(store.message_id, 0xA900)

    async with clinic(database_url, tmp_path) as here:
        with raw_peer(answer) as peer:
            await here.configure(entity(peer.port, timeouts=SHORT))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 3)))

            async def has_failed() -> bool:
                await here.retry_now()
                return (await here.states())[delivery] == "FAILED"

            async with here.worker():
                await eventually_async(has_failed, what="the other two are refused, as the peer says")
            states = [r[:2] for r in await here.instances(delivery)]
            assert states == [("STORED", 0), ("DEAD", 0xA900), ("DEAD", 0xA900)]


async def test_an_object_is_not_stored_before_it_is_out(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        with raw_peer(good, early=response(1, 0x0000)) as peer:
            await here.configure(entity(peer.port, timeouts=SHORT))
            delivery = await here.enqueue(*await here.store(LONGER_THAN_ANY_BUFFER))
            async with here.worker():
                await reaches(here, delivery, "RETRY")
            assert await here.instances(delivery) == [("PENDING", None, "ASSOCIATION_BROKE")]
            assert peer.stores == []


async def test_a_peer_may_refuse_an_object_before_it_has_all_of_it(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        with raw_peer(lambda store: b"", early=response(1, 0xA900)) as peer:
            await here.configure(entity(peer.port, timeouts=SHORT))
            delivery = await here.enqueue(*await here.store(LONGER_THAN_ANY_BUFFER))
            async with here.worker():
                await reaches(here, delivery, "FAILED")
            assert await here.instances(delivery) == [("DEAD", 0xA900, "STATUS_A900")]


async def test_one_object_that_a_full_peer_does_not_take_lets_the_others_pass(
    database_url: str, tmp_path: Path
) -> None:
    large, *others = ct_study("s1", 4)
    refused = str(large.SOPInstanceUID)

    def answer(store: Store) -> bytes:
        return response(store.message_id, 0xA700 if store.sop_instance_uid == refused else 0x0000)

    async with clinic(database_url, tmp_path) as here:
        with raw_peer(answer) as peer:
            await here.configure(entity(peer.port, max_connections=1))
            stuck = await here.enqueue(*await here.store(large))
            behind = [await here.enqueue(*await here.store(o)) for o in others]
            async with here.worker():
                for delivery in behind:
                    await reaches(here, delivery, "COMPLETED")
                assert await here.instances(stuck) == [("PENDING", 0xA700, "STATUS_A700")]
                assert (await here.delivery(stuck))["attempts"] == 0


async def test_fault_of_ours_is_put_down_to_its_instance(database_url: str, tmp_path: Path) -> None:
    seen: list[Answer] = []

    def report(answer: Answer, seconds: float) -> None:
        if seen:
            raise KeyError("something that nobody thought of")
        seen.append(answer)

    async with clinic(database_url, tmp_path) as here:
        with raw_peer(good) as peer:
            await here.configure(entity(peer.port))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 3)))
            now = datetime.now(UTC)
            claim = await pushing.claim(here.db, "w", timedelta(minutes=1), now=now)
            assert claim is not None
            address = PeerAddress(entity(peer.port), "AEGATE")
            control = Control(lease_until=time.monotonic() + 60)
            job = Push(claim, address, FolderStore(here.data.blobs), control, report)
            ending = await asyncio.to_thread(push, job)
            assert ending == Ending("FAULT: KeyError in this worker", broke_on=claim.instances[1])
            await pushing.record(here.db, claim, seen, Moment(now))
            settled = await pushing.settle(here.db, claim, ending, Moment(now))
            assert settled.states == {delivery: "SCHEDULED"}
            assert [r[::2] for r in await here.instances(delivery)] == [
                ("STORED", None),
                ("PENDING", "ASSOCIATION_BROKE"),
                ("PENDING", None),
            ]
        assert (len(peer.stores), peer.aborts) == (2, 1)


async def test_name_of_several_addresses_is_called_at_each(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        with raw_peer(good) as peer:
            # Most machines name [::1] first, where nobody listens.
            await here.configure(entity(peer.port, node="localhost"))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 1)))
            async with here.worker():
                await reaches(here, delivery, "COMPLETED")
            assert len(peer.stores) == 1
            assert await here.instances(delivery) == [("STORED", 0, None)]


async def test_peer_of_too_short_pdus_is_in_trouble_and_says_why(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        with raw_peer(good, longest_pdu=6) as peer:
            await here.configure(entity(peer.port))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 1)))
            async with here.worker():
                await breaker_is(here, "OPEN")
                assert (await why(here, delivery))[1].endswith(
                    "PDU_LENGTH: SINK takes PDUs of 6 bytes, too short for data"
                )
            assert (peer.stores, await here.instances(delivery)) == ([], [("PENDING", None, None)])


@pytest.mark.parametrize("longest", [0, 17, 4097, 0xFFFFFFFF])
async def test_objects_go_out_in_pieces_that_the_peer_takes(
    database_url: str, tmp_path: Path, longest: int
) -> None:
    async with clinic(database_url, tmp_path) as here:
        with raw_peer(good, longest_pdu=longest) as peer:
            await here.configure(entity(peer.port))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 2)))
            async with here.worker():
                await reaches(here, delivery, "COMPLETED")
            assert sorted(s.sha256 for s in peer.stores) == sorted(
                data_digest(p) for p in here.stored.values()
            )
            assert peer.longest_seen <= (longest or MOST_PDU_BYTES)
