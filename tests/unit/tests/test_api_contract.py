"""What breaks clients of the API needs a waiver with its reason, and a waiver needs what it is for."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from graphql import build_schema
from ruamel.yaml import YAML

from tools.api.__main__ import FOLDER, check, release
from tools.api.__main__ import version as tools_version
from tools.api.changes import badly_deprecated, breaking

ROOT = FOLDER.parent
NOW = tools_version(FOLDER)
SDL = """
directive @access(anyOf: [Permission!]!) on OBJECT | FIELD_DEFINITION
enum Permission { TOKEN DICOM_QUEUE AE_EDITOR }
input Given { size: Int = 3 }
type Query @access(anyOf: [TOKEN]) {
  name: String!
  count(first: Int = 50, given: Given): Int @access(anyOf: [DICOM_QUEUE, AE_EDITOR])
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the API, where the schema of now is the one of the release."""
    (tmp_path / "released").mkdir()
    for name in ("schema.graphql", "pyproject.toml"):
        shutil.copyfile(FOLDER / name, tmp_path / name)
    release(tmp_path)
    return tmp_path


def change(folder: Path, before: str, after: str) -> None:
    path = folder / "schema.graphql"
    assert path.read_text().count(before) == 1
    path.write_text(path.read_text().replace(before, after))


def waive(folder: Path, change: str, because: str) -> None:
    (folder / "released" / "waivers.yaml").write_text(f"- change: {change!r}\n  because: {because!r}\n")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("  name: String!\n", "", ["FIELD_REMOVED: Field Query.name was removed."]),
        (
            "name: String!",
            "name: String",
            ["FIELD_CHANGED_KIND: Field Query.name changed type from String! to String."],
        ),
        ("TOKEN DICOM", "DICOM", ["VALUE_REMOVED_FROM_ENUM: Enum value Permission.TOKEN was removed."]),
        (
            "count(first: Int = 50,",
            "count(first: Int = 50, to: Int!,",
            ["REQUIRED_ARG_ADDED: A required argument Query.count(to:) was added."],
        ),
        (
            "= 50",
            "= 20",
            ["ARG_DEFAULT_VALUE_CHANGE: Query.count(first:) has changed defaultValue from 50 to 20."],
        ),
        ("= 3", "= 4", ["INPUT_DEFAULT_VALUE_CHANGE: Given.size has another default value."]),
        (
            "anyOf: [TOKEN]",
            "anyOf: [AE_EDITOR]",
            ["ACCESS_NARROWED: Query.name is not open any more to holders of TOKEN."],
        ),
        (
            "[DICOM_QUEUE, AE_EDITOR]) }",
            "[AE_EDITOR]) }",
            ["ACCESS_NARROWED: Query.count is not open any more to holders of DICOM_QUEUE."],
        ),
    ],
)
def test_what_a_client_can_fail_at_is_named(before: str, after: str, told: list[str]) -> None:
    sdl = SDL.replace("AE_EDITOR])\n}", "AE_EDITOR]) }")
    assert sdl.count(before) == 1
    found = breaking(build_schema(sdl), build_schema(sdl.replace(before, after)))
    assert found == told


@pytest.mark.parametrize("now", ["size: Int", "size: Int = 3"])
def test_what_was_required_may_be_left_out_whatever_it_means_then(now: str) -> None:
    before = build_schema(SDL.replace("size: Int = 3", "size: Int!"))
    assert breaking(before, build_schema(SDL.replace("size: Int = 3", now))) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("name: String!", "name: String! more: Int"),
        ("TOKEN DICOM", "TOKEN NEW DICOM"),
        ("count(first", "count(last: Int, first"),
        ("size: Int = 3", "size: Int = 3 more: Int"),
        ("anyOf: [TOKEN]", "anyOf: [TOKEN, AE_EDITOR]"),
    ],
)
def test_what_is_added_breaks_nothing(before: str, after: str) -> None:
    assert breaking(build_schema(SDL), build_schema(SDL.replace(before, after))) == []


def test_a_breaking_change_needs_a_waiver_with_a_reason(folder: Path) -> None:
    assert check(folder) == []
    change(
        folder, "type Viewer @access(anyOf: [TOKEN]) {", "type Viewer @access(anyOf: [TOKEN]) {\n  old: Int"
    )
    release(folder)
    change(
        folder, "type Viewer @access(anyOf: [TOKEN]) {\n  old: Int", "type Viewer @access(anyOf: [TOKEN]) {"
    )
    broken = "FIELD_REMOVED: Field Viewer.old was removed."
    assert check(folder) == [
        f"breaks clients, and graphql_api/released/waivers.yaml does not say why: {broken}"
    ]
    waive(folder, broken, " ")
    assert check(folder) == [f"waived without a reason: say why: {broken}"]
    waive(folder, broken, "nobody can have read it: it was always null")
    assert check(folder) == []


def test_a_stale_waiver_has_to_go(folder: Path) -> None:
    waive(folder, "FIELD_REMOVED: Query.gone was removed.", "announced in 0.1")
    assert check(folder) == [
        "waived, and does not break anything (any more): take it out: FIELD_REMOVED: Query.gone was removed."
    ]


@pytest.mark.parametrize("reason", ["old", "Use Query.other.", "Goes with 0.3, not before 2027-06-30."])
def test_a_deprecation_says_what_to_use_and_until_when_it_stays(reason: str) -> None:
    [told] = badly_deprecated(build_schema(f'type Query {{ a: Int @deprecated(reason: "{reason}") }}'))
    assert told.startswith(f"Query.a: @deprecated says '{reason}'; it must be like: Use Query.other.")


def test_a_deprecation_that_says_both_may_be() -> None:
    reason = "Use Query.other. Goes with 0.3, not before 2027-06-30."
    places = [
        f'type Query {{ a: Int @deprecated(reason: "{reason}") }}',
        f'type Query {{ a(x: Int @deprecated(reason: "{reason}")): E }} enum E {{ B }}',
        f'type Query {{ a: E }} enum E {{ A @deprecated(reason: "{reason}") B }}',
    ]
    assert [badly_deprecated(build_schema(sdl)) for sdl in places] == [[], [], []]


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("0.10.0", "it is older; `python -m tools.api release` takes the schema of now"),
        ("0.0.9", "it is newer; was the version set back?"),
    ],
)
def test_a_version_whose_schema_was_not_taken_is_said(folder: Path, version: str, said: str) -> None:
    change_version(folder, version)
    before = (folder / "released" / "schema.graphql").read_text()
    [told] = check(folder)
    assert told.startswith(
        f"graphql_api/released/schema.graphql is that of {NOW}, and graphql_api/pyproject.toml says {version}: {said}"
    )
    assert (folder / "released" / "schema.graphql").read_text() == before
    release(folder)
    assert check(folder) == []


def change_version(folder: Path, version: str) -> None:
    path = folder / "pyproject.toml"
    path.write_text(path.read_text().replace(f'version = "{NOW}"', f'version = "{version}"', 1))


def test_all_distributions_have_the_one_version() -> None:
    projects = [ROOT / "pyproject.toml", *sorted(ROOT.glob("*/pyproject.toml"))]
    versions = [tomllib.loads(path.read_text())["project"]["version"] for path in projects]
    chart = YAML(typ="safe").load((ROOT / "charts" / "aegate" / "Chart.yaml").read_text())
    assert [*versions, chart["version"], chart["appVersion"]] == [NOW] * 9


def test_the_command_says_yes_to_what_is_committed() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tools.api", "check"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
