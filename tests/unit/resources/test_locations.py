"""locations.csv: what is read, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegate_core.resources.locations import Location, location_files, parse_locations, read_locations

HEADER = "code,display_name\n"


def test_rows_comments_and_blank_lines() -> None:
    found = parse_locations(
        '# places\n\ncode,display_name\nER,Emergency\n# more\n CARD , "Cardiology, echo"\n', "l.csv"
    )
    assert [str(p) for p in found.problems] == []
    assert found.locations == [Location("ER", "Emergency"), Location("CARD", "Cardiology, echo")]


def test_quoted_name_may_hold_a_comma() -> None:
    found = parse_locations(HEADER + 'CARD,"Cardiology, echo"\n', "l.csv")
    assert (found.locations, found.problems) == ([Location("CARD", "Cardiology, echo")], [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "l.csv:1: expected the header code,display_name, got nothing: make it the first line"),
        (
            "ER,Emergency\n",
            "l.csv:1: expected the header code,display_name, got 'ER,Emergency': make it the first line",
        ),
        (
            "code;display_name\nER;x\n",
            "l.csv:1: expected the header code,display_name, got 'code;display_name': make it the first line",
        ),
        (
            HEADER + "ER\n",
            "l.csv:2: expected two cells, code and display_name, got 1: separate them by a comma",
        ),
        (
            HEADER + "ER,a,b\n",
            "l.csv:2: expected two cells, code and display_name, got 3: put a name with a comma in quotes",
        ),
        (
            HEADER + ",x\n",
            "l.csv:2: expected a code of 1 to 64 printable characters, got 0: shorten or mend it",
        ),
        (
            HEADER + f"{'x' * 65},x\n",
            "l.csv:2: expected a code of 1 to 64 printable characters, got 65: shorten or mend it",
        ),
        (
            HEADER + "ER,\n",
            "l.csv:2: expected a display_name of 1 to 128 printable characters, got 0: shorten or mend it",
        ),
        (
            HEADER + "ER,a\nER,b\n",
            "l.csv:3: expected every code once, got 'ER' again (first on line 2): remove one of them",
        ),
    ],
)
def test_refused(text: str, problem: str) -> None:
    assert [str(p) for p in parse_locations(text, "l.csv").problems] == [problem]


def test_unreadable_and_foreign_files(tmp_path: Path) -> None:
    absent = read_locations(tmp_path / "absent.csv")
    assert "expected a readable file, got No such file or directory" in str(absent.problems[0])
    (tmp_path / "l.csv").write_bytes(b"code,display_name\nER,M\xfcller\n")
    assert "expected UTF-8 text, got another byte at 22" in str(
        read_locations(tmp_path / "l.csv").problems[0]
    )
    with (tmp_path / "big.csv").open("wb") as out:
        out.truncate(5 * 1024 * 1024)
    assert "expected at most" in str(read_locations(tmp_path / "big.csv").problems[0])


def test_files_are_found_below_a_folder_and_beside_a_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "sub"):
        (folder / "locations.csv").write_text(HEADER)
    assert location_files(tmp_path) == [tmp_path / "locations.csv", tmp_path / "sub" / "locations.csv"]
    assert location_files(tmp_path / "ae.yaml") == [tmp_path / "locations.csv"]
    assert location_files(tmp_path / "none" / "ae.yaml") == []
