"""The table of cases, told to `aegate validate`; tests/cluster/validation tells it to an API server."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from aegate_cli.validate import validate_command
from tests.crd_cases.table import Case, load_cases, reported_field

CASES = load_cases()


def verdict(case: Case, folder: Path) -> tuple[int, list[tuple[str, str]]]:
    """The exit code of the command, and the fields it refuses with what it says of each."""
    app = typer.Typer()
    app.command("validate")(validate_command)
    arguments = ["-", "-o", "json"]
    if case.old is not None:
        (folder / "old.json").write_text(json.dumps(case.old))
        arguments += ["--old", str(folder / "old.json")]
    result = CliRunner().invoke(app, arguments, input=json.dumps(case.manifest))
    problems = json.loads(result.stdout)["problems"]
    return result.exit_code, [(reported_field(p["field"]), p["message"]) for p in problems]


def test_there_are_enough_cases_of_every_kind_with_a_name_each() -> None:
    assert len(CASES) >= 150
    assert sum(case.old is not None for case in CASES) >= 40
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []
    refused = Counter(case.kind for case in CASES if case.refused)
    accepted = Counter(case.kind for case in CASES if not case.refused)
    assert (
        set(refused) == set(accepted) == {"ApplicationEntity", "ImageRoute", "PatientPartition", "AEPolicy"}
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_command_agrees(case: Case, tmp_path: Path) -> None:
    code, said = verdict(case, tmp_path)
    assert {field for field, _ in said} == case.refused.keys(), said
    assert code == (1 if case.refused else 0)
    for field, words in case.refused.items():
        assert any(words in message for at, message in said if at == field), said


def test_every_rule_of_the_crds_is_in_the_table() -> None:
    """Every rule refuses some case: a rule that nobody has seen refuse may not work at all."""
    files = (Path(__file__).parents[3] / "crds").glob("*.yaml")
    messages = {m for file in files for m in re.findall(r'\bmessage: "([^"]+)"', file.read_text())}
    words = [words for case in CASES for words in case.refused.values()]
    assert sorted(m for m in messages if not any(w in m for w in words)) == []
