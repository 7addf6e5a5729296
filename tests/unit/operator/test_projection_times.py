"""How long the rows are left alone after a write: longer after a long one, and never so long that they are blind."""

from __future__ import annotations

import pytest

from aegate_operator.projection import EDITED_S, LOOK_S, QUIET_S, ProjectionTimes


@pytest.mark.parametrize(
    ("took_s", "pause_s"), [(0.0, QUIET_S), (0.01, QUIET_S), (1.0, 9.0), (20.0, LOOK_S), (600.0, LOOK_S)]
)
def test_a_long_write_does_not_leave_rows_alone_for_longer_than_a_look(took_s: float, pause_s: float) -> None:
    assert ProjectionTimes().pause_s(took_s) == pause_s


@pytest.mark.parametrize(("pause_s", "tick_s"), [(0.5, EDITED_S), (4.0, EDITED_S), (8.0, 0.4), (30.0, 1.5)])
def test_a_few_rows_are_written_rarely_where_all_are_long_to_read(pause_s: float, tick_s: float) -> None:
    assert ProjectionTimes().tick_s(pause_s) == tick_s
