"""A listener's journal: no line is lost by a kill, no file is taken up half written, and all of it is bounded."""

from __future__ import annotations

import resource
from contextlib import closing
from pathlib import Path

import pytest

from aegate_core.errors import InvalidInput
from aegate_core.stores.spool import AssociationRecord, Journal, SpoolFolder, clear, journals
from aegate_core.stores.spool import journal as journal_module


def everybody(process: str) -> bool:
    return True


def lines(root: Path) -> list[bytes]:
    return [line for path in journals(root, everybody) for line in path.read_bytes().splitlines()]


def test_lines_are_given_away_at_the_next_turn(tmp_path: Path) -> None:
    with closing(SpoolFolder(tmp_path, "p1")):
        journal = Journal(tmp_path, "p1")
        assert journal.write(b"one\n")
        assert lines(tmp_path) == []
        journal.turn()
        assert lines(tmp_path) == [b"one"]
        assert not journal.is_open


def test_while_a_file_waits_the_next_one_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "FILE_BYTES", 100)
    with closing(SpoolFolder(tmp_path, "p1")):
        journal = Journal(tmp_path, "p1")
        for n in range(20):
            assert journal.write(b"%010d\n" % n)
            journal.turn()
        found = list(journals(tmp_path, everybody))
        assert [p.stat().st_size for p in found] == [11, 110]
        found[0].unlink()
        found[1].unlink()
        journal.turn()
        assert lines(tmp_path) == [b"%010d" % n for n in range(11, 20)]


def test_what_a_dead_process_left_open_is_taken_up_and_its_folder_goes(tmp_path: Path) -> None:
    spool = SpoolFolder(tmp_path, "p1")
    assert Journal(tmp_path, "p1").write(b"one\n")
    assert lines(tmp_path) == []
    spool.close()
    (path,) = journals(tmp_path, everybody)
    assert path.read_bytes() == b"one\n"
    assert clear(tmp_path) is False
    path.unlink()
    assert clear(tmp_path) is True


def test_next_life_of_a_process_gives_away_what_the_last_one_left_open(tmp_path: Path) -> None:
    with closing(SpoolFolder(tmp_path, "p1")):
        assert Journal(tmp_path, "p1").write(b"one\n")
        second = Journal(tmp_path, "p1")
        assert second.write(b"two\n")
        assert lines(tmp_path) == [b"one"]


def test_an_indexer_that_removes_the_empty_folder_costs_no_line(tmp_path: Path) -> None:
    with closing(SpoolFolder(tmp_path, "p1")):
        journal = Journal(tmp_path, "p1")
        assert journal.write(b"one\n")
        journal.turn()
        next(journals(tmp_path, everybody)).unlink()
        journal.folder.rmdir()
        assert journal.write(b"two\n")
        journal.close()
        assert lines(tmp_path) == [b"two"]


def test_a_spool_that_is_gone_is_not_made_anew_and_what_it_holds_is_given_away_later(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    with closing(SpoolFolder(root, "p1")):
        journal = Journal(root, "p1")
        assert journal.write(b"one\n")
        root.rename(tmp_path / "away")
        with pytest.raises(FileNotFoundError):
            journal.turn()
        assert journal.write(b"two\n") is False
        assert not root.exists()
        (tmp_path / "away").rename(root)
        journal.turn()
        assert lines(root) == [b"one"]
        assert journal.write(b"three\n")


def test_it_takes_no_more_than_its_bound_and_more_again_when_there_is_room(tmp_path: Path) -> None:
    with closing(SpoolFolder(tmp_path, "p1")):
        journal = Journal(tmp_path, "p1", most_bytes=30)
        assert [journal.write(b"%09d\n" % n) for n in range(4)] == [True, True, True, False]
        journal.turn()
        assert journal.write(b"more\n") is False
        next(journals(tmp_path, everybody)).unlink()
        journal.turn()
        assert journal.write(b"more\n") is True


def test_disk_that_takes_half_a_line_keeps_none_of_it(tmp_path: Path) -> None:
    with closing(SpoolFolder(tmp_path, "p1")):
        journal = Journal(tmp_path, "p1")
        assert journal.write(b"x" * 60 + b"\n")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            assert journal.write(b"y" * 60 + b"\n") is False
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert journal.write(b"z\n") is True
        journal.close()
        assert lines(tmp_path) == [b"x" * 60, b"z"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b'{"happened":"ACC',
        b"[]",
        b'{"happened":"ACCEPTED","at":"x","ae":null,"peer":"","detail":{}}',
        b'{"happened":"ENDED","at":"2026-01-01T00:00:00+00:00","ae":null,"peer":"\\u0000","detail":{}}',
    ],
)
def test_other_lines_are_no_records(line: bytes) -> None:
    with pytest.raises(InvalidInput):
        AssociationRecord.from_line(line)
