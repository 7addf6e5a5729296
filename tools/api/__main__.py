"""``python -m tools.api check``: what breaks clients of the last release? ``release``: this schema is the last one."""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path

from graphql import build_schema
from ruamel.yaml import YAML

from tools.api.changes import badly_deprecated, breaking, faults

FOLDER = Path(__file__).parents[2] / "graphql_api"
NOW = Path("schema.graphql")
RELEASED = Path("released/schema.graphql")
WAIVERS = Path("released/waivers.yaml")
VERSION = Path("released/version.txt")
PROJECT = Path("pyproject.toml")
HEAD = """\
# What of graphql_api/schema.graphql breaks clients of the last release, whose schema lies here. `make check` prints the
# lines that have to stand here, each with its reason; a release empties the list. The rules: docs/api/versions.md.
#
# - change: "FIELD_REMOVED: Field Query.oldName was removed."
#   because: announced in 0.2 as deprecated
"""


def waivers(folder: Path) -> dict[str, str]:
    """Return change to reason."""
    listed = YAML(typ="safe").load((folder / WAIVERS).read_text()) or []
    return {str(entry["change"]): str(entry.get("because") or "") for entry in listed}


def check(folder: Path) -> list[str]:
    """Return what is wrong."""
    released, now = (build_schema((folder / path).read_text()) for path in (RELEASED, NOW))
    return [
        *of_another_release(folder),
        *faults(breaking(released, now), waivers(folder)),
        *badly_deprecated(now),
    ]


def of_another_release(folder: Path) -> list[str]:
    """Return that the schema of the last release is not that of the version which the project says it has."""
    taken, said = (folder / VERSION).read_text().strip(), version(folder)
    if taken == said:
        return []
    where = f"graphql_api/{RELEASED} is that of {taken}, and graphql_api/{PROJECT} says {said}: "
    if numbers(taken) < numbers(said):
        return [
            f"{where}it is older; `python -m tools.api release` takes the schema of now, as the last step of a release "
            "(CONTRIBUTING.md, A release)"
        ]
    return [f"{where}it is newer; was the version set back? restore one of the two"]


def version(folder: Path) -> str:
    """Return the version that the project has, which is that of the last release or of the one being made."""
    return str(tomllib.loads((folder / PROJECT).read_text())["project"]["version"])


def numbers(text: str) -> tuple[int, ...]:
    """Return a version as numbers, which sort.

    >>> numbers("0.9.1") < numbers("0.10.0")
    True
    """
    return tuple(int(part) for part in text.split("."))


def release(folder: Path) -> None:
    """Take the schema of now as the one of the version that the project has, without waivers."""
    shutil.copyfile(folder / NOW, folder / RELEASED)
    (folder / VERSION).write_text(version(folder) + "\n")
    (folder / WAIVERS).write_text(HEAD)


def main(words: list[str]) -> int:
    """Do what is asked; return the exit code."""
    if words == ["release"]:
        release(FOLDER)
        return 0
    if words != ["check"]:
        print("expected check or release", file=sys.stderr)
        return 2
    found = check(FOLDER)
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
