"""A task that a process must not be without is not lost by a fault, and nobody has to look for the reason."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Gauge

from aegate_graphql_api.kept_up import Tasks
from tests.integration.waiting import eventually_async


async def test_a_task_that_ends_by_a_fault_says_so_and_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    turns, lasts, registry = 0, asyncio.Event(), CollectorRegistry()

    async def work() -> None:
        nonlocal turns
        turns += 1
        if turns < 3:
            raise ValueError("what a library says of a patient")
        lasts.set()
        await asyncio.Event().wait()

    def failing() -> float | None:
        return registry.get_sample_value("failing", {"task": "operate"})

    tasks = Tasks(Gauge("failing", "One.", ["task"], registry=registry), again_s=0, steady_s=0.2)
    assert tasks.trouble() is None
    task = asyncio.create_task(tasks.keep("operate", work))
    async with asyncio.timeout(30):
        await lasts.wait()
        trouble = tasks.trouble()
        assert trouble is not None
        assert trouble.startswith(
            "tasks in the background fail and begin again: operate (ValueError at test_kept_up.py:"
        )
        assert "patient" not in trouble
        assert failing() == 1
    await eventually_async(lambda: failing() == 0, what="it has lasted")
    assert tasks.trouble() is None
    fields = [record.__dict__["event_fields"] for record in caplog.records]
    assert [(f["task"], f["retry_s"]) for f in fields] == [("operate", 0)] * 2
    assert all(f["error"].startswith("ValueError at test_kept_up.py:") for f in fields)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert turns == 3
