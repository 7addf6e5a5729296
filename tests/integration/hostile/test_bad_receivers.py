"""Peers that receive from us as no PACS should: each answer has its consequence, and none costs another object."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from aegate_core.database import as_datetime
from aegate_core.decisions.breaker import LONGEST_BACKOFF_S
from aegate_core.decisions.moving import NotMovingCode
from aegate_core.decisions.retry import Verdict
from aegate_core.resources.values import Timeouts
from aegate_core.services import pushing
from aegate_core.services.pushing import Answer, Ending, Moment
from tests.dicom import Instance, ct, ct_study
from tests.integration.scu.clinic import Clinic, clinic, entity, reaches, why
from tests.integration.scu.raw_peer import Store, raw_peer, response

LEASE = timedelta(minutes=1)
DAY = timedelta(hours=24)
FULL = "STATUS_A700: SINK cannot store now"

STATUSES: dict[int, tuple[str, int | None, str | None, int]] = {
    0x0000: ("STORED", 0x0000, None, 0),
    0x0107: ("WARNING", 0x0107, None, 0),
    0x0111: ("WARNING", 0x0111, None, 0),
    0x0116: ("WARNING", 0x0116, None, 0),
    0xB000: ("WARNING", 0xB000, None, 0),
    0xB006: ("WARNING", 0xB006, None, 0),
    0xB007: ("WARNING", 0xB007, None, 0),
    0xA800: ("DEAD", 0xA800, "STATUS_A800", 0),
    0xA900: ("DEAD", 0xA900, "STATUS_A900", 0),
    0x0122: ("DEAD", 0x0122, "STATUS_0122", 0),
    0x0110: ("PENDING", 0x0110, "STATUS_0110", 1),
    0x0117: ("PENDING", 0x0117, "STATUS_0117", 1),
    0x0210: ("PENDING", 0x0210, "STATUS_0210", 1),
    0x0211: ("PENDING", 0x0211, "STATUS_0211", 1),
    0x0212: ("PENDING", 0x0212, "STATUS_0212", 1),
    0x0213: ("PENDING", 0x0213, "STATUS_0213", 1),
    0xC000: ("PENDING", 0xC000, "STATUS_C000", 1),
    0xC123: ("PENDING", 0xC123, "STATUS_C123", 1),
    0xFE00: ("PENDING", 0xFE00, "STATUS_FE00", 1),
    0xFF00: ("PENDING", 0xFF00, "STATUS_FF00", 1),
}
"""Statuses of PS3.4 table B.2-1 and PS3.7 Annex C, with what becomes of the instance: state, status, code, attempts."""


async def test_every_status_has_the_consequence_of_its_class_in_one_study(
    database_url: str, tmp_path: Path
) -> None:
    objects = ct_study("s1", len(STATUSES))
    said = dict(zip((str(o.SOPInstanceUID) for o in objects), STATUSES, strict=True))

    async with clinic(database_url, tmp_path) as here:
        with raw_peer(lambda store: response(store.message_id, said[store.sop_instance_uid])) as peer:
            await here.configure(entity(peer.port))
            delivery = await here.enqueue(*await here.store(*objects))
            async with here.worker():
                await reaches(here, delivery, "RETRY")
                assert (await why(here, delivery))[0] is NotMovingCode.BACKOFF
        assert len(peer.stores) == len(STATUSES)
        rows = await here.db.fetch(
            "SELECT i.state, i.status, i.error_code, i.attempts, a.sop_instance_uid FROM delivery_instance i "
            "JOIN arrival a ON a.id = i.arrival_id"
        )
        got = {
            said[r["sop_instance_uid"]]: (r["state"], r["status"], r["error_code"], r["attempts"])
            for r in rows
        }
        assert got == STATUSES
        assert (await here.destination())["breaker"] == "CLOSED"


async def test_peer_that_closes_in_the_middle_of_an_object_gets_it_again_and_the_stored_ones_not(
    database_url: str, tmp_path: Path
) -> None:
    objects = [ct(Instance(number=n, rows=256, columns=256)) for n in range(1, 4)]

    async with clinic(database_url, tmp_path) as here:
        with raw_peer(lambda store: _stored_then_cut(store)) as peer:

            def _stored_then_cut(store: Store) -> bytes:
                peer.cuts = 1 if store.number == 1 else 0
                return response(store.message_id, 0x0000)

            await here.configure(entity(peer.port))
            delivery = await here.enqueue(*await here.store(*objects))
            async with here.worker():
                await reaches(here, delivery, "RETRY")
                assert [r[::2] for r in await here.instances(delivery)] == [
                    ("STORED", None),
                    ("PENDING", "ASSOCIATION_BROKE"),
                    ("STORED", None),
                ]
                assert (await here.delivery(delivery))["attempts"] == 0
                assert (await why(here, delivery))[0] is NotMovingCode.BACKOFF
                await here.retry_now()
                await reaches(here, delivery, "COMPLETED")
        assert len({s.sop_instance_uid for s in peer.stores}) == len(peer.stores) == 3


async def test_peer_that_changes_its_mind_halfway_gets_each_object_once(
    database_url: str, tmp_path: Path
) -> None:
    moods = {3: 0xA700, 4: 0xA701}

    async with clinic(database_url, tmp_path) as here:
        with raw_peer(lambda store: response(store.message_id, moods.get(store.number, 0x0000))) as peer:
            await here.configure(entity(peer.port))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 5)))
            async with here.worker():
                await reaches(here, delivery, "RETRY")
                assert [r[0] for r in await here.instances(delivery)].count("STORED") == 3
                await here.retry_now()
                await reaches(here, delivery, "COMPLETED")
        assert [r[0] for r in await here.instances(delivery)] == ["STORED"] * 5
        assert len(peer.stores) == 5 + len(moods)
        assert (await here.delivery(delivery))["attempts"] == 0


async def test_peer_that_answers_late_but_in_time_is_waited_for(database_url: str, tmp_path: Path) -> None:
    never = threading.Event()

    def late(store: Store) -> bytes:
        never.wait(1.2)
        return response(store.message_id, 0x0000)

    async with clinic(database_url, tmp_path) as here:
        with raw_peer(late) as peer:
            await here.configure(entity(peer.port, timeouts=Timeouts(dimse_response_s=5)))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 2)))
            async with here.worker():
                await reaches(here, delivery, "COMPLETED")
        assert (len(peer.stores), peer.aborts) == (2, 0)
        assert await here.history(delivery) == ["SCHEDULED", "IN_PROGRESS", "COMPLETED"]


async def test_peer_that_is_full_for_a_day_and_answers_echoes_costs_no_object(
    database_url: str, tmp_path: Path
) -> None:
    async with clinic(database_url, tmp_path) as here:
        await here.configure(entity(104, max_connections=2))
        for n in range(3):
            await here.enqueue(*await here.store(*ct_study(f"s{n}", 2)))
        start = now = datetime.now(UTC)
        trials: list[datetime] = []
        probes = 0
        while now < start + DAY:
            await pushing.promote(here.db, now=now)
            probe = await pushing.take_probe(here.db, now=now)
            if probe is not None:
                probes += 1
                await pushing.finish_probe(here.db, probe, None, Moment(now))
            if await _is_tried_and_refused(here, now):
                trials.append(now)
                if len(trials) > 3:
                    # Until the next answered echo nobody sends: neither another worker nor this one.
                    assert (
                        await pushing.claim(here.db, "other", LEASE, now=now + timedelta(seconds=4)) is None
                    )
            due = (await here.destination())["next_probe_at"]
            now = as_datetime(due) if due is not None else now + timedelta(seconds=6)

        assert probes == len(trials) - 3
        waits = [(b - a).total_seconds() for a, b in pairwise(trials[2:])]
        assert waits[:7] == [5, 10, 20, 40, 80, 160, 300]
        assert set(waits[7:]) == {LONGEST_BACKOFF_S}
        assert len(trials) < DAY / timedelta(seconds=LONGEST_BACKOFF_S) + 12
        rows = await here.db.fetch("SELECT DISTINCT state, attempts FROM delivery_instance")
        assert [(r["state"], r["attempts"]) for r in rows] == [("PENDING", 0)]
        assert set((await here.states()).values()) <= {"SCHEDULED", "RETRY"}
        destination = await here.destination()
        assert (destination["breaker"], destination["last_error"]) == ("OPEN", FULL)


async def _is_tried_and_refused(here: Clinic, now: datetime) -> bool:
    """Let a worker take what it may, and the peer answer 0xA700 to the first instance, as `push` then ends."""
    held = await pushing.claim(here.db, "w1", LEASE, now=now)
    if held is None:
        return False
    answer = Answer(held.instances[0], Verdict.TROUBLE, 0xA700)
    await pushing.record(here.db, held, [answer], Moment(now))
    await pushing.settle(here.db, held, Ending(FULL), Moment(now))
    return True
