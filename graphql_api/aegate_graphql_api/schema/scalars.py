"""Scalars beside GraphQL's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NewType

import strawberry
from strawberry.scalars import JSON
from strawberry.types.scalar import ScalarDefinition

BigInt = NewType("BigInt", int)

SCALARS: Mapping[object, ScalarDefinition] = {
    BigInt: strawberry.scalar(
        name="BigInt",
        description="An integer beyond 32 bits, such as a number of bytes; a JSON number.",
        serialize=int,
        parse_value=int,
    )
}

__all__ = ["JSON", "SCALARS", "BigInt"]
