"""Kubernetes quantities such as 250m, 20Gi or 1e3, as exact numbers (k8s.io/apimachinery resource.Quantity)."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

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


def canonical_quantity(text: str) -> str:
    """Return the quantity as an API server writes it: 1000m is 1, 1024Mi is 1Gi, 0.5Gi is 512Mi. Raises ValueError.

    Binary suffixes stay binary, decimal ones decimal; the largest suffix without a fraction is taken.
    """
    number = parse_quantity(text)
    found = _FORM.fullmatch(text)
    suffix = found["suffix"] if found else ""
    if suffix[:1] in ("e", "E") and suffix[1:]:
        return _in_thousands(number, [f"e{exponent}" if exponent else "" for exponent in range(18, -10, -3)])
    if suffix.endswith("i") and abs(number) >= 1024 and number == number.to_integral_value():
        return _in_kibis(int(number))
    return _in_thousands(number, ["E", "P", "T", "G", "M", "k", "", "m", "u", "n"])


def _in_kibis(number: int) -> str:
    for power, letter in reversed(list(enumerate("KMGTPE", start=1))):
        if number % 1024**power == 0:
            return f"{number // 1024**power}{letter}i"
    return str(number)


def _in_thousands(number: Decimal, suffixes: list[str]) -> str:
    if number == 0:
        return "0"
    for place, suffix in enumerate(suffixes):
        scaled = number / Decimal(10) ** (18 - 3 * place)
        if scaled == scaled.to_integral_value():
            return f"{scaled.quantize(Decimal(1)):f}{suffix}"
    smallest = (number / Decimal("1e-9")).to_integral_value(rounding=ROUND_CEILING)
    return f"{smallest:f}{suffixes[-1]}"
