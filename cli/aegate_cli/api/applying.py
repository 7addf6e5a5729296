"""`aegate ae apply`: manifests in force by the API's mutations, each as a whole, with its place in the file.

The surprise: what a file does not say stays, as somebody else may have said it; what stays is named, and --prune takes
it away.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import typer

from aegate_cli.api.client import API
from aegate_cli.api.errors import APIError
from aegate_cli.api.outcomes import problem_of
from aegate_core.errors import AegateError, InvalidInput
from aegate_core.resources.crds import CRD, load_crds
from aegate_core.resources.manifests import Manifest, Reading, read_manifests
from aegate_core.resources.merge import leaves, put_at, value_at
from aegate_core.resources.problems import Path, render_path
from aegate_core.resources.schema import properties, with_defaults
from aegate_core.resources.validation import DEFAULT_NAMESPACE, validate_reading
from aegate_core.resources.yaml_tree import members
from aegate_graphql_api.global_ids import encode_id

DOCUMENTS = {"PatientPartition": "partition", "ApplicationEntity": "entity", "ImageRoute": "route"}
"""Kinds in the order in which they are applied: what others name comes first."""

MISSING = object()


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of one manifest."""

    kind: str
    name: str
    source: str
    done: str
    """created, changed, unchanged or refused."""
    kept: tuple[str, ...] = ()
    """What stands in the spec, and not in the file."""
    error: AegateError | None = None
    faults: tuple[str, ...] = ()
    """What is wrong with it, each with its place in the file."""


@dataclass(slots=True)
class Applying:
    """One run of the command."""

    api: API
    take_over: bool
    prune: bool
    dry_run: bool
    crds: Mapping[str, CRD] = field(default_factory=load_crds)

    def apply(self, paths: Sequence[str]) -> Iterator[Applied]:
        """Put in force what stands in the files. Raises InvalidInput, with nothing changed, for what cannot be."""
        for manifest in self._read(paths):
            yield self._applied(manifest)

    def _read(self, paths: Sequence[str]) -> list[Manifest]:
        reading = read_manifests(paths, stdin=lambda most: sys.stdin.buffer.read(most))
        self._check(reading)
        others = {kind for m in reading.manifests if (kind := str(members(m.value)["kind"])) not in DOCUMENTS}
        if others:
            raise InvalidInput(
                f"`aegate ae apply` puts {', '.join(DOCUMENTS)} in force, got {', '.join(sorted(others))}: leave it out"
            )
        order = list(DOCUMENTS)
        return sorted(reading.manifests, key=lambda m: order.index(str(members(m.value)["kind"])))

    def _check(self, reading: Reading) -> None:
        checked = validate_reading(reading, old={}, crds=self.crds)
        problems = [*checked.unreadable, *checked.problems]
        for problem in problems:
            typer.echo(str(problem), err=True)
        if problems:
            raise InvalidInput(f"nothing was changed: {len(problems)} problems, each named above")

    def _applied(self, manifest: Manifest) -> Applied:
        value = members(manifest.value)
        metadata = members(value["metadata"])
        kind = str(value["kind"])
        key = f"{metadata.get('namespace') or DEFAULT_NAMESPACE}/{metadata['name']}"
        source = f"{manifest.file}:{manifest.place.line}"
        try:
            done, kept = self._put(kind, key, value)
        except _Refused as refused:
            faults = tuple(_placed(manifest, fault) for fault in refused.faults)
            return Applied(kind, key, source, "refused", error=refused.error, faults=faults)
        except AegateError as error:
            return Applied(kind, key, source, "refused", error=error)
        return Applied(kind, key, source, done, kept)

    def _put(self, kind: str, key: str, value: Mapping[str, object]) -> tuple[str, tuple[str, ...]]:
        resource_id = encode_id(kind, key)
        current: dict[str, Any] | None = self.api.ask(DOCUMENTS[kind], id=resource_id)["resource"]
        metadata, spec = members(value["metadata"]), dict(members(value["spec"]))
        labels = dict(members(metadata.get("labels")))
        version = metadata.get("resourceVersion")
        if current is None:
            if version is not None:
                raise APIError(
                    "there is none of this name, or none that your token may see: to make it anew take "
                    "metadata.resourceVersion out of the file"
                )
            namespace, _, name = key.partition("/")
            wish: dict[str, object] = {"namespace": namespace, "name": name, "spec": spec}
            if labels:
                wish["labels"] = labels
            self._change(kind, "create", wish)
            return "created", ()
        kept = self._left_out(kind, current["spec"], spec)
        if self.prune:
            for path in kept:
                put_at(spec, path, None)
            kept = []
        left = tuple(render_path(("spec", *path)) for path in kept)
        if not self._differs(current, spec, labels):
            return "unchanged", left
        update: dict[str, object] = {
            "id": resource_id,
            "spec": spec,
            "version": str(version or current["version"]),
            "takeOver": self.take_over,
        }
        self._change(kind, "update", update | ({"labels": labels} if labels else {}))
        return "changed", left

    def _change(self, kind: str, verb: str, wish: dict[str, object]) -> None:
        """Make the change, or have it judged. Raises AegateError."""
        name = DOCUMENTS[kind]
        if self.dry_run and kind == "ApplicationEntity":
            done = self.api.ask("judge_entity", input={verb: wish})["done"]
        else:
            given = wish if kind == "ApplicationEntity" else wish | {"dryRun": self.dry_run}
            done = self.api.ask(f"{verb}_{name}", input=given)["done"]
        if "code" in done:
            faults = done.get("fieldErrors") or []
            raise _Refused(problem_of(done), [(str(f["field"]), str(f["message"])) for f in faults])

    def _left_out(self, kind: str, stands: Mapping[str, object], said: Mapping[str, object]) -> list[Path]:
        """Return what stands in a spec by somebody's will: not in the file, and not the default."""
        found = sorted(path for path, value in leaves(stands) if path and value is not None)
        spread: dict[str, object] = {}
        for path, value in (*((path[:-1], {}) for path in found if path[1:]), *leaves(said)):
            if path and value_at(spread, path) is None:
                put_at(spread, path, value)
        whole = with_defaults(spread, properties(self.crds[kind].schema)["spec"])
        return [
            path
            for path in found
            if value_at(said, path) is None and value_at(whole, path) != value_at(stands, path)
        ]

    def _differs(
        self, current: Mapping[str, Any], spec: Mapping[str, object], labels: Mapping[str, object]
    ) -> bool:
        has = current.get("labels") or {}
        return any(value_at(current["spec"], path) != value for path, value in leaves(spec)) or any(
            has.get(name) != value for name, value in labels.items()
        )


