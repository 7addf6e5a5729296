"""One wish to stop may come as several signals."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from aegate_cli.interrupts import Interrupts


@pytest.mark.parametrize(
    ("times", "called"),
    [
        ([10.0], ["stop"]),
        ([10.0, 10.001], ["stop"]),
        ([10.0, 10.4, 10.9, 11.0], ["stop"]),
        ([10.0, 10.001, 11.1], ["stop", "hurry"]),
        ([10.0, 14.0, 14.2], ["stop", "hurry", "hurry"]),
    ],
)
def test_only_a_signal_a_second_later_hastens(times: list[float], called: list[str]) -> None:
    said: list[str] = []
    interrupts = Interrupts(stop=lambda: said.append("stop"), hurry=lambda: said.append("hurry"))
    for at in times:
        interrupts.take(at)
    assert said == called


@pytest.fixture
def hangup() -> Iterator[None]:
    """Give SIGHUP back what it meant."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


async def test_closed_terminal_is_a_wish_to_stop(hangup: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    stopped = asyncio.Event()
    Interrupts(stop=stopped.set, hurry=stopped.clear).listen()
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.wait_for(stopped.wait(), 10)


async def test_under_nohup_a_closed_terminal_is_none(hangup: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Interrupts(stop=lambda: None, hurry=lambda: None).listen()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
