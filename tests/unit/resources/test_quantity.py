"""Quantities, written as an API server writes them."""

from __future__ import annotations

import pytest

from aegate_core.resources.quantity import canonical_quantity, parse_quantity

CANONICAL = [
    ("0", "0"),
    ("1", "1"),
    ("1000m", "1"),
    ("1500m", "1500m"),
    ("0.5", "500m"),
    (".25", "250m"),
    ("1000", "1k"),
    ("1024", "1024"),
    ("1024Mi", "1Gi"),
    ("1536Mi", "1536Mi"),
    ("0.5Gi", "512Mi"),
    ("1.5Ki", "1536"),
    ("512", "512"),
    ("0.5Ki", "512"),
    ("20Gi", "20Gi"),
    ("2000M", "2G"),
    ("1e3", "1e3"),
    ("12E3", "12e3"),
    ("10e4", "100e3"),
    ("1E", "1E"),
    ("100n", "100n"),
    ("0.1n", "1n"),
    ("-1500m", "-1500m"),
]


@pytest.mark.parametrize(("text", "expected"), CANONICAL)
def test_quantity_is_written_as_an_api_server_writes_it(text: str, expected: str) -> None:
    assert canonical_quantity(text) == expected
    assert canonical_quantity(expected) == expected


@pytest.mark.parametrize("text", [t for t, _ in CANONICAL if t != "0.1n"])
def test_canonical_quantity_is_the_same_number(text: str) -> None:
    assert parse_quantity(canonical_quantity(text)) == parse_quantity(text)


@pytest.mark.parametrize("text", ["", "1 Gi", "Gi", "1GB"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        canonical_quantity(text)
