"""The rules of ``docs/architecture.md`` that a program can keep: where files lie, how large they get, what they say.

Only files that git tracks count, so nobody's left-overs are judged.
"""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_DISTRIBUTION = {"bench", "examples", "tests", "tools"}
"""Top-level folders that hold Python and are no distribution."""

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 80
GENERATED = re.compile(
    r"(.*/)?requirements.*\.lock|.*/go\.(mod|sum)|.*/package-lock\.json|graphql_api/(released/)?schema\.graphql|crds/.*|"
    r"charts/aegate/(values.*|files/((crds|policies)/.*|dashboard.json))|tests/cluster/chart/snapshots/.*|"
    r".*/migrations/.*|.*/static/.*|LICENSE"
)

FORBIDDEN_TEXT = {
    "the address of a package index": r"pypi\.org|pythonhosted|registry\.npmjs|proxy\.golang|repo1\.maven|crates\.io",
    "the path of one machine": r"(?<![\w./])/(work|root|home)/\w",
    "unfinished work": r"\b(TODO|FIXME|HACK)\b|\braise NotImplementedError\b|\bfor now\b",
}


@cache
def tracked() -> tuple[Path, ...]:
    """All files that git tracks and that are there, relative to the root."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return tuple(Path(n) for n in names.split("\0") if n and (ROOT / n).is_file())


def python_files() -> list[Path]:
    return [p for p in tracked() if p.suffix == ".py" and not GENERATED.fullmatch(str(p))]


def written_files() -> Iterator[tuple[Path, str]]:
    """Text that people write: not generated, not binary."""
    for path in tracked():
        if not GENERATED.fullmatch(str(path)) and path != Path(__file__).relative_to(ROOT):
            try:
                yield path, (ROOT / path).read_text()
            except UnicodeDecodeError:
                continue


def distributions() -> dict[str, dict[str, object]]:
    return {
        p.parts[0]: tomllib.loads((ROOT / p).read_text()) for p in tracked() if p.match("*/pyproject.toml")
    }


def workspace() -> dict[str, dict]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_files_are_seen() -> None:
    assert len(python_files()) >= 50
    assert {"core", "scp", "scu", "graphql_api", "cli"} <= distributions().keys()


def test_a_top_level_folder_with_python_is_a_distribution_with_one_package() -> None:
    modules = [p for p in tracked() if p.suffix == ".py"]
    assert [p for p in modules if len(p.parts) == 1] == [], "no Python lies in the root"
    folders = {p.parts[0] for p in modules} - NO_DISTRIBUTION
    assert folders == distributions().keys()
    for folder, metadata in distributions().items():
        packages = {p.parts[1] for p in modules if p.parts[0] == folder}
        assert packages == {f"aegate_{folder}"}, f"{folder}/ holds one package and no loose module"
        assert metadata["project"]["name"] == f"aegate-{folder.replace('_', '-')}"  # type: ignore[index]


def test_nothing_of_python_lies_loose_in_operator() -> None:
    loose = list((ROOT / "operator").glob("*.py"))
    assert loose == [], "it would shadow the standard library's operator for whoever stands in the root"


def test_every_distribution_is_guarded_by_every_tool() -> None:
    tools = workspace()["tool"]
    packages = {f"aegate_{folder}" for folder in distributions()}
    assert set(tools["uv"]["workspace"]["members"]) == distributions().keys()
    assert set(tools["mypy"]["packages"]) == packages
    assert set(tools["importlinter"]["root_packages"]) == packages


def test_dependencies_of_distributions_are_pinned() -> None:
    for folder, metadata in distributions().items():
        wanted = metadata["project"]["dependencies"] + metadata["build-system"]["requires"]  # type: ignore[index,operator]
        loose = [
            d
            for d in wanted
            if not d.startswith("aegate-") and not re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+", d)
        ]
        assert loose == [], f"{folder}/pyproject.toml"


def test_no_file_is_too_long() -> None:
    lengths = {str(path): text.count("\n") for path, text in written_files()}
    assert {path: n for path, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_no_function_is_too_long() -> None:
    long = {}
    for path in python_files():
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long[f"{path}:{node.lineno} {node.name}"] = lines
    assert long == {}


def test_every_module_says_what_lives_in_it() -> None:
    silent = []
    for path in python_files():
        text = (ROOT / path).read_text()
        if text.strip() and not ast.get_docstring(ast.parse(text)):
            silent.append(str(path))
    assert silent == []


@pytest.mark.parametrize("what", FORBIDDEN_TEXT)
def test_no_file_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN_TEXT[what])
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, text in written_files()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_nothing_waits_in_a_way_that_loses_cancellations() -> None:
    """Python 3.11's ``asyncio.wait_for`` returns what came at the moment it was cancelled: its task never ends then."""
    found = [
        str(path)
        for path in python_files()
        if path.parts[0] != "tests" and "asyncio.wait_for(" in (ROOT / path).read_text()
    ]
    assert found == []


