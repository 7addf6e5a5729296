"""All live resources beside one another, kept current one at a time: who owns a title, who names whom.

Every answer costs the same however many resources there are, so that whoever judges one of ten thousand need not look
at the others.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.reference import ResourceRef, ref_of
from aegate_core.resources.values import ApplicationEntity, ImageRoute, PatientPartition, Resource

DEFAULT_PARTITION = "default"

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)


class _Sets(Generic[K, V]):
    """A set of values for each key; empty ones take no room."""

    def __init__(self) -> None:
        self._sets: dict[K, set[V]] = {}

    def put(self, key: K, value: V, is_in: bool) -> None:
        """Make ``value`` one of the key's values, or none of them."""
        values = self._sets.setdefault(key, set())
        if is_in:
            values.add(value)
        else:
            values.discard(value)
        if not values:
            del self._sets[key]

    def get(self, key: K) -> Collection[V]:
        return self._sets.get(key, ())


class Neighbours:
    """The resources in force. ``accepted``: AEs that hold their title already and keep it against any newcomer."""

    def __init__(self, resources: Iterable[Resource] = (), *, accepted: Iterable[ResourceKey] = ()) -> None:
        self._resources: dict[ResourceRef, Resource] = {}
        self._entities: dict[ResourceKey, ApplicationEntity] = {}
        self._partitions: set[ResourceKey] = set()
        self._accepted = set(accepted)
        self._claimants: _Sets[str, ResourceKey] = _Sets()
        self._names: _Sets[str, str] = _Sets()
        self._labelled: _Sets[tuple[str, str, str], str] = _Sets()
        self._stamped: _Sets[ResourceKey, ResourceRef] = _Sets()
        self._naming: _Sets[ResourceKey, ResourceRef] = _Sets()
        self._selecting: _Sets[str, ResourceRef] = _Sets()
        for resource in resources:
            self.put(resource)

    def put(self, resource: Resource) -> None:
        """Take up a resource, or its new version."""
        ref = ref_of(resource)
        if ref in self._resources:
            self.remove(ref)
        self._resources[ref] = resource
        if isinstance(resource, ApplicationEntity):
            self._entities[ref.key] = resource
        elif isinstance(resource, PatientPartition):
            self._partitions.add(ref.key)
        self._index(resource, True)

    def remove(self, ref: ResourceRef) -> None:
        """Forget a resource; unknown ones are no error. Whether an AE was accepted is kept: see `accept`."""
        resource = self._resources.pop(ref, None)
        if resource is None:
            return
        self._index(resource, False)
        if ref.kind == "ApplicationEntity":
            del self._entities[ref.key]
        elif ref.kind == "PatientPartition":
            self._partitions.discard(ref.key)

    def accept(self, key: ResourceKey, is_accepted: bool) -> None:
        """Say whether the AE holds its title now."""
        if is_accepted:
            self._accepted.add(key)
        else:
            self._accepted.discard(key)

    @property
    def accepted(self) -> frozenset[ResourceKey]:
        """The AEs that hold their title."""
        return frozenset(self._accepted)

    def get(self, ref: ResourceRef) -> Resource | None:
        """Return a resource, or None."""
        return self._resources.get(ref)

    def entity(self, key: ResourceKey) -> ApplicationEntity | None:
        """Return an AE, or None."""
        return self._entities.get(key)

    def owner(self, title: AETitle) -> ApplicationEntity | None:
        """Return who owns the title, compared without case; None when nobody claims it.

        The AE accepted before keeps it, else the oldest has it, else the one of the lowest uid.
        """
        claimants = [self._entities[key] for key in self._claimants.get(title.folded)]
        return min(claimants, key=self._rank) if claimants else None

    def has_partition(self, namespace: str, name: str) -> bool:
        """Say whether there is such a PatientPartition; the default one always is."""
        return name == DEFAULT_PARTITION or ResourceKey(namespace, name) in self._partitions

    def names(self, namespace: str) -> Collection[str]:
        """Return the names of all AEs of a namespace."""
        return self._names.get(namespace)

    def selected(self, namespace: str, labels: Mapping[str, str]) -> list[str]:
        """Return the names of the AEs of a namespace that carry all of ``labels``."""
        sets = [self._labelled.get((namespace, *label)) for label in labels.items()]
        smallest = min(sets, key=len)
        return sorted(name for name in smallest if all(name in other for other in sets))

    def concerned(self, resource: Resource) -> set[ResourceRef]:
        """Return the others whose conditions may be different when ``resource`` comes, changes or goes."""
        ref = ref_of(resource)
        if isinstance(resource, ApplicationEntity):
            rivals = self._claimants.get(resource.title.folded)
            routes = set(self._selecting.get(ref.key.namespace))
            for key in (ref.key, *rivals):
                routes.update(self._naming.get(key))
            return {*routes, *(ResourceRef(ref.kind, key) for key in rivals)} - {ref}
        if isinstance(resource, PatientPartition):
            return set(self._stamped.get(ref.key))
        return set()

    def _rank(self, ae: ApplicationEntity) -> tuple[bool, bool, str, str, ResourceKey]:
        born = ae.metadata.created_at
        return (ae.key not in self._accepted, not born, born, ae.metadata.uid, ae.key)

    def _index(self, resource: Resource, is_in: bool) -> None:
        ref = ref_of(resource)
        namespace = ref.key.namespace
        if isinstance(resource, ApplicationEntity):
            self._claimants.put(resource.title.folded, ref.key, is_in)
            self._names.put(namespace, ref.key.name, is_in)
            self._stamped.put(resource.partition, ref, is_in)
            for label in resource.metadata.labels.items():
                self._labelled.put((namespace, *label), ref.key.name, is_in)
        elif isinstance(resource, ImageRoute):
            for name in {*resource.to, *resource.source.aes}:
                self._naming.put(ResourceKey(namespace, name), ref, is_in)
            for name in resource.source.partitions:
                self._stamped.put(ResourceKey(namespace, name), ref, is_in)
            if resource.source.match_labels:
                self._selecting.put(namespace, ref, is_in)
