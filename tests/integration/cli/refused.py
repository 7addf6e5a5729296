"""Folders on which no command may do anything: each is made at a path, and what is said of it is known."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def made_by_nobody(folder: Path) -> None:
    folder.mkdir()


def of_somebody_else(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    (folder / "blobs").mkdir()


def a_file(folder: Path) -> None:
    folder.write_text("mine")


def never_run(folder: Path) -> None:
    folder.mkdir()
    (folder / "VERSION").write_text("1\n")


def newer(folder: Path) -> None:
    folder.mkdir()
    (folder / "VERSION").write_text("99\n")


def without_a_format(folder: Path) -> None:
    folder.mkdir()
    (folder / "VERSION").write_text("")


def half_copied(folder: Path) -> None:
    never_run(folder)
    (folder / "aegate.sqlite3").write_bytes(b"")


def with_index(folder: Path, template: Path) -> Path:
    never_run(folder)
    return Path(shutil.copyfile(template, folder / "aegate.sqlite3"))


def cut_in_half(folder: Path, template: Path) -> None:
    path = with_index(folder, template)
    os.truncate(path, path.stat().st_size // 2)


def of_newer_schema(folder: Path, template: Path) -> None:
    with sqlite3.connect(with_index(folder, template)) as db:
        db.execute(
            "INSERT INTO tortoise_migrations (app, name, applied_at) VALUES ('models', '9999_later', '2026-01-01')"
        )
    db.close()


def of_somebody_elses_index(folder: Path) -> None:
    never_run(folder)
    sqlite3.connect(folder / "aegate.sqlite3").execute("CREATE TABLE t (x)").connection.close()


def closed_to_us(folder: Path, template: Path) -> None:
    with_index(folder, template)
    folder.chmod(0)


def with_a_closed_index(folder: Path, template: Path) -> None:
    with_index(folder, template).chmod(0)


def with_a_closed_version(folder: Path, template: Path) -> None:
    with_index(folder, template)
    (folder / "VERSION").chmod(0)


@dataclass(frozen=True)
class Refused:
    """A folder, what is said of it as a data folder, and what as a backup."""

    make: Callable[..., None]
    said: str
    as_backup: str = "expected a backup made by `aegate backup`, got none"

    def put(self, folder: Path, template: Path) -> None:
        """Make it; ``template`` is a migrated SQLite file."""
        arguments = (folder, template)[: self.make.__code__.co_argcount]
        self.make(*arguments)


REFUSED = (
    Refused(made_by_nobody, "expected a data folder of aegate, got none at "),
    Refused(of_somebody_else, "expected a data folder of aegate, got none at "),
    Refused(a_file, "expected a data folder of aegate, got none at "),
    Refused(never_run, "expected the index at "),
    Refused(newer, "is of format 99, written by a newer aegate"),
    Refused(without_a_format, "must name its format in VERSION, got 0 characters"),
    Refused(half_copied, "got a file that is no SQLite database"),
    Refused(cut_in_half, "the SQLite file is damaged or no database"),
    Refused(of_newer_schema, "was written by a newer version of aegate (it has 9999_later"),
    Refused(of_somebody_elses_index, "the database must be of this version, and lacks 0001_initial"),
    Refused(closed_to_us, "cannot be used by user ", "cannot be used (Permission denied): mend its rights"),
    Refused(with_a_closed_index, "cannot be read by user "),
    Refused(with_a_closed_version, "cannot be used by user "),
)
