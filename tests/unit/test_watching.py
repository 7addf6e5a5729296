"""How `tests.proofs.watching` judges the memory of a run."""

from __future__ import annotations

import pytest

from tests.proofs.watching import Curve

MIB = 1 << 20


def curve(*mib: float) -> Curve:
    return Curve(rss_bytes=[int(m * MIB) for m in mib])


def test_memory_that_rises_only_at_first_has_not_grown() -> None:
    assert curve(*(min(100 + n, 120) for n in range(64))).growth() == 0


def test_growth_is_that_of_the_whole_second_half() -> None:
    # 100 MiB in the middle of the run, 110 at its end.
    assert curve(*(90 + 20 * n / 160 for n in range(161))).growth() == pytest.approx(0.1, abs=0.003)


def test_single_samples_do_not_count() -> None:
    assert curve(*(500 if n % 16 == 5 else 100 for n in range(128))).growth() == 0


def test_run_too_short_to_be_judged_is_refused() -> None:
    with pytest.raises(AssertionError, match="too short a run to judge memory: 7 samples"):
        curve(*range(7)).growth()
