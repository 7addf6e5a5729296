"""A task that a process must not be without is not lost by a fault, and nobody has to look for the reason."""

from __future__ import annotations

import asyncio

import pytest

from aegate_graphql_api.kept_up import kept_up


async def test_a_task_that_ends_by_a_fault_says_so_and_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    turns, lasts = 0, asyncio.Event()

    async def work() -> None:
        nonlocal turns
        turns += 1
        if turns < 3:
            raise ValueError("what a library says of a patient")
        lasts.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(kept_up("operate", work, again_s=0))
    async with asyncio.timeout(30):
        await lasts.wait()
    fields = [record.__dict__["event_fields"] for record in caplog.records]
    assert [(f["task"], f["retry_s"]) for f in fields] == [("operate", 0)] * 2
    assert all(f["error"].startswith("ValueError at test_kept_up.py:") for f in fields)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert turns == 3
