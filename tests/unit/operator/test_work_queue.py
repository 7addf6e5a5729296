"""Each key once, never twice at a time, failures later and later: with a clock that stands still."""

from __future__ import annotations

import asyncio

import pytest

from aegate_operator.work_queue import BURST, LONGEST_RETRY_S, WorkQueue
from tests.integration.waiting import pass_turns
from tests.unit.operator.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(clock=clock, jitter=lambda: 1.0)


def drain(queue: WorkQueue[str]) -> list[str]:
    """All that is due now, each done at once."""
    taken = []
    while (key := queue.take()) is not None:
        taken.append(key)
        queue.done(key)
    return taken


def test_a_key_added_twice_is_taken_once(queue: WorkQueue[str]) -> None:
    for key in ("a", "b", "a"):
        queue.add(key)
    assert len(queue) == 2
    assert drain(queue) == ["a", "b"]
    assert len(queue) == 0


def test_a_key_in_work_is_not_given_to_a_second_worker(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert queue.take() == "a"
    queue.add("a")
    queue.add("a")
    assert queue.take() is None
    queue.done("a")
    assert drain(queue) == ["a"]


def test_a_later_time_does_not_put_off_an_earlier_one(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a", delay_s=5)
    queue.add("a", delay_s=60)
    queue.add("b", delay_s=60)
    queue.add("b", delay_s=5)
    assert drain(queue) == []
    assert len(queue) == 0
    clock.pass_(5)
    assert drain(queue) == ["a", "b"]
    clock.pass_(600)
    assert drain(queue) == []


def test_failures_are_tried_again_later_each_time_up_to_five_minutes(
    queue: WorkQueue[str], clock: Clock
) -> None:
    delays = []
    queue.add("a")
    for _ in range(12):
        assert queue.take() == "a"
        delays.append(queue.retry("a"))
        queue.done("a")
        assert queue.take() is None
        clock.pass_(delays[-1])
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert queue.take() == "a"
    queue.succeeded("a")
    assert queue.failing == 0
    assert queue.retry("a") == 1


def test_jitter_takes_up_to_a_quarter_of_the_pause(clock: Clock) -> None:
    queue: WorkQueue[str] = WorkQueue(clock=clock, jitter=lambda: 0.0)
    delays = []
    for _ in range(20):
        delays.append(queue.retry("a"))
        clock.pass_(delays[-1])
    assert (delays[0], delays[-1]) == (0.75, 0.75 * LONGEST_RETRY_S)


def test_news_of_a_key_that_waits_for_its_retry_is_taken_at_once(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.take()
    queue.retry("a")
    queue.done("a")
    queue.add("a")
    assert drain(queue) == ["a"]


def test_looks_that_news_called_for_make_it_wait_no_longer(queue: WorkQueue[str], clock: Clock) -> None:
    assert queue.retry("a") == 1
    clock.pass_(0.5)
    assert [queue.retry("a") for _ in range(5)] == [0.5] * 5
    clock.pass_(0.5)
    assert queue.retry("a") == 2


def test_retries_are_at_most_twenty_a_second_and_news_is_not_held_back(
    queue: WorkQueue[str], clock: Clock
) -> None:
    for number in range(100):
        queue.retry(f"failed-{number}")
    for number in range(100):
        queue.add(f"new-{number}")
    clock.pass_(1)
    taken = drain(queue)
    assert sum(key.startswith("new") for key in taken) == 100
    assert sum(key.startswith("failed") for key in taken) == BURST
    clock.pass_(1)
    assert len(drain(queue)) == 20
    for _ in range(4):
        clock.pass_(1)
        taken += drain(queue)
    assert sum(key.startswith("failed") for key in taken) == 80
    clock.pass_(1)
    assert drain(queue) == []


def test_waiting_time_is_told_from_due_to_taken(clock: Clock) -> None:
    waited: list[float] = []
    queue: WorkQueue[str] = WorkQueue(clock=clock, waited=waited.append)
    queue.add("a", delay_s=10)
    clock.pass_(12)
    queue.take()
    assert waited == [2.0]


def test_the_oldest_key_in_work_is_known(queue: WorkQueue[str], clock: Clock) -> None:
    assert queue.longest_work_s() == (0.0, None)
    queue.add("a")
    queue.take()
    clock.pass_(7)
    queue.add("b")
    queue.take()
    assert queue.longest_work_s() == (7.0, "a")
    queue.done("a")
    assert queue.longest_work_s() == (0.0, "b")


async def test_workers_that_wait_are_woken_one_key_each(queue: WorkQueue[str]) -> None:
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.wait(workers, timeout=0.01)
    for key in ("a", "b", "c"):
        queue.add(key)
    assert sorted(await asyncio.gather(*workers)) == ["a", "b", "c"]


async def test_a_worker_wakes_when_the_next_key_is_due() -> None:
    queue: WorkQueue[str] = WorkQueue(clock=asyncio.get_running_loop().time)
    queue.add("a", delay_s=0.05)
    assert await asyncio.wait_for(queue.get(), 5) == "a"


@pytest.mark.parametrize("turns", range(6))
async def test_a_worker_ends_when_it_is_told_to_though_a_key_comes_at_that_moment(
    queue: WorkQueue[str], turns: int
) -> None:
    queue.add("later", delay_s=60)
    worker = asyncio.create_task(queue.get())
    await pass_turns(3)
    queue.add("a")
    await pass_turns(turns)
    if worker.cancel():
        with pytest.raises(asyncio.CancelledError):
            await worker
    else:
        assert worker.result() == "a"
