"""A table of locations that comes in pieces is the table, whatever the pieces; what is wrong is told by its line."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegate_core.errors import InvalidValue
from aegate_core.resources.location_lines import (
    LONGEST_LINE,
    MOST_FAULTS,
    MOST_LINES,
    LocationLines,
    csv_of,
)
from aegate_core.resources.locations import Location, location_faults

HEADER = "code,display_name\n"


def read(*pieces: bytes) -> LocationLines:
    lines = LocationLines()
    for piece in pieces:
        lines.feed(piece)
    lines.feed(b"", final=True)
    return lines


cells = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=20).map(
    str.strip
)
tables = st.lists(
    st.builds(Location, cells, cells).filter(lambda place: not location_faults(place)),
    max_size=8,
    unique_by=lambda place: place.code,
)


@given(tables, st.integers(1, 9))
def test_what_is_exported_is_imported_as_it_was(places: list[Location], piece: int) -> None:
    data = csv_of(places, header=True).encode()
    found = read(*(data[at : at + piece] for at in range(0, len(data), piece)))
    assert (found.locations, found.fault_count) == (places, 0)


@given(tables)
def test_no_cell_begins_as_a_formula(places: list[Location]) -> None:
    for row in csv.reader(io.StringIO(csv_of(places), newline="")):
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row)


def test_marks_comments_blank_lines_and_line_ends_are_no_rows() -> None:
    found = read("\ufeff# of the ward\r\n\r\ncode, display_name\r\nER, Emergency\r\n".encode())
    assert found.locations == [Location("ER", "Emergency")]


def test_what_is_wrong_is_told_by_its_line() -> None:
    rows = ["ER,Emergency", "ER,Again", "one cell", "a,b,c", f"{'x' * 65},long", ",none", '"open,quote']
    found = read((HEADER + "\n".join(rows)).encode())
    assert [fault.line for fault in found.faults] == [3, 4, 5, 6, 7, 8]
    assert found.faults[0].message == "every code may come once, this one came on line 2"
    assert found.locations == [Location("ER", "Emergency")]
    many = read((HEADER + "one cell\n" * 500).encode())
    assert (len(many.faults), many.fault_count) == (MOST_FAULTS, 500)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (HEADER.encode() + b"ER,Notf\xe4lle\n", "UTF-8"),
        ("code,display_name\nER,x\n".encode("utf-16"), "UTF-8"),
        (HEADER.encode() + b"ER,Notf\xc3", "UTF-8"),
        (b"name,code\n", "header"),
        (b"", "header"),
        (b"x" * (LONGEST_LINE + 1), "characters"),
        ((HEADER + "\n" * MOST_LINES).encode(), "lines"),
        (b"\x1f\x8b\x08\x00" + b"\0" * 50, "UTF-8"),
    ],
)
def test_what_can_be_no_such_file_is_refused_at_once(data: bytes, told: str) -> None:
    with pytest.raises(InvalidValue, match=told):
        read(data)
