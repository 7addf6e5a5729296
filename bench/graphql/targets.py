"""What the API's answers may take, and whether a run kept to it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

STUDIES, ITEMS = 2_000_000, 10_000_000
"""The sizes that the targets speak of."""
EQUAL_RATIO, EQUAL_MS = 1.25, 1.0
"""Medians that differ by less than either are equal; by feel: measure one page twice before changing them."""


class Kind(StrEnum):
    """What a question is, for the targets."""

    DASHBOARD = "dashboard"
    SEARCH = "basic search"
    MUTATION = "mutation"
    FIRST_PAGE = "first page"
    THOUSANDTH_PAGE = "1000th page"
    OTHER = "other"


MOST_P99_MS = {Kind.DASHBOARD: 50, Kind.SEARCH: 25, Kind.MUTATION: 20}


@dataclass(frozen=True, slots=True)
class Measured:
    """A question, and how many milliseconds each call of it took."""

    name: str
    kind: Kind
    took: Sequence[float]

    @property
    def median(self) -> float:
        """Return what half of the calls took at most."""
        return statistics.median(self.took)

    @property
    def p99(self) -> float:
        """Return what all calls but one of a hundred took at most."""
        return statistics.quantiles(self.took, n=100, method="inclusive")[98]


def verdicts(run: Sequence[Measured]) -> Iterator[str]:
    """Say of each target whether it holds, by the slowest question of its kind."""
    for kind, most in MOST_P99_MS.items():
        slowest = max((asked for asked in run if asked.kind is kind), key=lambda asked: asked.p99)
        yield _line(f"{kind} p99 <= {most} ms", slowest.p99 <= most, f"{slowest.p99:.1f} ms, {slowest.name}")
    firsts, lasts = (
        [asked for asked in run if asked.kind is k] for k in (Kind.FIRST_PAGE, Kind.THOUSANDTH_PAGE)
    )
    for first, last in zip(firsts, lasts, strict=True):
        low, high = sorted((first.median, last.median))
        equal = high <= max(low * EQUAL_RATIO, low + EQUAL_MS)
        yield _line(
            f"{last.name} = first page", equal, f"medians {last.median:.1f} and {first.median:.1f} ms"
        )


def _line(target: str, holds: bool, measured: str) -> str:
    return f"{target:40}{'holds' if holds else 'MISSED':8}{measured}"
