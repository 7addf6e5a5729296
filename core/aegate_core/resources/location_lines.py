"""Locations as a CSV that comes in pieces and goes out in pieces, in bounded memory; the rules are `locations`'.

What a spreadsheet would take for a formula goes out with an apostrophe before it, and comes in without: so a table that
is exported and imported again is the same table. Each line is a record: no name has a line break in it.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

from aegate_core.errors import InvalidValue
from aegate_core.resources.locations import COLUMNS, Location, location_faults

MOST_LINES = 100_000
"""By feel: ten times the places of the largest hospital; so many are imported in one transaction of a few seconds."""
LONGEST_LINE = 1024
MOST_FAULTS = 100
"""Told of one file: who has more mends these first."""

_FORMULA = ("=", "+", "-", "@", "'", "\t", "\r")
"""How a cell begins that a spreadsheet runs, or that we made harmless before (OWASP: CSV injection)."""


@dataclass(frozen=True, slots=True)
class LineFault:
    """What is wrong with a line, which counts from 1; ``message`` holds nothing of it."""

    line: int
    message: str


class LocationLines:
    """Reads a file as its bytes come."""

    def __init__(self) -> None:
        self.locations: list[Location] = []
        self.faults: list[LineFault] = []
        """The first of them."""
        self.fault_count = 0
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._rest = ""
        self._line = 0
        self._has_header = False
        self._lines_by_code: dict[str, int] = {}

    def feed(self, data: bytes, *, final: bool = False) -> None:
        """Take the next bytes; ``final``: there are no more. Raises InvalidValue for what can be no such file."""
        try:
            text = self._rest + self._decoder.decode(data, final)
        except UnicodeDecodeError as error:
            raise InvalidValue(
                f"the file must be UTF-8 text, got another byte after line {self._line}: save it as CSV UTF-8"
            ) from error
        lines = text.replace("\r\n", "\n").split("\n")
        self._rest = lines.pop()
        for line in lines:
            self._take(line)
        if len(self._rest) > LONGEST_LINE:
            raise InvalidValue(
                f"line {self._line + 1} must have at most {LONGEST_LINE} characters, got more: is it a CSV file?"
            )
        if final:
            if self._rest:
                self._take(self._rest)
            if not self._has_header:
                raise _no_header(max(self._line, 1))

    def _take(self, text: str) -> None:
        self._line += 1
        if self._line > MOST_LINES:
            raise InvalidValue(f"the file must have at most {MOST_LINES} lines, got more: send it in parts")
        if not text.strip() or text.startswith("#"):
            return
        try:
            cells = [c.strip() for c in next(csv.reader([text], skipinitialspace=True, strict=True))]
        except csv.Error:
            self._fault("quotes must be closed, and doubled within a cell")
            return
        if not self._has_header:
            if cells != COLUMNS:
                raise _no_header(self._line)
            self._has_header = True
        elif len(cells) != len(COLUMNS):
            self._fault(f"two cells, code and display_name, are expected, got {len(cells)}")
        else:
            self._add(Location(*(_without_mark(cell) for cell in cells)))

    def _add(self, location: Location) -> None:
        for column, expected in location_faults(location):
            self._fault(f"{column} must be {expected}")
            return
        first = self._lines_by_code.setdefault(location.code, self._line)
        if first != self._line:
            self._fault(f"every code may come once, this one came on line {first}")
            return
        self.locations.append(location)

    def _fault(self, message: str) -> None:
        self.fault_count += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(LineFault(self._line, message))


def _no_header(line: int) -> InvalidValue:
    return InvalidValue(
        f"line {line} must be the header {','.join(COLUMNS)}, got another: make it the first line"
    )


def csv_of(locations: Iterable[Location], *, header: bool = False) -> str:
    """Return locations as lines of CSV."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    if header:
        csv.writer(out, lineterminator="\r\n").writerow(COLUMNS)
    for location in locations:
        writer.writerow((_with_mark(location.code), _with_mark(location.display_name)))
    return out.getvalue()


def _with_mark(cell: str) -> str:
    """Return a cell that no spreadsheet runs.

    >>> _with_mark("=1+1"), _with_mark("ER"), _without_mark(_with_mark("'-x"))
    ("'=1+1", 'ER', "'-x")
    """
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _without_mark(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell
