"""Tests of data folder."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from aegate_cli.data_folder import data_option, default_data_folder, hold_data_folder, storage_error
from aegate_core.errors import Conflict, SchemaMismatch, StorageError, StorageFull
from aegate_core.settings import data_folder


def test_it_is_made_for_its_owner_alone_and_can_be_opened_again(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "data"
    for _ in range(2):
        with hold_data_folder(root) as held:
            assert held.data.root == root
            assert {p.name for p in root.iterdir()} == {
                "VERSION",
                "lock",
                "spool",
                "blobs",
                "run",
            }
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_its_version_is_durable_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power loss an empty VERSION would be refused at every start."""
    root, steps, fsync, replace = tmp_path / "d", list[str](), os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (steps.append(Path(f"/proc/self/fd/{fd}").readlink().name), fsync(fd))[1]
    )
    monkeypatch.setattr(Path, "replace", lambda a, b: (steps.append(f"{b.name} is there"), replace(a, b))[1])

    with hold_data_folder(root):
        pass

    assert [s for s in steps if not s.startswith("probe-")] == ["VERSION.part", "VERSION is there", "d"]


def test_it_is_held_once(tmp_path: Path) -> None:
    said = rf"in use by another `aegate up` \(process {os.getpid()}\)"
    with hold_data_folder(tmp_path / "d"), pytest.raises(Conflict, match=said):
        hold_data_folder(tmp_path / "d").__enter__()
    with hold_data_folder(tmp_path / "d"):
        pass


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "d"
    root.mkdir()
    (root / "VERSION").write_text("2\n")
    with pytest.raises(SchemaMismatch, match="format 2, written by a newer aegate"):
        hold_data_folder(root).__enter__()
    assert {p.name for p in root.iterdir()} == {"VERSION", "lock"}


def test_a_version_that_is_no_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "VERSION").write_text("soon")
    with pytest.raises(SchemaMismatch, match="VERSION"):
        hold_data_folder(tmp_path).__enter__()


def test_somebody_elses_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    tmp_path.chmod(0o755)
    with pytest.raises(StorageError, match="must be empty or made by aegate, got 1 other entries"):
        hold_data_folder(tmp_path).__enter__()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("x")
    with pytest.raises(StorageError, match="must be a folder"):
        hold_data_folder(tmp_path / "d").__enter__()


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.ENOSPC, StorageFull, "is full: make room"),
        (errno.EDQUOT, StorageFull, "is full: make room"),
        (errno.EROFS, StorageError, "read-only file system"),
        (errno.EACCES, StorageError, "cannot be used by user"),
        (errno.ENAMETOOLONG, StorageError, "cannot be used"),
    ],
)
def test_what_the_system_says_is_translated(number: int, kind: type[StorageError], said: str) -> None:
    error = storage_error(OSError(number, os.strerror(number)), Path("/data"))
    assert type(error) is kind
    assert said in error.message
    assert "--data" in error.message


def test_the_default_is_the_same_from_everywhere() -> None:
    assert default_data_folder({"XDG_DATA_HOME": "/x"}) == Path("/x/aegate")
    assert default_data_folder({}) == Path.home() / ".local" / "share" / "aegate"


def test_hints_name_a_folder_that_is_not_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/x")
    assert data_option(data_folder({}, Path("/x/aegate"))) == ""
    assert data_option(data_folder({}, Path("/srv/aegate"))) == " --data /srv/aegate"
    assert data_option(data_folder({}, Path("/srv/my aegate"))) == " --data '/srv/my aegate'"
