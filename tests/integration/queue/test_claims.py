"""Slots, leases, fencing and upkeep of the queue, without any peer."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aegate_core.database import DatabaseClock, as_datetime, open_database
from aegate_core.decisions.breaker import BreakerState
from aegate_core.decisions.retry import Verdict
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import InvalidInput, InvalidValue, NotFound
from aegate_core.resources.values import Level
from aegate_core.services import deliveries, pushing
from aegate_core.services.deliveries import NewDelivery, SendByHand
from aegate_core.services.pushing import Answer, Ending, Moment, SlotLost
from aegate_core.stores.queue import claiming, wishes
from tests.dicom import ct_study
from tests.integration.processes import free_port
from tests.integration.scu.clinic import CT1, PACS, Clinic, breaker_is, clinic, entity

LEASE = timedelta(seconds=30)
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


async def filled(here: Clinic, *, limit: int, items: int) -> list[int]:
    """Configure one receiver and enqueue ``items`` studies of one instance."""
    await here.configure(entity(104, max_connections=limit))
    arrivals = await here.store(*ct_study("s", items))
    return [await here.enqueue(a) for a in arrivals]


async def test_many_claimers_take_exactly_the_limit(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        ids = await filled(here, limit=3, items=8)
        async with AsyncExitStack() as stack:
            databases = [await stack.enter_async_context(open_database(database_url)) for _ in range(6)]
            claims = [
                c
                for _ in range(3)
                for c in await asyncio.gather(
                    *(pushing.claim(db, f"w{n}", LEASE, now=NOW) for n, db in enumerate(databases))
                )
                if c is not None
            ]
        taken = [i for c in claims for i in c.delivery_ids]
        assert (len(claims), len({c.slot_id for c in claims}), len({c.token for c in claims})) == (3, 3, 3)
        assert sorted(taken) == ids[:3]
        assert Counter((await here.states()).values()) == {"IN_PROGRESS": 3, "SCHEDULED": 5}


async def test_trial_is_one_delivery_though_many_ask(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        await filled(here, limit=3, items=4)
        await here.db.execute("UPDATE destination SET breaker = 'TRIAL'")
        async with AsyncExitStack() as stack:
            databases = [await stack.enter_async_context(open_database(database_url)) for _ in range(4)]
            claims = await asyncio.gather(*(pushing.claim(db, "w", LEASE, now=NOW) for db in databases))
        assert sum(c is not None for c in claims) == 1


async def test_smaller_limit_cuts_nothing_and_lets_nothing_more_in(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        await filled(here, limit=4, items=8)
        held = [await pushing.claim(here.db, "w", LEASE, now=NOW) for _ in range(4)]
        await here.configure(entity(104, max_connections=2))
        assert await here.db.fetch_value("SELECT count(*) FROM slot") == 4
        claims = [c for c in held if c is not None]
        by_n = sorted(claims, key=lambda c: c.slot_n)
        await pushing.settle(here.db, by_n[0], Ending(), Moment(NOW))
        await pushing.settle(here.db, by_n[2], Ending(), Moment(NOW))
        assert await pushing.claim(here.db, "w", LEASE, now=NOW) is None
        await pushing.settle(here.db, by_n[3], Ending(), Moment(NOW))
        assert await pushing.claim(here.db, "w", LEASE, now=NOW) is not None
        assert await here.db.fetch_value("SELECT count(*) FROM slot") == 2


async def test_destination_over_its_limit_does_not_stand_before_another(
    database_url: str, tmp_path: Path
) -> None:
    async with clinic(database_url, tmp_path) as here:
        both = entity(104, max_connections=4), entity(104, name="ws", title="WS", max_connections=1)
        await here.configure(*both)
        arrivals = await here.store(*ct_study("s", 6))
        first = await here.enqueue(arrivals[0], to=ResourceKey("default", "ws"))
        used = await pushing.claim(here.db, "w", LEASE, now=NOW)
        assert used is not None and used.delivery_ids == (first,)
        for arrival in arrivals:
            await here.enqueue(arrival)
        held = [await pushing.claim(here.db, "w", LEASE, now=NOW) for _ in range(4)]
        claims = sorted((c for c in held if c is not None), key=lambda c: c.slot_n)
        await here.configure(replace(both[0], max_connections=2), both[1])
        # One slot within the new limit is free and was used longest ago, while two above it are still held.
        await pushing.settle(here.db, claims[0], Ending(), Moment(NOW))
        await pushing.settle(here.db, used, Ending(), Moment(NOW + LEASE / 3))
        got = await pushing.claim(here.db, "w", LEASE, now=NOW)
        assert got is not None and (got.ae, got.delivery_ids) == ("default/ws", (first,))
        assert await pushing.claim(here.db, "w", LEASE, now=NOW) is None


async def test_clock_is_the_databases(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        clock = DatabaseClock()
        before = await here.db.time()
        await clock.look(here.db)
        assert before <= clock.now() <= await here.db.time()


async def test_worker_writes_no_time_of_its_own_machine(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        port = free_port()
        await here.configure(entity(port))
        delivery = await here.enqueue(*await here.store(*ct_study("s", 1)))
        ahead = AheadOfItsMachine(timedelta(hours=1))
        async with here.worker(clock=ahead):
            await breaker_is(here, "OPEN")
        rows = await here.db.fetch(
            "SELECT at FROM delivery_event WHERE delivery_id = $1 AND from_state IS NOT NULL "
            "UNION ALL SELECT next_probe_at FROM destination UNION ALL SELECT last_used_at FROM slot "
            "WHERE last_used_at IS NOT NULL",
            delivery,
        )
        assert len(rows) > 3
        assert min(as_datetime(r["at"]) for r in rows) > datetime.now(UTC) + timedelta(minutes=50)


class AheadOfItsMachine(DatabaseClock):
    """A database's clock that differs from this machine's."""

    def __init__(self, by: timedelta) -> None:
        super().__init__()
        self._by = by

    def now(self) -> datetime:
        """Return the database's time."""
        return super().now() + self._by


