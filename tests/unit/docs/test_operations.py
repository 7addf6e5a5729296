"""What docs/operations promises its reader: a page for each alert, an entry for each reason, text to type."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import graphql
import pytest
import typer.main
from ruamel.yaml import YAML

from aegate_cli.__main__ import app
from aegate_core.resources.conditions import ConditionType, Reason
from aegate_core.resources.validation import validate_manifests
from tests.unit.resources.builders import crds

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs/operations"
RUNBOOKS = FOLDER / "runbooks"
PAGES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.md"))
SCHEMA = json.loads((ROOT / "charts/aegate/values.schema.json").read_text())
OURS = "aegate.dev/v1alpha1"


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language; one within a list is indented."""
    found = re.findall(
        rf"^( *)```{language}\n(.*?)^ *```$", (FOLDER / page).read_text(), re.MULTILINE | re.DOTALL
    )
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def commands(page: str) -> Iterator[list[str]]:
    """The commands ``aegate`` and ``helm`` of a page's blocks, as words."""
    for text in blocks(page, "sh"):
        for command in re.findall(r"(?:^|\| )((?:aegate|helm) [^|\n]*)", text, re.MULTILINE):
            yield shlex.split(command, comments=True)


@cache
def alerts() -> dict[str, dict[str, Any]]:
    rules = YAML(typ="safe").load((ROOT / "charts/aegate/files/alerts.yaml").read_text())
    return {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"]}


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*")} == alerts().keys()
    listed = re.findall(
        r"^\| \[(\w+)\]\(runbooks/\1\.md\) \| (\w+) \|", (FOLDER / "alerts.md").read_text(), re.MULTILINE
    )
    assert sorted(listed) == sorted((name, rule["labels"]["severity"]) for name, rule in alerts().items())


@pytest.mark.parametrize("name", alerts())
def test_words_of_an_alert_name_labels_that_it_has(name: str) -> None:
    rule = alerts()[name]
    has = {label for by in re.findall(r"\bby \(([^)]*)\)", rule["expr"]) for label in by.split(", ")}
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert named - has == set()


@pytest.mark.parametrize("name", alerts())
def test_runbook_says_what_it_means_what_it_costs_where_to_look_and_what_to_do(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.splitlines()[:2] == [f"# {name}", f"Severity: {alerts()[name]['labels']['severity']}"]
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Meaning", "Impact", "Look", "Mend"]


def test_every_reason_has_its_entry_and_every_entry_its_reason() -> None:
    text = (FOLDER / "troubleshooting.md").read_text()
    entries = re.findall(r"^### (\w+)\n(.+)$", text, re.MULTILINE)
    assert sorted(reason for reason, _ in entries) == sorted(reason.value for reason in Reason)
    said = {word for _, line in entries for word in re.findall(r"`(\w+)=(?:True|False|Unknown)`", line)}
    assert said == {type.value for type in ConditionType}
    silent = [reason for reason, line in entries if "`" not in line]
    assert silent == [], "the line under an entry says which conditions have it"


@pytest.mark.parametrize("page", PAGES)
def test_resources_of_a_page_are_valid(page: str, tmp_path: Path) -> None:
    number = 0
    for text in blocks(page, "yaml"):
        for document in YAML(typ="safe").load_all(text):
            if isinstance(document, dict) and document.get("apiVersion") == OURS:
                number += 1
                (tmp_path / f"{number}.yaml").write_text(json.dumps(document))
    result = validate_manifests([str(tmp_path)], crds=crds()) if number else None
    assert result is None or [str(p) for p in [*result.problems, *result.unreadable]] == []


def unknown_values(values: Any, schema: dict[str, Any], at: str = "") -> Iterator[str]:
    for key, value in values.items():
        part = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
        if not part:
            yield f"{at}{key}"
        elif isinstance(value, dict) and part.get("type") == "object":
            yield from unknown_values(value, part, f"{at}{key}.")


@pytest.mark.parametrize("page", PAGES)
def test_values_of_a_page_are_the_charts(page: str) -> None:
    unknown = [
        key
        for text in blocks(page, "yaml")
        if text.startswith("# values")
        for key in unknown_values(YAML(typ="safe").load(text), SCHEMA)
    ]
    for command in commands(page):
        for flag, word in itertools.pairwise(command):
            if command[0] == "helm" and flag == "--set":
                nested: Any = True
                for step in reversed(re.sub(r"\[\d+\]", "", word.partition("=")[0]).split(".")):
                    nested = {step: nested}
                unknown += unknown_values(nested, SCHEMA)
    assert unknown == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_have_the_options_that_it_shows(page: str) -> None:
    wrong = []
    for command in commands(page):
        if command[:1] != ["aegate"]:
            continue
        at: click.Command = typer.main.get_command(app)
        words = command[1:]
        while (commands_of := getattr(at, "commands", None)) and words:
            found = commands_of.get(words.pop(0))
            assert found is not None, command
            at = found
        known = {option for parameter in at.params for option in (*parameter.opts, *parameter.secondary_opts)}
        wrong += [w for w in words if w.startswith("-") and w != "-" and w.partition("=")[0] not in known]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES)
def test_queries_of_a_page_are_what_the_api_answers(page: str) -> None:
    schema = graphql.build_schema((ROOT / "graphql_api/schema.graphql").read_text())
    wrong = [
        error.message
        for text in blocks(page, "graphql")
        for error in graphql.validate(schema, graphql.parse(text))
    ]
    assert wrong == []
