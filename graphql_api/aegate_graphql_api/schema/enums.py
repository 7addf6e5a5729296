"""Enums of the schema whose values stay plain texts: each value with its sentence."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

import strawberry

T = TypeVar("T", bound=type[StrEnum])


def in_words(description: str, /, name: str | None = None, **words: str) -> Callable[[T], T]:
    """Return what makes an enum part of the schema; ``words`` are the sentences of its values, by their names.

    Raises ValueError for a value without a sentence, and for a sentence without a value.
    """

    def register(kind: T) -> T:
        if words.keys() != kind.__members__.keys():
            odd = ", ".join(sorted(words.keys() ^ kind.__members__.keys()))
            raise ValueError(f"each value of {kind.__name__} needs one sentence: see {odd}")
        strawberry.enum(kind, name=name, description=description)
        for value in kind.__strawberry_definition__.values:  # type: ignore[attr-defined] # what strawberry.enum adds
            value.description = words[value.name]
        return kind

    return register
