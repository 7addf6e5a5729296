"""Helm, for tests of what the chart renders, and a control plane of their own for those that install it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.chart.rendering import helm_program


@pytest.fixture(scope="session")
def helm() -> Path:
    return helm_program()


@pytest.fixture(scope="module")
def cluster(say: Callable[[str], None]) -> Iterator[Any]:
    """A cluster whose CRDs nobody else's tests use."""
    from tests.cluster.lab.starting import LabSettings, running_lab

    with running_lab(LabSettings(), say) as lab:
        yield lab
