"""What `aegate validate` says of manifests: problems, warnings, and the exit code."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import typer

from aegate_core.decisions.references import Surroundings, decide_conditions
from aegate_core.resources.conditions import Condition, ConditionType, Reason
from aegate_core.resources.crds import load_crds
from aegate_core.resources.locations import LocationsFile, location_files, read_locations
from aegate_core.resources.manifests import read_manifests
from aegate_core.resources.problems import Problem
from aegate_core.resources.reference import ResourceRef, ref_of
from aegate_core.resources.validation import ValidationResult, old_versions, validate_manifests
from aegate_core.resources.values import Resource

VALID, PROBLEMS, UNUSABLE = 0, 1, 2
_HEALTHY = (Reason.DISABLED, Reason.SUSPENDED)


def give_verdict(paths: Sequence[str], old: Sequence[str], *, as_json: bool) -> int:
    """Check the manifests below ``paths``, against those below ``old`` where given; print all, return the exit code."""
    crds = load_crds()
    before = read_manifests(old, stdin=_stdin)
    versions, wrong_versions = old_versions(before, crds)
    result = validate_manifests(paths, old=versions, crds=crds, stdin=_stdin)
    places = [read_locations(file) for file in _location_files(paths)]
    wrong = [*wrong_versions, *result.problems, *(problem for place in places for problem in place.problems)]
    problems = sorted(wrong, key=lambda problem: (problem.file, problem.line, problem.column))
    unreadable = [*before.unreadable, *result.unreadable]
    warnings = [] if problems or unreadable else _warnings(result.resources, places)
    if as_json:
        typer.echo(_as_json(result, [*unreadable, *problems], warnings))
    else:
        _print(result, [*unreadable, *problems], warnings)
    return UNUSABLE if unreadable else PROBLEMS if problems else VALID


def _stdin(most: int) -> bytes:
    return sys.stdin.buffer.read(most)


def _location_files(paths: Sequence[str]) -> list[Path]:
    """Return the locations.csv of every folder given, and beside every file given."""
    return sorted({file for path in paths if path != "-" for file in location_files(Path(path))})


def _warnings(
    resources: Sequence[Resource], places: Sequence[LocationsFile]
) -> list[tuple[ResourceRef, str, Condition]]:
    """Return every condition that is not as it should be, with the resource and where that is written."""
    codes = frozenset(location.code for place in places for location in place.locations)
    sources = {ref_of(resource): resource.metadata.source for resource in resources}
    decided = decide_conditions(resources, Surroundings(locations=codes if places else None))
    return [
        (ref, sources[ref], condition)
        for ref, conditions in decided.items()
        for condition in _failing(conditions)
        if condition.reason not in _HEALTHY
    ]


def _failing(conditions: Sequence[Condition]) -> list[Condition]:
    """Return the conditions that are not True; Ready only where it says what no other one does."""
    failing = [condition for condition in conditions if not condition.is_true]
    said = {condition.reason for condition in failing if condition.type is not ConditionType.READY}
    return [c for c in failing if c.type is not ConditionType.READY or c.reason not in said]


def _print(
    result: ValidationResult,
    problems: Sequence[Problem],
    warnings: Sequence[tuple[ResourceRef, str, Condition]],
) -> None:
    for problem in problems:
        typer.echo(str(problem), err=True)
    for ref, source, condition in warnings:
        typer.echo(f"{source}: warning: {ref}: {condition.reason}: {condition.message}", err=True)
    counts = Counter(ref.kind for ref, _ in _valid(result))
    valid = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "nothing"
    typer.echo(f"valid: {valid}; problems: {len(problems)}; warnings: {len(warnings)}")


def _valid(result: ValidationResult) -> list[tuple[ResourceRef, str]]:
    """Return what is right, with its place."""
    resources = [(ref_of(resource), resource.metadata.source) for resource in result.resources]
    return [*resources, *((policy.ref, policy.source) for policy in result.policies)]


def _as_json(
    result: ValidationResult,
    problems: Sequence[Problem],
    warnings: Sequence[tuple[ResourceRef, str, Condition]],
) -> str:
    return json.dumps(
        {
            "valid": [
                {"kind": ref.kind, "namespace": ref.key.namespace, "name": ref.key.name, "source": source}
                for ref, source in _valid(result)
            ],
            "problems": [problem.to_json() for problem in problems],
            "warnings": [
                {
                    "kind": ref.kind,
                    "namespace": ref.key.namespace,
                    "name": ref.key.name,
                    "source": source,
                    "type": condition.type.value,
                    "reason": condition.reason.value,
                    "message": condition.message,
                }
                for ref, source, condition in warnings
            ],
        },
        indent=2,
        ensure_ascii=False,
    )
