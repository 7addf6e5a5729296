"""`fsck`, `retention`, `backup` and `restore` on what they cannot be used on: one sentence, and nothing is touched."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.cli.installations import AEGATE
from tests.integration.cli.refused import REFUSED, Refused, with_index

WITHOUT_PRIVILEGE = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"] if os.geteuid() == 0 else []
)
"""What root may do in spite of a file's mode, taken from it: an ordinary user needs nothing."""


def aegate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*WITHOUT_PRIVILEGE, *AEGATE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "200"},
    )


def tree(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return all below ``root``, itself too: modes, and the files' times and contents; what is closed is opened."""
    found = {}
    for path in (root, *sorted(root.rglob("*"))) if root.stat().st_mode & 0o700 else (root,):
        found[str(path.relative_to(root))] = _state(path)
    return found


def _state(path: Path) -> tuple[int, int, bytes]:
    status = path.stat()
    if not path.is_file():
        return status.st_mode, 0, b""  # a folder's time tells of SQLite's locks, which come and go
    if status.st_mode & 0o400 == 0:
        path.chmod(0o600)
    content = path.read_bytes()
    path.chmod(status.st_mode & 0o777)
    return status.st_mode, status.st_mtime_ns, content


@pytest.mark.parametrize("refused", REFUSED, ids=lambda r: r.make.__name__)
def test_what_is_not_ours_half_newer_or_closed_is_refused_and_left_alone(
    tmp_path: Path, sqlite_template: Path, refused: Refused
) -> None:
    folder, target, new = tmp_path / "data", tmp_path / "target", tmp_path / "new"
    refused.put(folder, sqlite_template)
    before = tree(folder)
    commands = {
        ("fsck", "--data", folder, "--repair"): refused.said,
        ("retention", "--data", folder): refused.said,
        ("backup", target, "--data", folder): refused.said,
        ("restore", folder, "--data", new): refused.as_backup,
    }
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda c: aegate(*c), commands))
    for (command, said), done in zip(commands.items(), answers, strict=True):
        assert done.returncode == 2, (command, done.stdout, done.stderr)
        assert said in done.stderr, (command, done.stderr)
        assert len(done.stderr.splitlines()) == 1, (command, done.stderr)
        assert done.stdout == ""
    assert tree(folder) == before
    assert (target.exists(), new.exists()) == (False, False)


def test_places_that_we_may_not_write_are_refused_and_left_alone(
    tmp_path: Path, sqlite_template: Path
) -> None:
    data, whole, others, closed = (tmp_path / n for n in ("data", "whole", "others", "closed"))
    with_index(data, sqlite_template)
    assert aegate("backup", whole, "--data", data).returncode == 0
    others.mkdir(mode=0o500)
    closed.mkdir(mode=0)
    before = tree(tmp_path)
    for arguments in (
        ("backup", others / "target", "--data", data),
        ("backup", others, "--data", data),
        ("backup", closed, "--data", data),
        ("restore", whole, "--data", others / "new"),
        ("restore", whole, "--data", closed),
    ):
        done = aegate(*arguments)
        assert (done.returncode, "cannot be used (Permission denied): mend its rights" in done.stderr) == (
            2,
            True,
        ), (
            arguments,
            done.stderr,
        )
        assert len(done.stderr.splitlines()) == 1
    assert tree(tmp_path) == before