def test_lock_files_hold_hashes_and_no_addresses() -> None:
    for name in ("requirements.lock", "requirements-run.lock", "requirements-uv.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert len(re.findall(r"^[\w.-]+==", text, re.MULTILINE)) == len(
            re.findall(r"==[^\n]*\\\n    --hash=sha256:[0-9a-f]{64}", text)
        )


def test_crds_lie_in_one_place() -> None:
    definition = re.compile(r"^kind: CustomResourceDefinition$", re.MULTILINE)
    elsewhere = [
        str(path)
        for path, text in written_files()
        if path.suffix in {".yaml", ".yml"} and definition.search(text) and not (ROOT / path).is_symlink()
    ]
    assert elsewhere == [], "crds/ is the one source"


def test_the_package_links_to_every_crd() -> None:
    links = {link.name: link.resolve() for link in (ROOT / "core/aegate_core/crds").iterdir()}
    assert links == {file.name: file.resolve() for file in (ROOT / "crds").glob("*.yaml")}


def test_a_broad_except_says_why() -> None:
    broad = re.compile(r"except( Exception\b.*)?:")
    found = []
    for path in python_files():
        lines = [*(ROOT / path).read_text().splitlines(), ""]
        for number, line in enumerate(lines[:-1], 1):
            says_why = "#" in line or lines[number].lstrip().startswith("#")
            if path.parts[0] != "tests" and broad.match(line.strip()) and not says_why:
                found.append(f"{path}:{number}")
    assert found == []


def test_tests_neither_sleep_nor_leave_anything_out() -> None:
    left_out = re.compile(r"\bsleep\(|mark\.(skip|skipif|xfail)\b|pytest\.(skip|xfail|importorskip)\(")
    waiting = Path("tests/integration/waiting.py")
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, text in written_files()
        if path.parts[0] == "tests" and path.suffix == ".py" and path != waiting
        for number, line in enumerate(text.splitlines(), 1)
        if left_out.search(line)
    ]
    assert found == []


def test_readme_shows_both_commands_within_twenty_lines() -> None:
    first = (ROOT / "README.md").read_text().splitlines()[:20]
    assert "make demo" in first
    assert "make test" in first


def test_links_between_documents_lead_somewhere() -> None:
    link = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
    broken = [
        f"{path}: {target}"
        for path, text in written_files()
        if path.suffix == ".md"
        for target in link.findall(text)
        if not (ROOT / path.parent / target).exists()
    ]
    assert broken == []


def test_every_decision_record_has_its_four_parts() -> None:
    records = [p for p in tracked() if p.match("docs/adr/[0-9]*.md")]
    numbers = sorted(int(p.name[:4]) for p in records)
    assert numbers == list(range(1, len(records) + 1))
    for path in records:
        headings = re.findall(r"^## (.+)$", (ROOT / path).read_text(), re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences", "What would change our mind"], path