async def test_late_results_of_a_paused_worker_are_refused(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        (delivery,) = await filled(here, limit=1, items=1)
        paused = await pushing.claim(here.db, "paused", LEASE, now=NOW)
        assert paused is not None
        assert await pushing.reap(here.db, now=NOW + LEASE / 2) == (0, 0)
        assert await pushing.reap(here.db, now=LATER) == (1, 1)
        other = await pushing.claim(here.db, "other", LEASE, now=LATER)
        assert other is not None and other.delivery_ids == (delivery,)
        before = await here.instances(delivery)
        answer = Answer(paused.instances[0], Verdict.STORED, 0)
        with pytest.raises(SlotLost):
            await pushing.renew(here.db, paused, LEASE, now=LATER)
        with pytest.raises(SlotLost):
            await pushing.record(here.db, paused, [answer], Moment(LATER))
        with pytest.raises(SlotLost):
            await pushing.settle(here.db, paused, Ending(), Moment(LATER))
        assert await here.instances(delivery) == before == [("PENDING", None, None)]
        await pushing.renew(here.db, other, LEASE, now=LATER)
        await pushing.record(here.db, other, [Answer(other.instances[0], Verdict.STORED, 0)], Moment(LATER))
        settled = await pushing.settle(here.db, other, Ending(), Moment(LATER))
        assert settled.states == {delivery: "COMPLETED"}
        assert await here.history(delivery) == [
            "SCHEDULED",
            "IN_PROGRESS",
            "SCHEDULED",
            "IN_PROGRESS",
            "COMPLETED",
        ]


async def test_lost_worker_whose_instances_are_all_done_needs_no_second_sending(
    database_url: str, tmp_path: Path
) -> None:
    async with clinic(database_url, tmp_path) as here:
        (delivery,) = await filled(here, limit=1, items=1)
        lost = await pushing.claim(here.db, "lost", LEASE, now=NOW)
        assert lost is not None
        await pushing.record(here.db, lost, [Answer(lost.instances[0], Verdict.STORED, 0)], Moment(NOW))
        await pushing.reap(here.db, now=LATER)
        again = await pushing.claim(here.db, "w", LEASE, now=LATER)
        assert again is not None and again.instances == ()
        await pushing.settle(here.db, again, Ending(), Moment(LATER))
        assert (await here.states())[delivery] == "COMPLETED"


async def test_wishes_of_people_survive_a_lost_worker(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        canceled, held, plain = await filled(here, limit=3, items=3)
        for _ in range(3):
            assert await pushing.claim(here.db, "lost", LEASE, now=NOW)
        async with here.db.transaction() as tx:
            await deliveries.cancel(tx, [canceled], actor="ann", now=NOW)
            await deliveries.hold(tx, [held], actor="ann", now=NOW)
        assert await pushing.reap(here.db, now=LATER) == (3, 3)
        assert await here.states() == {canceled: "CANCELED", held: "HELD", plain: "SCHEDULED"}
        assert await here.instances(canceled) == [("CANCELED", None, None)]
        assert (await here.delivery(held))["held_by"] == "ann"


async def test_wish_that_came_too_late_does_not_hide_what_was_delivered(
    database_url: str, tmp_path: Path
) -> None:
    async with clinic(database_url, tmp_path) as here:
        ids = await filled(here, limit=2, items=2)
        for _ in ids:
            lost = await pushing.claim(here.db, "lost", LEASE, now=NOW)
            assert lost is not None
            await pushing.record(here.db, lost, [Answer(lost.instances[0], Verdict.STORED, 0)], Moment(NOW))
        async with here.db.transaction() as tx:
            await deliveries.cancel(tx, ids[:1], actor="ann", now=NOW)
            await deliveries.hold(tx, ids[1:], actor="ann", now=NOW)
        assert await pushing.reap(here.db, now=LATER) == (2, 2)
        for _ in ids:
            again = await pushing.claim(here.db, "w", LEASE, now=LATER)
            assert again is not None and again.instances == ()
            await pushing.settle(here.db, again, Ending(), Moment(LATER))
        assert set((await here.states()).values()) == {"COMPLETED"}


async def test_urgent_goes_first_then_what_waited_longest(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        await here.configure(entity(104, max_connections=1))
        arrivals = await here.store(*ct_study("s", 4))
        old, normal, urgent, bumped = [
            await here.enqueue(a, priority=p) for a, p in zip(arrivals, (50, 50, 90, 0), strict=True)
        ]
        async with here.db.transaction() as tx:
            await deliveries.set_priority(tx, [normal], 80)
            assert (await deliveries.bump(tx, [bumped], now=NOW)).done == (bumped,)
            with pytest.raises(InvalidValue):
                await deliveries.set_priority(tx, [normal], 101)
        order = []
        for _ in range(4):
            claim = await pushing.claim(here.db, "w", LEASE, now=NOW)
            assert claim is not None
            order += claim.delivery_ids
            answers = [Answer(i, Verdict.STORED, 0) for i in claim.instances]
            await pushing.record(here.db, claim, answers, Moment(NOW))
            await pushing.settle(here.db, claim, Ending(), Moment(NOW))
        assert order == [bumped, urgent, normal, old]


async def order_of_claims(here: Clinic) -> list[int]:
    """Claim and send one after the other; return the deliveries in that order."""
    order: list[int] = []
    while (claim := await pushing.claim(here.db, "w", LEASE, now=NOW)) is not None:
        order += claim.delivery_ids
        await pushing.record(
            here.db, claim, [Answer(i, Verdict.STORED, 0) for i in claim.instances], Moment(NOW)
        )
        await pushing.settle(here.db, claim, Ending(), Moment(NOW))
    return order


async def test_the_later_bump_wins_whatever_the_clock_says(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        waited, one, two, urgent, three = await filled(here, limit=1, items=5)
        await here.db.execute("UPDATE delivery SET rank = 1 WHERE id = $1", waited)
        async with here.db.transaction() as tx:
            await deliveries.set_priority(tx, [urgent], 100)
            await deliveries.bump(tx, [one], now=NOW)
            await deliveries.hold(tx, [one], actor="ann", now=NOW)
            await deliveries.bump(tx, [three, two], now=NOW + timedelta(milliseconds=1))
            assert (await deliveries.bump(tx, [one, 999], now=LATER)).refused == {999: "NOT_FOUND"}
            await deliveries.resume(tx, [one], actor="ann", now=NOW)
            await deliveries.bump(tx, [three], now=NOW)  # a clock that was set back
            await deliveries.set_priority(tx, [three], 0)
        assert await order_of_claims(here) == [three, one, two, waited, urgent]


async def test_a_bump_among_many_reads_no_others(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        (one,) = await filled(here, limit=1, items=1)
        columns = (
            "destination_id, level, study_id, unit_uid, source_ae, partition, state, priority, rank, supplementary, "
            "requested_by, available_at, attempts, instances_total, instances_done, instances_failed, size_bytes, "
            "created_at, version"
        )
        await here.db.execute(
            "WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 5000) "
            f"INSERT INTO delivery ({columns}, dedup_key) SELECT {columns.replace('rank,', 'rank + n,')}, "
            "'copy' || n FROM delivery, many WHERE id = $1",
            one,
        )
        await here.db.execute("ANALYZE delivery")
        for sql, values in ((claiming._HEAD, (1,)), (wishes._FIRST, (1,))):
            explain = "EXPLAIN QUERY PLAN " if here.db.is_sqlite else "EXPLAIN "
            plan = str(await here.db.fetch(explain + sql, *values))
            assert "delivery_ready" in plan
            assert "Seq Scan" not in plan and "TEMP B-TREE" not in plan and "Sort" not in plan


async def test_enqueueing_twice_changes_nothing(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        arrivals = await here.store(*ct_study("s", 2))
        new = NewDelivery(
            PACS,
            Level.STUDY,
            1,
            "2.25.1",
            CT1,
            PACS,
            arrivals,
            "close",
            dedup_key="k" * 300,
            hold_code="PATIENT_MISMATCH",
        )
        for made in (1, 0):
            async with here.db.transaction() as tx:
                assert await deliveries.enqueue(tx, [new, new], now=NOW) == made
        assert list((await here.states()).values()) == ["HELD"]
        assert await here.db.fetch_value("SELECT count(*) FROM delivery_instance") == 2
        assert await here.db.fetch_value("SELECT count(*) FROM delivery_event") == 1
        assert (await here.destination())["gone_at"] is not None
        with pytest.raises(InvalidInput):
            await deliveries.enqueue(here.db, [replace(new, arrival_ids=())], now=NOW)


async def test_what_cannot_be_changed_is_refused_by_its_state(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        (delivery,) = await filled(here, limit=1, items=1)
        async with here.db.transaction() as tx:
            done = await deliveries.cancel(tx, [delivery, 999], actor="ann", now=NOW)
            assert (done.done, done.refused) == ((delivery,), {999: "NOT_FOUND"})
            again = await deliveries.hold(tx, [delivery], actor="ann", now=NOW)
            assert (again.done, again.refused) == ((), {delivery: "CANCELED"})
            assert (await deliveries.retry(tx, [delivery], actor="ann", now=NOW)).done == (delivery,)
            with pytest.raises(NotFound):
                await deliveries.hold_destination(tx, CT1, actor="ann", now=NOW)
        assert await here.instances(delivery) == [("PENDING", None, None)]
        assert await here.history(delivery) == ["SCHEDULED", "CANCELED", "SCHEDULED"]


async def test_only_one_worker_takes_a_probe(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        await filled(here, limit=1, items=1)
        await here.db.execute("UPDATE destination SET breaker = 'OPEN', next_probe_at = $1", NOW)
        assert await pushing.take_probe(here.db, now=NOW - LEASE) is None
        probe = await pushing.take_probe(here.db, now=NOW)
        assert probe is not None and probe.ae == str(PACS)
        assert await pushing.take_probe(here.db, now=NOW) is None
        assert await pushing.take_probe(here.db, now=NOW + pushing.PROBE_PATIENCE) is not None
        after = await pushing.finish_probe(here.db, probe, None, Moment(NOW))
        assert after.state is BreakerState.TRIAL


async def test_finished_items_do_not_stand_in_line(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        first, second, third = await filled(here, limit=1, items=3)
        answers = await deliveries.why_not_moving(here.db, [first, second, third, 99], now=NOW)
        assert {i: a.code.value for i, a in answers.items()} == dict.fromkeys(
            (first, second, third), "NO_WORKER"
        )
        await pushing.claim(here.db, "w", LEASE, now=NOW)
        await here.db.execute(
            "INSERT INTO worker_state (worker, started_at, seen_at, slots) VALUES ('w', $1, $1, 1)", NOW
        )
        answers = await deliveries.why_not_moving(here.db, [first, third], now=NOW)
        assert answers[first].code.value == "SENDING"
        assert (answers[third].code.value, answers[third].text) == (
            "SLOTS_FULL",
            "1 of 1 connections to default/pacs are in use",
        )
        assert "number 2 in line" in answers[third].next_step


async def test_sending_by_hand_needs_what_is_there(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        await filled(here, limit=1, items=1)
        order = SendByHand((77,), (PACS,), "ann", "key-1")
        with pytest.raises(NotFound):
            await deliveries.send_by_hand(here.db, order, now=NOW)
        nowhere = SendByHand((77,), (ResourceKey("default", "nobody"),), "ann", "key-1")
        with pytest.raises(NotFound):
            await deliveries.send_by_hand(here.db, nowhere, now=NOW)
        assert len(await here.states()) == 1
