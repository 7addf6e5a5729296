"""Work that is told to stop ends by itself, or is ended."""

from __future__ import annotations

import asyncio

import pytest

from aegate_core.stopping import until_stopped


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
