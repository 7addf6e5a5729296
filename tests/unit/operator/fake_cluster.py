"""An API server in memory: what `ClusterClient` offers, over dictionaries. It owns no fields and defaults none.

The second ring runs the same steps on a real one; here a refusal, a loss or a thousand AEs cost nothing.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterConflict, ClusterError, ClusterNotFound
from aegate_core.stores.cluster.client import Listing, Manifest, key_of
from aegate_core.stores.cluster.kinds import DEPLOYMENT, EVENT, Kind


@dataclass(frozen=True)
class Write:
    verb: str
    kind: str
    name: str


@dataclass
class FakeCluster:
    """Objects by kind and name, every write, and what is told of each change."""

    objects: dict[tuple[Kind, ResourceKey], dict[str, Any]] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    events: list[Manifest] = field(default_factory=list)
    refuse: Callable[[str, Kind, ResourceKey], ClusterError | None] = lambda verb, kind, key: None
    saw: Callable[[Kind, str, Manifest], None] = lambda kind, event, manifest: None
    _versions: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def get(self, kind: Kind, key: ResourceKey) -> Manifest:
        self._check("get", kind, key)
        return copy.deepcopy(self._found(kind, key))

    async def list(self, kind: Kind, *, namespace: str = "", labels: str = "") -> Listing[Manifest]:
        name, _, value = labels.partition("=")
        found = [
            copy.deepcopy(manifest)
            for (of, key), manifest in self.objects.items()
            if of == kind
            and key.namespace == namespace
            and manifest["metadata"].get("labels", {}).get(name) == value
        ]
        return Listing(tuple(found), str(next(self._versions)))

    async def apply(self, kind: Kind, manifest: Mapping[str, Any], *, subresource: str = "") -> Manifest:
        key = key_of(manifest)
        self._check("apply", kind, key)
        if subresource:
            live = self._found(kind, key)
            if live["metadata"]["uid"] != manifest["metadata"].get("uid"):
                raise ClusterConflict("another uid", status=409)
            self.writes.append(Write("status", kind.name, key.name))
            return self.put(kind, {**live, "status": manifest["status"]})
        self.writes.append(Write("apply", kind.name, key.name))
        return self.put(kind, _merged(self.objects.get((kind, key), {}), dict(manifest)))

    async def apply_new(self, kind: Kind, manifest: Mapping[str, Any]) -> Manifest:
        if (kind, key_of(manifest)) in self.objects:
            raise ClusterConflict(f"{kind} {key_of(manifest)} is there already", status=409)
        return await self.apply(kind, manifest)

    async def merge(self, kind: Kind, key: ResourceKey, patch: Mapping[str, Any]) -> Manifest:
        self._check("merge", kind, key)
        self.writes.append(Write("merge", kind.name, key.name))
        return self.put(kind, _merged(self._found(kind, key), dict(patch)))

    async def create(self, kind: Kind, manifest: Mapping[str, Any]) -> Manifest:
        self._check("create", kind, key_of(manifest))
        assert kind == EVENT
        self.events.append(dict(manifest))
        return dict(manifest)

    async def delete(self, kind: Kind, key: ResourceKey, *, uid: str, resource_version: str = "") -> None:
        self._check("delete", kind, key)
        if self._found(kind, key)["metadata"]["uid"] != uid:
            raise ClusterConflict("another uid", status=409)
        self.writes.append(Write("delete", kind.name, key.name))
        self.lose(kind, key)

    def put(self, kind: Kind, manifest: Mapping[str, Any], *, is_told: bool = True) -> Manifest:
        """Store an object as anybody may; the watch tells of it, unless it is lost."""
        key = key_of(manifest)
        before = self.objects.get((kind, key))
        version = next(self._versions)
        made = {"apiVersion": kind.api_version, "kind": kind.name, **copy.deepcopy(dict(manifest))}
        metadata: dict[str, Any] = {
            "uid": f"{kind.name}-{version}",
            "creationTimestamp": f"2026-01-01T00:00:{version % 60:02}Z",
        }
        metadata |= before["metadata"] if before else {}
        made["metadata"] = {**metadata, **made["metadata"], "resourceVersion": str(version)}
        is_new_spec = before is None or before.get("spec") != made.get("spec")
        made["metadata"]["generation"] = metadata.get("generation", 0) + int(is_new_spec)
        self.objects[kind, key] = made
        if is_told:
            self.saw(kind, "MODIFIED" if before else "ADDED", copy.deepcopy(made))
        return copy.deepcopy(made)

    def lose(self, kind: Kind, key: ResourceKey, *, is_told: bool = True) -> None:
        """Delete an object as anybody may."""
        gone = self.objects.pop((kind, key))
        if is_told:
            self.saw(kind, "DELETED", copy.deepcopy(gone))

    def of(self, kind: Kind, key: ResourceKey) -> dict[str, Any]:
        """An object as it is."""
        return self.objects[kind, key]

    def names(self, kind: Kind) -> Sequence[str]:
        """The names of all objects of a kind."""
        return sorted(str(key) for of, key in self.objects if of == kind)

    def roll_out(self, *keys: ResourceKey) -> None:
        """Play controller and scheduler: these Deployments, or all, are as wished."""
        for (kind, key), live in list(self.objects.items()):
            if kind == DEPLOYMENT and (not keys or key in keys):
                replicas = live["spec"].get("replicas", 1)
                counts = dict.fromkeys(
                    ("replicas", "updatedReplicas", "availableReplicas", "readyReplicas"), replicas
                )
                status = {"observedGeneration": live["metadata"]["generation"], **counts}
                self.put(kind, {**live, "status": status})

    def _check(self, verb: str, kind: Kind, key: ResourceKey) -> None:
        error = self.refuse(verb, kind, key)
        if error is not None:
            raise error

    def _found(self, kind: Kind, key: ResourceKey) -> dict[str, Any]:
        if (kind, key) not in self.objects:
            raise ClusterNotFound(f"no {kind} {key}", status=404)
        return self.objects[kind, key]


_WHOLE = ("selector", "podSelector")


def _merged(live: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return ``given`` over ``live``: objects member by member but for selectors, all else as given."""
    merged = copy.deepcopy(live)
    for name, value in given.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict) and name not in _WHOLE
        merged[name] = _merged(merged[name], value) if both else copy.deepcopy(value)
    return merged
