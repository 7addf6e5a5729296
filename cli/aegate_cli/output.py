"""How a command prints its result: for people, or for programs."""

from __future__ import annotations

from enum import StrEnum


class Output(StrEnum):
    """How the result is printed."""

    TEXT = "text"
    JSON = "json"
