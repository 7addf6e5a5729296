"""Locations as a CSV file: ``locations.csv`` beside the manifests, with the columns ``code`` and
``display_name``.

Locations are master data, not resources: clinical staff edits them. The file is how one machine without a
database of its own gets them, and how many are imported at once. Lines that begin with ``#`` are comments.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from aegate_core.resources.manifests import files_below
from aegate_core.resources.problems import Problem, show

FILE_NAME = "locations.csv"
COLUMNS = ["code", "display_name"]
LONGEST_CODE = 64
LONGEST_NAME = 128
LARGEST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Location:
    """A place: the code that AEs and routes name, and its name for people."""

    code: str
    display_name: str


@dataclass(slots=True)
class LocationsFile:
    """What a CSV file says, and what is wrong with it.

    With problems, use none of it: half a table misleads.
    """

    locations: list[Location] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def location_files(path: FilePath) -> list[FilePath]:
    """Return the location files below a folder, or the one beside a file."""
    if not path.is_dir():
        return [file for file in (path.parent / FILE_NAME,) if file.is_file()]
    return sorted(file for file in files_below(path) if file.name == FILE_NAME)


def read_locations(file: FilePath) -> LocationsFile:
    """Read ``file``. Never raises for what is in it, nor for one that cannot be read."""
    try:
        if file.stat().st_size > LARGEST_BYTES:
            return _refused(
                file, f"at most {LARGEST_BYTES} bytes", f"{file.stat().st_size}", "split the file"
            )
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        return _refused(file, "UTF-8 text", f"another byte at {error.start}", "save the file as CSV UTF-8")
    except OSError as error:
        return _refused(
            file, "a readable file", error.strerror or type(error).__name__, "check the path and its mode"
        )
    return parse_locations(text, str(file))


def parse_locations(text: str, file: str) -> LocationsFile:
    """Read the text of a CSV file."""
    found = LocationsFile()
    rows = _rows(text)
    line, header = next(rows, (1, []))
    if [cell.strip() for cell in header] != COLUMNS:
        got = show(",".join(header)) if header else "nothing"
        found.problems.append(
            _problem(file, line, f"the header {','.join(COLUMNS)}", got, "make it the first line")
        )
        return found
    lines_by_code: dict[str, int] = {}
    for line, row in rows:
        problem = _check(file, line, row, lines_by_code)
        if problem is not None:
            found.problems.append(problem)
        else:
            code, name = (cell.strip() for cell in row)
            lines_by_code[code] = line
            found.locations.append(Location(code, name))
    return found


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows with the line each ends on, without blank lines and comments."""
    lines = (line if not line.startswith("#") else "\n" for line in text.splitlines(keepends=True))
    reader = csv.reader(lines, skipinitialspace=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error:
        yield reader.line_num, []


def _check(file: str, line: int, row: Sequence[str], lines_by_code: dict[str, int]) -> Problem | None:
    if len(row) != len(COLUMNS):
        advice = (
            "put a name with a comma in quotes" if len(row) > len(COLUMNS) else "separate them by a comma"
        )
        return _problem(file, line, "two cells, code and display_name", str(len(row)), advice)
    code, name = (cell.strip() for cell in row)
    for column, expected in location_faults(Location(code, name)):
        got = f"{len(code if column == 'code' else name)}"
        return _problem(file, line, f"a {column} of {expected}", got, "shorten or mend it")
    if code in lines_by_code:
        got = f"{code!r} again (first on line {lines_by_code[code]})"
        return _problem(file, line, "every code once", got, "remove one of them")
    return None


def location_faults(location: Location) -> list[tuple[str, str]]:
    """Return the columns that cannot be as they are, with what is expected of each."""
    asked = (("code", location.code, LONGEST_CODE), ("display_name", location.display_name, LONGEST_NAME))
    return [
        (column, f"1 to {longest} printable characters")
        for column, text, longest in asked
        if not 1 <= len(text) <= longest or not text.isprintable()
    ]


def _problem(file: str, line: int, expected: str, got: str, advice: str) -> Problem:
    return Problem(file, line, 1, "", expected, got, advice)


def _refused(file: FilePath, expected: str, got: str, advice: str) -> LocationsFile:
    return LocationsFile(problems=[_problem(str(file), 0, expected, got, advice)])
