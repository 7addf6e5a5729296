"""What a clock that was an hour ahead left behind, and what a leap ahead makes of leases: time is an argument here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from aegate_core.database import DatabaseClock, as_datetime
from aegate_core.decisions.breaker import BreakerState
from aegate_core.decisions.retry import Verdict
from aegate_core.services import pushing
from aegate_core.services.pushing import Answer, Ending, Moment
from tests.dicom import ct_study
from tests.integration.scu.clinic import Clinic, clinic, entity
from tests.integration.waiting import eventually_async

LEASE = timedelta(seconds=30)
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


async def one_delivery(here: Clinic) -> int:
    await here.configure(entity(104, max_connections=1))
    return await here.enqueue(*await here.store(*ct_study("s", 1)))


async def test_lease_of_a_dead_worker_ends_though_its_clock_was_ahead(
    database_url: str, tmp_path: Path
) -> None:
    async with clinic(database_url, tmp_path) as here:
        delivery = await one_delivery(here)
        assert await pushing.claim(here.db, "dead", LEASE, now=NOW + HOUR) is not None
        assert await pushing.bring_back(here.db, LEASE, now=NOW) == 1
        assert await pushing.bring_back(here.db, LEASE, now=NOW) == 0
        assert await pushing.reap(here.db, now=NOW + LEASE) == (0, 0)
        assert await pushing.reap(here.db, now=NOW + LEASE + timedelta(seconds=1)) == (1, 1)
        assert await here.states() == {delivery: "SCHEDULED"}


async def test_lease_of_a_living_worker_outlives_the_setting_back(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        delivery = await one_delivery(here)
        claim = await pushing.claim(here.db, "living", LEASE, now=NOW + HOUR)
        assert claim is not None
        await pushing.bring_back(here.db, LEASE, now=NOW)
        await pushing.renew(here.db, claim, LEASE, now=NOW + LEASE / 3)
        assert await pushing.reap(here.db, now=NOW + LEASE + timedelta(seconds=1)) == (0, 0)
        assert await here.states() == {delivery: "IN_PROGRESS"}


async def test_backoff_and_probe_do_not_last_an_hour_longer(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        delivery = await one_delivery(here)
        claim = await pushing.claim(here.db, "w", LEASE, now=NOW + HOUR)
        assert claim is not None
        ahead = Moment(NOW + HOUR)
        await pushing.record(here.db, claim, [Answer(claim.instances[0], Verdict.SUSPECT, 0x0110)], ahead)
        await pushing.settle(here.db, claim, Ending(), ahead)
        assert await here.states() == {delivery: "RETRY"}
        await here.db.execute(
            "UPDATE destination SET breaker = $1, next_probe_at = $2", BreakerState.OPEN, NOW + HOUR
        )
        assert await pushing.promote(here.db, now=NOW) == 0
        assert await pushing.take_probe(here.db, now=NOW) is None

        assert await pushing.bring_back(here.db, LEASE, now=NOW) == 2
        assert await pushing.promote(here.db, now=NOW) == 1
        assert await pushing.take_probe(here.db, now=NOW) is not None


async def test_times_that_we_write_ourselves_stay(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        await one_delivery(here)
        assert await pushing.claim(here.db, "w", LEASE, now=NOW) is not None
        probe_at = NOW + timedelta(minutes=6)
        await here.db.execute(
            "UPDATE destination SET breaker = $1, next_probe_at = $2", BreakerState.OPEN, probe_at
        )
        assert await pushing.bring_back(here.db, LEASE, now=NOW) == 0
        assert as_datetime((await here.destination())["next_probe_at"]) == probe_at


class Stepped(DatabaseClock):
    """A clock of a database that was stepped ahead since the worker looked last."""

    def leaped(self, within: timedelta) -> timedelta:
        """Say so."""
        return HOUR


async def test_leap_ahead_takes_no_lease_from_who_has_not_seen_it(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        delivery = await one_delivery(here)
        other = await here.enqueue(*await here.store(*ct_study("other", 1)))
        before_the_step = datetime.now(UTC) - HOUR
        claim = await pushing.claim(here.db, "other", LEASE, now=before_the_step)
        assert claim is not None
        async with here.worker("w1", clock=Stepped()):

            async def has_seen() -> bool:
                return bool(await here.db.fetch_value("SELECT count(*) FROM worker_state"))

            await eventually_async(has_seen)
            await pushing.renew(here.db, claim, LEASE, now=datetime.now(UTC))
        assert await here.states() == {delivery: "IN_PROGRESS", other: "SCHEDULED"}
