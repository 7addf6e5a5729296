"""From events and lists to what is known, and from there to which AEs are to be looked at again.

Events may be lost (a watch that begins anew after 410 says nothing of what was deleted meanwhile), so lists are taken
up the same way and what they do not hold is a ghost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.reference import ResourceRef
from aegate_core.stores.cluster.client import Listing, Manifest, key_of
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, VOLUME_CLAIM, Kind
from aegate_operator.cache import DECLARED, Cache, Family, thawed
from aegate_operator.declared import Declared, ref_of_manifest
from aegate_operator.installation import Installation
from aegate_operator.manifests import entity_of
from aegate_operator.pools import pool_ref, ref_of_pool
from aegate_operator.reconcile import family

DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Scope:
    """One list or watch: a kind in one namespace, or (empty) in all."""

    kind: Kind
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.kind.plural} of {self.namespace or 'all namespaces'}"


class Informer:
    """Takes up what the API server says; ``enqueue`` gets what should be looked at again.

    ``declared_changed``: that custom resource is another now, so the rows may be. ``installation``: its pools are
    looked at, too, and what is left in its namespace of pools that are none any more.
    """

    def __init__(
        self,
        cache: Cache,
        declared: Declared,
        enqueue: Callable[[ResourceRef], None],
        *,
        declared_changed: Callable[[ResourceRef], None] = lambda ref: None,
        installation: Installation | None = None,
    ) -> None:
        self._pools = [pool_ref(name, installation) for name in installation.pools] if installation else []
        self._namespace = installation.namespace if installation else None
        self._cache = cache
        self._declared = declared
        self._enqueue = enqueue
        self._declared_changed = declared_changed
        self._entities: dict[Family, ResourceKey] = {}

    def saw(self, kind: Kind, event: str | None, manifest: Manifest) -> None:
        """Take up one event of a watch: ADDED, MODIFIED, DELETED, or None from the list that a watch begins with."""
        if event == DELETED:
            self._gone(kind, manifest)
        elif self._cache.put(kind, manifest):
            self._came(kind, manifest)

    def listed(self, scope: Scope, listing: Listing[bytes]) -> int:
        """Take up a whole list of frozen objects; return how many ghosts were found."""
        live = {}
        for manifest in map(thawed, listing.items):
            metadata = manifest["metadata"]
            live[key_of(manifest)] = str(metadata.get("uid", "")) if isinstance(metadata, dict) else ""
            self.saw(scope.kind, None, manifest)
        version = int(listing.resource_version) if listing.resource_version.isdigit() else 0
        ghosts = self._cache.ghosts(scope.kind, live, version=version, namespace=scope.namespace)
        for ghost in ghosts:
            self._gone(scope.kind, ghost)
        return len(ghosts)

    def declared(self) -> list[ResourceRef]:
        """Return the resources that there are."""
        return [ResourceRef(kind.name, key) for kind in DECLARED for key in self._cache.keys(kind)]

    def everything(self) -> list[ResourceRef]:
        """Return all that is to be looked at: resources, pools, and AEs and pools that are gone and left something."""
        claims = (self._cache.get(VOLUME_CLAIM, key) for key in self._cache.keys(VOLUME_CLAIM))
        spools = {_entity_of_claim(claim) for claim in claims if claim is not None}
        left = (ref for ref in sorted(spools, key=str) if not self._cache.has(APPLICATION_ENTITY, ref.key))
        pools = {ref for of in self._cache.families() if (ref := ref_of_pool(of)) and self._is_ours(ref)}
        return [*self.declared(), *sorted(pools.union(self._pools), key=str), *left]

    def _is_ours(self, pool: ResourceRef) -> bool:
        """Whether a pool is of this installation, or was; one of another namespace is another installation's."""
        return pool.key.namespace == self._namespace

    def _came(self, kind: Kind, manifest: Manifest) -> None:
        key = key_of(manifest)
        if kind not in DECLARED:
            self._child_changed(self._cache.family(kind, key))
            return
        has_children = False
        if kind == APPLICATION_ENTITY:
            self._entities[family(key)] = key
            has_children = self._has_children(manifest)
        ref = ref_of_manifest(manifest)
        before = self._declared.get(ref)
        for concerned in self._declared.take(manifest, has_children=has_children):
            self._enqueue(concerned)
        if self._declared.get(ref) != before:
            self._declared_changed(ref)

    def _gone(self, kind: Kind, manifest: Manifest) -> None:
        family_of_it = self._cache.family(kind, key_of(manifest))
        if not self._cache.remove(kind, manifest):
            return
        if kind not in DECLARED:
            self._child_changed(family_of_it)
            return
        ref = ref_of_manifest(manifest)
        if kind == APPLICATION_ENTITY:
            self._entities.pop(family(ref.key), None)
        for concerned in {ref, *self._declared.drop(ref)}:
            self._enqueue(concerned)
        self._declared_changed(ref)

    def _child_changed(self, of: Family | None) -> None:
        if of is None:
            return
        if pool := ref_of_pool(of):
            if self._is_ours(pool):
                self._enqueue(pool)
            return
        if entity := self._entities.get(of):
            self._enqueue(ResourceRef(APPLICATION_ENTITY.name, entity))
            return
        for _, claim in self._cache.children(of, VOLUME_CLAIM):
            self._enqueue(_entity_of_claim(claim))

    def _has_children(self, manifest: Manifest) -> bool:
        metadata = manifest["metadata"]
        uid = str(metadata.get("uid", "")) if isinstance(metadata, dict) else ""
        return self._cache.has_children(family(key_of(manifest)), uid)


def _entity_of_claim(claim: Manifest) -> ResourceRef:
    """Return the AE whose spool a claim is, whether it is still there or not."""
    return ResourceRef(APPLICATION_ENTITY.name, ResourceKey(key_of(claim).namespace, entity_of(claim)))
