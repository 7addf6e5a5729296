"""Helm, for tests of what the chart renders: no cluster is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.chart.rendering import helm_program


@pytest.fixture(scope="session")
def helm() -> Path:
    return helm_program()
