"""The bench says of each target whether it holds."""

from __future__ import annotations

from dataclasses import replace

from bench.graphql.targets import Kind, Measured, verdicts

GOOD = (
    Measured("a name", Kind.SEARCH, [4.0] * 100),
    Measured("a number", Kind.SEARCH, [25.0] * 100),
    Measured("first", Kind.FIRST_PAGE, [8.0] * 100),
    Measured("1000th", Kind.THOUSANDTH_PAGE, [10.0] * 100),
    Measured("board", Kind.DASHBOARD, [50.0] * 100),
    Measured("hold", Kind.MUTATION, [1.0] * 99 + [60.0]),
    Measured("count", Kind.OTHER, [900.0] * 100),
)


def said(run: tuple[Measured, ...]) -> list[str]:
    return [" ".join(line.split()) for line in verdicts(run)]


def test_every_target_is_judged_by_its_slowest_question() -> None:
    assert said(GOOD) == [
        "dashboard p99 <= 50 ms holds 50.0 ms, board",
        "basic search p99 <= 25 ms holds 25.0 ms, a number",
        "mutation p99 <= 20 ms holds 1.6 ms, hold",
        "1000th = first page holds medians 10.0 and 8.0 ms",
    ]


def test_each_target_can_be_missed_alone() -> None:
    slower = {"board": 0, "a name": 1, "hold": 2, "1000th": 3}
    for name, place in slower.items():
        run = tuple(replace(m, took=[51.0] * 100) if m.name == name else m for m in GOOD)
        assert [" MISSED " in line for line in said(run)] == [n == place for n in range(4)], name


def test_pages_of_less_than_a_millisecond_between_them_are_equal() -> None:
    first, last = (
        Measured("first", Kind.FIRST_PAGE, [1.0] * 9),
        Measured("last", Kind.THOUSANDTH_PAGE, [1.9] * 9),
    )
    for near, holds in (
        (last, True),
        (replace(last, took=[2.1] * 9), False),
        (replace(last, took=[0.1] * 9), True),
    ):
        pages = tuple(m for m in GOOD if m.kind in (Kind.SEARCH, Kind.DASHBOARD, Kind.MUTATION))
        assert (" holds " in said((*pages, first, near))[-1]) is holds
