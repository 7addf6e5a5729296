"""How long it takes until all is well again after a fault: each test says it, and pytest prints the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

Recovery = Callable[[str], AbstractContextManager[None]]
"""Give the name of a fault; the block begins when the fault ends, and ends when all is well again."""


@pytest.fixture
def recovery(record_property: Callable[[str, object], None]) -> Recovery:
    """Measure the time from the end of a fault to the end of what it did to us."""

    @contextmanager
    def measure(fault: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        record_property("recovery", f"{fault}: {time.monotonic() - began:.1f} s")

    return measure
