"""The sabotages of `make proofs-selftest` still fit the code that they break."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proofs.sabotage import SABOTAGES, Sabotage

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda s: s.name)
def test_sabotage_fits_the_code(sabotage: Sabotage) -> None:
    assert (ROOT / sabotage.file).read_text().count(sabotage.old) == 1
    assert sabotage.old != sabotage.new


def test_names_are_told_apart() -> None:
    assert len({s.name for s in SABOTAGES}) == len(SABOTAGES) >= 10
