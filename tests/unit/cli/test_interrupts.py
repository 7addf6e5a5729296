"""One wish to stop may come as several signals."""

from __future__ import annotations

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
