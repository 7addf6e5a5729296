"""Kubernetes quantities such as 250m, 20Gi or 1e3, as exact numbers (k8s.io/apimachinery resource.Quantity)."""

from __future__ import annotations

import re
from decimal import Decimal

_FORM = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+|)"
)
_FACTORS = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    **{f"{letter}i": Decimal(1024**power) for power, letter in enumerate("KMGTPE", start=1)},
}


def is_quantity(text: str) -> bool:
    """Return whether ``text`` is a quantity."""
    return _FORM.fullmatch(text) is not None


def parse_quantity(text: str) -> Decimal:
    """Return the number that ``text`` stands for. Raises ValueError."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError("a quantity must be a number with an optional suffix, such as 250m or 20Gi")
    number, suffix = Decimal(found["number"]), found["suffix"]
    if suffix in _FACTORS:
        return number * _FACTORS[suffix]
    return number * Decimal(10) ** int(suffix[1:])
