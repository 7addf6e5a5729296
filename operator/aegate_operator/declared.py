"""What people have declared: the custom resources as values, beside one another, and what is wrong with them.

A resource that cannot be read keeps its last good version among the others for as long as this process lives; what
runs for it goes on, and its condition says what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aegate_core.decisions.neighbours import Neighbours
from aegate_core.errors import InvalidInput
from aegate_core.resources.conditions import Condition, ConditionType, condition_from_json, find_condition
from aegate_core.resources.crds import CRD
from aegate_core.resources.guard import guard
from aegate_core.resources.parse import parse_resource
from aegate_core.resources.reference import ResourceRef
from aegate_core.resources.values import ApplicationEntity, Resource
from aegate_core.resources.yaml_tree import members
from aegate_core.stores.cluster.client import Manifest, key_of


@dataclass(frozen=True, slots=True)
class _Judged:
    uid: str
    generation: int
    error: str | None


class Declared:
    """All custom resources of the watched namespaces; empty: of the whole cluster."""

    def __init__(self, crds: Mapping[str, CRD], namespaces: Sequence[str] = (), *, release: str = "") -> None:
        self.namespaces = tuple(namespaces)
        self.release = release
        """Whose operator this is, namespace/name: what of the index is its own."""
        self.neighbours = Neighbours()
        self._crds = crds
        self._unreadable: dict[ResourceRef, str] = {}
        self._judged: dict[ResourceRef, _Judged] = {}
        self._seen: dict[ResourceRef, str] = {}
        self._live: dict[ResourceRef, Resource] = {}

    def take(self, manifest: Manifest, *, has_children: bool) -> set[ResourceRef]:
        """Take up a resource or its new version; return all that should be looked at again, itself included.

        Seen for the first time it holds its title if its status says so, or if it has children: they serve it.
        """
        ref = ref_of_manifest(manifest)
        uid = str(members(manifest["metadata"]).get("uid", ""))
        if self._seen.get(ref) != uid:
            self._seen[ref] = uid
            accepted = find_condition(conditions_in(manifest), ConditionType.ACCEPTED)
            is_accepted = has_children or (accepted is not None and accepted.is_true)
            if ref.kind == "ApplicationEntity":
                self.neighbours.accept(ref.key, is_accepted)
        before = self._live.get(ref)
        concerned = {ref} | (self.neighbours.concerned(before) if before else set())
        try:
            resource = parse_resource({name: v for name, v in manifest.items() if name != "status"})
        except InvalidInput as error:
            self._unreadable[ref] = error.message
            return concerned
        self._unreadable.pop(ref, None)
        self._live[ref] = resource
        self.neighbours.put(resource)
        return concerned | self.neighbours.concerned(resource)

    def drop(self, ref: ResourceRef) -> set[ResourceRef]:
        """Forget a resource that is gone; return all others that should be looked at again."""
        before = self._live.pop(ref, None)
        concerned = self.neighbours.concerned(before) if before else set()
        self.neighbours.remove(ref)
        if ref.kind == "ApplicationEntity":
            self.neighbours.accept(ref.key, False)
        for known in (self._unreadable, self._judged, self._seen):
            known.pop(ref, None)
        return concerned

    def get(self, ref: ResourceRef) -> Resource | None:
        """Return a resource in its newest readable version, or None."""
        return self._live.get(ref)

    def newest(self, ref: ResourceRef, generation: int) -> Resource | None:
        """Return a resource in that version, which may be wrong; None: it cannot be read."""
        resource = self._live.get(ref)
        return resource if resource is not None and resource.metadata.generation == generation else None

    def entities(self) -> list[ApplicationEntity]:
        """Return all AEs."""
        return [r for r in self._live.values() if isinstance(r, ApplicationEntity)]

    def error(self, ref: ResourceRef, manifest: Manifest) -> str | None:
        """Return what is wrong with the newest version, or None: read and judged once a version."""
        if ref in self._unreadable:
            return self._unreadable[ref]
        metadata = members(manifest["metadata"])
        uid, generation = str(metadata.get("uid", "")), generation_of(manifest)
        judged = self._judged.get(ref)
        if judged is None or (judged.uid, judged.generation) != (uid, generation):
            judged = _Judged(uid, generation, guard(manifest, self._crds[ref.kind]))
            self._judged[ref] = judged
        return judged.error

    def has_judged(self, ref: ResourceRef) -> bool:
        """Whether it is known if a resource may be put in force: after its own first look."""
        return ref in self._judged or ref in self._unreadable

    def is_known(self, ref: ResourceRef) -> bool:
        """Whether there is such a resource, readable or not."""
        return ref in self._seen

    def is_right(self, ref: ResourceRef) -> bool:
        """Whether its newest version was judged, and may be put in force."""
        resource, judged = self._live.get(ref), self._judged.get(ref)
        if resource is None or judged is None or judged.error is not None or ref in self._unreadable:
            return False
        return (judged.uid, judged.generation) == (resource.metadata.uid, resource.metadata.generation)

    def right(self) -> list[Resource]:
        """Return what may be put in force."""
        wrong = self.wrong()
        return [resource for ref, resource in self._live.items() if ref not in wrong]

    def wrong(self) -> dict[ResourceRef, str]:
        """Return what may not, and why: its last good version stays in force."""
        judged = {ref: j.error for ref, j in self._judged.items() if j.error is not None}
        return {**judged, **self._unreadable}


def ref_of_manifest(manifest: Manifest) -> ResourceRef:
    """Return kind, namespace and name."""
    return ResourceRef(str(manifest["kind"]), key_of(manifest))


def generation_of(manifest: Mapping[str, object]) -> int:
    """Return metadata.generation; 0 where there is none."""
    generation = members(manifest.get("metadata")).get("generation")
    return generation if isinstance(generation, int) else 0


def conditions_in(manifest: Mapping[str, object]) -> tuple[Condition, ...]:
    """Return the conditions of the status; what somebody else has written there is left out."""
    found = []
    written = members(manifest.get("status")).get("conditions")
    for value in written if isinstance(written, list) else []:
        try:
            found.append(condition_from_json(value))
        except (ValueError, KeyError, TypeError):
            continue
    return tuple(found)
