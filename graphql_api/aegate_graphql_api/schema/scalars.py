"""Scalars beside GraphQL's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import NewType

import strawberry
from strawberry.scalars import JSON
from strawberry.schema.types.base_scalars import DateTimeDefinition
from strawberry.types.scalar import ScalarDefinition

BigInt = NewType("BigInt", int)
StringMap = NewType("StringMap", dict[str, str | None])


def _string_map(value: object) -> dict[str, str | None]:
    if not isinstance(value, dict) or not all(isinstance(member, str | None) for member in value.values()):
        raise ValueError("an object of texts is expected")
    return value


SCALARS: Mapping[object, ScalarDefinition] = {
    datetime: replace(
        DateTimeDefinition,
        description="A time with its zone, such as 2026-01-31T08:00:00+00:00 (ISO 8601); answers are in UTC.",
    ),
    BigInt: strawberry.scalar(
        name="BigInt",
        description="An integer beyond 32 bits, such as a number of bytes; a JSON number.",
        serialize=int,
        parse_value=int,
    ),
    StringMap: strawberry.scalar(
        name="StringMap",
        description='Texts by names, such as labels: {"department": "radiology"}. A null removes the one of its name.',
        serialize=dict,
        parse_value=_string_map,
    ),
}

__all__ = ["JSON", "SCALARS", "BigInt", "StringMap"]
