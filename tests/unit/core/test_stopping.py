"""Work that is told to stop ends by itself, or is ended."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from aegate_core.stopping import StopRequest, until_stopped


async def test_work_that_ends_by_itself_is_not_cut() -> None:
    stopping, done = asyncio.Event(), []

    async def work() -> None:
        await stopping.wait()
        done.append("the rest")

    asyncio.get_running_loop().call_soon(stopping.set)
    await until_stopped(work(), stopping, within_s=30)
    assert done == ["the rest"]


async def test_work_that_waits_for_an_answer_is_cut() -> None:
    stopping, cut = asyncio.Event(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut.append(True)
            raise

    stopping.set()
    await until_stopped(work(), stopping, within_s=0.01)
    assert cut == [True]


async def test_a_fault_of_the_work_is_raised() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await until_stopped(work(), asyncio.Event(), within_s=30)


INTERRUPTED_ANYWHERE = """
import random, signal
from aegate_core.stopping import StopRequest

dice = random.Random(1)
for _ in range(5000):
    request = StopRequest()
    signal.signal(signal.SIGALRM, lambda *_: request.make())
    signal.setitimer(signal.ITIMER_REAL, dice.uniform(0.00001, 0.0002))
    while not request.wait(0.00001):
        pass
"""
"""With a `threading.Event` or a `queue.SimpleQueue` in its place it stands still within some thousand turns."""


def test_stop_may_be_asked_for_between_any_two_instructions_of_its_wait() -> None:
    subprocess.run([sys.executable, "-c", INTERRUPTED_ANYWHERE], check=True, timeout=90)


def test_stop_is_heeded_as_soon_as_it_is_asked_for_and_from_then_on() -> None:
    request = StopRequest()
    assert not request.wait(0)
    assert not request.is_made()
    request.make()
    request.make()
    assert [request.wait(30), request.wait(30), request.wait(0), request.is_made()] == [True] * 4
