"""Whose are the fields of an object? From the marks that GitOps tools leave, and from what each manager has applied.

A manager that keeps an object as it is in git undoes whatever others change: taking over would be a lie. One that
wrote once, such as kubectl in somebody's hand, does not come back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from aegate_core.resources.merge import put_at, value_at
from aegate_core.resources.problems import Path, render_path
from aegate_core.resources.yaml_tree import members

MANAGED_IN = "aegate.dev/managed-in"
_WATCHFUL = {
    "argocd-controller": "Argo CD",
    "argocd-application-controller": "Argo CD",
    "kustomize-controller": "Flux",
    "helm-controller": "Flux",
    "helm": "Helm",
    "Helm": "Helm",
}
"""Field managers that come back."""
_OURS = (("spec",), ("metadata", "labels"), ("metadata", "annotations"))
"""The parts of an object that people write."""


@dataclass(frozen=True, slots=True)
class Owned:
    """What one manager owns of an object."""

    manager: str
    operation: str
    """Apply or Update: two of one manager are two owners."""
    paths: Mapping[Path, tuple[object, ...]]
    """Each field, a list as one; with the items that are owned, of a list that is a set."""


def keeper(manifest: Mapping[str, object]) -> str | None:
    """Return who keeps the object as it is elsewhere, in words, or None."""
    metadata = members(manifest.get("metadata"))
    labels, notes = members(metadata.get("labels")), members(metadata.get("annotations"))
    if MANAGED_IN in labels:
        return str(labels[MANAGED_IN] or "git")
    if tracked := notes.get("argocd.argoproj.io/tracking-id"):
        return f"Argo CD ({str(tracked).partition(':')[0]})"
    if instance := labels.get("argocd.argoproj.io/instance"):
        return f"Argo CD ({instance})"
    for tool in ("kustomize", "helm"):
        if name := labels.get(f"{tool}.toolkit.fluxcd.io/name"):
            return f"Flux ({labels.get(f'{tool}.toolkit.fluxcd.io/namespace', '')}/{name})"
    if release := notes.get("meta.helm.sh/release-name"):
        return f"Helm ({notes.get('meta.helm.sh/release-namespace', '')}/{release})"
    if labels.get("app.kubernetes.io/managed-by") == "Helm":
        return "Helm"
    watchful = (o for o in owners(manifest) if o.manager in _WATCHFUL)
    return next((_WATCHFUL[owned.manager] for owned in watchful), None)


def comes_back(manager: str) -> bool:
    """Say whether a field manager is one that undoes what others change."""
    return manager in _WATCHFUL


def owners(manifest: Mapping[str, object]) -> list[Owned]:
    """Return who owns what of those parts that people write; a status has owners of its own."""
    listed = members(manifest.get("metadata")).get("managedFields")
    found = []
    for entry in listed if isinstance(listed, list) else []:
        if not isinstance(entry, Mapping) or entry.get("subresource"):
            continue
        paths = dict(_paths(entry.get("fieldsV1"), ()))
        written = {path: items for path, items in paths.items() if _is_written(path)}
        if written:
            found.append(Owned(str(entry.get("manager")), str(entry.get("operation")), written))
    return found


def owned_part(manifest: Mapping[str, object], owned: Owned) -> dict[str, object]:
    """Return the part of an object that its owner would apply again."""
    found: dict[str, object] = {}
    for path, items in owned.paths.items():
        value = value_at(manifest, path)
        if isinstance(value, list) and items:
            value = [item for item in value if item in items]
        if value is not None:
            put_at(found, path, {} if isinstance(value, Mapping) else value)
    return found


def rendered(paths: Iterable[Path]) -> tuple[str, ...]:
    """Return paths as people read them, in order, each once."""
    return tuple(sorted({render_path(path) for path in paths}))


def _is_written(path: Path) -> bool:
    return any(path[: len(part)] == part and len(path) > len(part) for part in _OURS)


def _paths(fields: object, path: Path) -> Iterator[tuple[Path, tuple[object, ...]]]:
    """Yield the leaves of FieldsV1: ``f:`` a member, ``v:`` an item of a set, ``k:`` an item by its key."""
    below = members(fields)
    named = {key[2:]: value for key, value in below.items() if key.startswith("f:")}
    items = tuple(json.loads(key[2:]) for key in below if key.startswith("v:"))
    if not named:
        yield path, items
    for name, value in named.items():
        yield from _paths(value, (*path, name))
