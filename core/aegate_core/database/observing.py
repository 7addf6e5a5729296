"""Whoever wants to know which statements are run: their text with placeholders, never what is put in for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

StatementObserver = Callable[[str], AbstractContextManager[object]]
"""Is given a statement's text, and entered while it runs."""
