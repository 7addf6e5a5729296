"""The small hospital of the intake tests, on both kinds of database."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.integration.intake.conftest import place

__all__ = ["place"]


@pytest.fixture(autouse=True)
def libraries_are_held_as_in_every_process() -> Iterator[None]:
    """pydicom logs values below ERROR; `configure_logging` holds it there in each process of ours."""
    library = logging.getLogger("pydicom")
    level = library.level
    library.setLevel(logging.ERROR)
    yield
    library.setLevel(level)