class _Refused(Exception):
    """The API refused one manifest; ``faults`` are pairs of its argument and what is wrong with it."""

    def __init__(self, error: AegateError, faults: list[tuple[str, str]]) -> None:
        super().__init__(type(error).__name__)
        self.error = error
        self.faults = faults


def _placed(manifest: Manifest, fault: tuple[str, str]) -> str:
    """Return a fault that the API found, with the line of the file that it is about."""
    path = re.sub(r"^input\.(create\.|update\.)?", "", fault[0])
    parts: list[str | int] = [
        int(part) if part.isdecimal() else part for part in re.findall(r"[^.\[\]\"]+", path)
    ]
    while parts and value_at_any(manifest.value, tuple(parts)) is MISSING:
        parts.pop()
    place = manifest.document.place((*manifest.root, *parts))
    return f"{manifest.file}:{place.line}: {path}: {fault[1]}"


def value_at_any(value: object, path: Path) -> object:
    """Return what stands at a path through objects and lists, MISSING where nothing does."""
    for part in path:
        if not _has(value, part):
            return MISSING
        value = cast("Any", value)[part]
    return value


def _has(value: object, part: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, Mapping) and part in value


def tell(all_applied: Iterator[Applied], *, as_json: bool) -> int:
    """Say what came of each; return the exit code: that of the first refusal, 1 for others that cannot be used."""
    from aegate_cli.api.shown import print_json

    told: list[dict[str, object]] = []
    code = 0
    for one in all_applied:
        if one.error is not None:
            code = code or getattr(one.error, "exit_code", 1)
        if as_json:
            told.append(_as_json(one))
        else:
            _print(one)
    if as_json:
        print_json(told)
    return code


def _print(one: Applied) -> None:
    if one.error is not None:
        for fault in one.faults:
            typer.echo(fault, err=True)
        said = "see above" if one.faults else one.error.message
        typer.echo(f"{one.source}: {one.kind} {one.name} refused: {said}", err=True)
        return
    typer.echo(f"{one.kind} {one.name} {one.done}")
    if one.kept:
        typer.echo(
            f"{one.source}: not in the file, and stays without --prune: {', '.join(one.kept)}",
            err=True,
        )


def _as_json(one: Applied) -> dict[str, object]:
    return {
        "kind": one.kind,
        "name": one.name,
        "source": one.source,
        "done": one.done,
        "kept": list(one.kept),
        "error": None if one.error is None else {"code": one.error.code, "message": one.error.message},
        "faults": list(one.faults),
    }
