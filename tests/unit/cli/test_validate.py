"""`aegate validate`: output, warnings and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from aegate_cli.validate import validate_command

GOOD = """\
apiVersion: aegate.dev/v1alpha1
kind: ApplicationEntity
metadata: {name: ct1}
spec: {title: CT1, node: 10.1.2.3, port: 104}
"""
ROUTE = """\
apiVersion: aegate.dev/v1alpha1
kind: ImageRoute
metadata: {name: r1}
spec: {to: [pacs], from: {aes: [ct1]}}
"""
HOSPITAL = Path(__file__).parents[3] / "examples" / "hospital"


def run(*arguments: str | Path, stdin: str = "") -> Result:
    """Run the command as `aegate validate` does."""
    app = typer.Typer()
    app.command("validate")(validate_command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def test_valid_files_exit_0(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    result = run(tmp_path)
    assert (result.exit_code, result.stdout) == (0, "valid: 1 ApplicationEntity; problems: 0; warnings: 0\n")
    assert result.stderr == ""


def test_problems_exit_1_and_stand_in_the_order_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD.replace("CT1", "A2345678901234567") + "---\n" + GOOD.replace("104", "Off"))
    result = run(file)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("spec.title: expected at most 16 characters, got 17: shorten it")
    assert lines[1].startswith(
        f"{file}:8: ApplicationEntity default/ct1 metadata.name: expected every resource once"
    )
    assert lines[2].startswith(
        f"{file}:9: ApplicationEntity default/ct1 spec.port: expected an integer, got the boolean"
    )
    assert result.stdout == "valid: nothing; problems: 3; warnings: 0\n"


@pytest.mark.parametrize("name", ["absent.yaml", ""])
def test_unreadable_paths_exit_2(tmp_path: Path, name: str) -> None:
    result = run(tmp_path / name)
    assert result.exit_code == 2
    assert str(tmp_path) in result.stderr


def test_no_path_at_all_exits_2() -> None:
    assert run().exit_code == 2


def test_standard_input() -> None:
    assert run("-", stdin=GOOD).exit_code == 0
    assert run("-", stdin=GOOD.replace("104", "0")).exit_code == 1
    assert run("-", stdin="").exit_code == 2
    assert run("-", stdin=json.dumps({"kind": "Nothing"})).exit_code == 1


def test_what_only_all_show_together_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD + "---\n" + ROUTE)
    result = run(file)
    assert result.exit_code == 0
    assert result.stderr == (
        f"{file}:6: warning: ImageRoute default/r1: EntityNotFound: "
        "spec.to names 'pacs', no ApplicationEntity of namespace default.\n"
    )


def test_warnings_wait_until_nothing_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD.replace("104", "0") + "---\n" + ROUTE)
    result = run(file)
    assert result.exit_code == 1
    assert "warning:" not in result.stderr


def test_locations_beside_the_manifests_are_known(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD.replace("104", "104, locationCode: ER"))
    assert run(file).stderr == "", "without a table none is missed"
    (tmp_path / "locations.csv").write_text("code,display_name\nRAD,Radiology\n")
    assert "LocationUnknown" in run(file).stderr
    (tmp_path / "locations.csv").write_text("code,display_name\nER,Emergency\n")
    assert run(file).stderr == ""
    (tmp_path / "locations.csv").write_text("ER\n")
    wrong = run(file)
    assert wrong.exit_code == 1
    assert f"{tmp_path}/locations.csv:1: expected the header" in wrong.stderr


def test_old_versions_make_transition_rules_hold(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(GOOD)
    new.write_text(GOOD.replace("104", "104, patientPartition: other"))
    assert run(new).exit_code == 0
    result = run(new, "--old", old)
    assert result.exit_code == 1
    assert "patientPartition is immutable" in result.stderr
    assert run(old, "--old", old).exit_code == 0


def test_old_version_may_break_a_rule_of_today(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(GOOD.replace("10.1.2.3", "ct1.example.org"))
    new.write_text(
        GOOD.replace("10.1.2.3", "ct1.example.org").replace("name: ct1", "name: ct1, labels: {a: b}")
    )
    assert run(new).exit_code == 1
    result = run(new, "--old", old)
    assert (result.exit_code, result.stderr) == (0, "")


def test_old_versions_may_come_from_kubectl(tmp_path: Path) -> None:
    new = tmp_path / "new.yaml"
    new.write_text(GOOD.replace("104", "104, patientPartition: other"))
    assert "patientPartition is immutable" in run(new, "--old", "-", stdin=GOOD).stderr
    both = run("-", "--old", "-", stdin=GOOD)
    assert both.exit_code == 2
    assert "put one of them into a" in both.stderr


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("a: [", 1, "old.yaml:1: expected YAML"),
        ("kind: Nothing", 1, "old.yaml:1: kind: expected one of AEPolicy"),
        (GOOD.replace("{name: ct1}", "{}"), 1, "old.yaml:3: metadata.name: expected a name, got nothing"),
        (None, 2, "old.yaml: expected a readable file or folder"),
    ],
)
def test_old_versions_that_cannot_be_known_are_a_problem(
    tmp_path: Path, text: str | None, code: int, words: str
) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    new.write_text(GOOD)
    if text is not None:
        old.write_text(text)
    result = run(new, "--old", old)
    assert result.exit_code == code
    assert words in result.stderr


def test_a_policy_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(
        "apiVersion: aegate.dev/v1alpha1\nkind: AEPolicy\nmetadata: {name: all}\nspec: {requireTLS: true}\n"
    )
    assert run(file).stdout == "valid: 1 AEPolicy; problems: 0; warnings: 0\n"
    (valid,) = json.loads(run(file, "-o", "json").stdout)["valid"]
    assert valid == {"kind": "AEPolicy", "namespace": "", "name": "all", "source": f"{file}:1"}


def test_json_output_is_for_programs(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD + "---\n" + ROUTE)
    result = json.loads(run(file, "-o", "json").stdout)
    assert [entry["name"] for entry in result["valid"]] == ["ct1", "r1"]
    assert [(w["name"], w["type"], w["reason"]) for w in result["warnings"]] == [
        ("r1", "ResolvedRefs", "EntityNotFound")
    ]
    file.write_text(GOOD.replace("104", "0"))
    output = run(file, "-o", "json")
    assert output.exit_code == 1
    (problem,) = json.loads(output.stdout)["problems"]
    assert problem == {
        "file": str(file),
        "line": 4,
        "column": 36,
        "kind": "ApplicationEntity",
        "namespace": "default",
        "name": "ct1",
        "field": "spec.port",
        "expected": "at least 1",
        "got": "0",
        "advice": "",
        "message": "expected at least 1, got 0",
    }


def test_help_documents_the_exit_codes() -> None:
    text = run("--help").stdout
    for words in ("0 all valid", "1 something is wrong", "2 a path cannot be read", "examples/hospital"):
        assert words in text


def test_the_hospital_warns_of_its_printer_alone() -> None:
    result = run(HOSPITAL)
    assert result.exit_code == 0
    assert [line.split(": ")[3] for line in result.stderr.splitlines()] == ["PrintNotAvailable"]
