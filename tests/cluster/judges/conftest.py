"""The judges, compiled where the cache lacks them, and Helm. No cluster is needed, and no right beyond anybody's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.chart.rendering import helm_program
from tests.cluster.lab.build import JUDGES, build


@pytest.fixture(scope="session")
def judges(say: Callable[[str], None]) -> Path:
    """The folder of the programs."""
    return build(say, (JUDGES,)).folder("judges")


@pytest.fixture(scope="session")
def helm() -> Path:
    return helm_program()
