"""Faults that take longer than a test may: run by ``make faults``, with what the shorter ones use."""

from tests.integration.faults.conftest import recovery

__all__ = ["recovery"]
