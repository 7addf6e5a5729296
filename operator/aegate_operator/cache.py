"""What the cluster holds, as the watches told it last: custom resources, their children, their pods.

Versions only go forward: what our own write answered may be newer than the next event of a watch, and events of
different lives of one name may overtake one another. Resource versions of one cluster are numbers that grow
(KEP-5504), so they can be compared.

Objects are kept as JSON and read anew for whoever asks: as Python has them they would take five times the memory.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.yaml_tree import members
from aegate_core.stores.cluster.client import Manifest, key_of
from aegate_core.stores.cluster.kinds import (
    APPLICATION_ENTITY,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    IMAGE_ROUTE,
    JOB,
    NETWORK_POLICY,
    PATIENT_PARTITION,
    POD,
    SERVICE,
    VOLUME_CLAIM,
    Kind,
)
from aegate_operator.manifests.child import AE_LABEL, POOL_LABEL, label_of
from aegate_operator.pods import Pod, pool_family, read_pod

DECLARED = (APPLICATION_ENTITY, IMAGE_ROUTE, PATIENT_PARTITION)
OWNED = (DEPLOYMENT, SERVICE, CONFIG_MAP, NETWORK_POLICY, DISRUPTION_BUDGET)
CHILDREN = (*OWNED, VOLUME_CLAIM, JOB)
WATCHED = (*DECLARED, *CHILDREN, POD)

Family = ResourceKey
"""Namespace, and the label that all children of one AE carry."""


@dataclass(frozen=True, slots=True)
class _Known:
    uid: str
    version: int
    value: bytes | Pod
    """JSON of an object; of a pod what matters."""
    family: Family | None
    """Whose child it is for as long as it lives, whatever is done to its labels."""


class Cache:
    """All objects by kind and name, and the children and pods of each AE."""

    def __init__(self) -> None:
        self._known: dict[Kind, dict[ResourceKey, _Known]] = {kind: {} for kind in WATCHED}
        self._children: dict[Family, set[tuple[Kind, ResourceKey]]] = defaultdict(set)

    def put(self, kind: Kind, manifest: Manifest) -> bool:
        """Take up an object; False when it is known in this version or a newer one."""
        key, uid, version = key_of(manifest), uid_of(manifest), version_of(manifest)
        before = self._known[kind].get(key)
        if before is not None and before.version >= version:
            return False
        value = read_pod(manifest) if kind is POD else frozen(manifest)
        family = before.family if before is not None and before.uid == uid else None
        if family is None and kind not in DECLARED:
            family = family_of(manifest)
        self._known[kind][key] = _Known(uid, version, value, family)
        if family is not None:
            self._children[family].add((kind, key))
        return True

    def remove(self, kind: Kind, manifest: Manifest) -> bool:
        """Forget an object that is gone; False when another life of its name is known by now."""
        key = key_of(manifest)
        known = self._known[kind].get(key)
        if known is None or known.uid != uid_of(manifest):
            return False
        del self._known[kind][key]
        family = known.family
        if family is not None and family in self._children:
            self._children[family].discard((kind, key))
            if not self._children[family]:
                del self._children[family]
        return True

    def get(self, kind: Kind, key: ResourceKey) -> Manifest | None:
        """Return an object, the caller's own, or None; of pods see `pods`."""
        known = self._known[kind].get(key)
        return thawed(known.value) if known is not None and isinstance(known.value, bytes) else None

    def has(self, kind: Kind, key: ResourceKey) -> bool:
        """Whether there is such an object."""
        return key in self._known[kind]

    def family(self, kind: Kind, key: ResourceKey) -> Family | None:
        """Return of which AE or pool a known object is a child; None: of none."""
        known = self._known[kind].get(key)
        return known.family if known is not None else None

    def keys(self, kind: Kind) -> list[ResourceKey]:
        """Return the names of all objects of a kind."""
        return list(self._known[kind])

    def children(self, family: Family, *kinds: Kind) -> Iterator[tuple[Kind, Manifest]]:
        """Yield the children of an AE, of these kinds or all but pods."""
        for kind, key in sorted(self._children.get(family, ())):
            if kind in (kinds or CHILDREN) and (manifest := self.get(kind, key)) is not None:
                yield kind, manifest

    def families(self) -> list[Family]:
        """Return of whom there are children or pods."""
        return list(self._children)

    def has_children(self, family: Family, uid: str) -> bool:
        """Whether anything lives that the AE with that uid controls."""
        return any(is_controlled_by(manifest, uid) for _, manifest in self.children(family))

    def pods(self, family: Family) -> dict[str, Pod]:
        """Return the pods of an AE's listener by uid; not those of a Job that empties its spool."""
        found = (self._known[kind].get(key) for kind, key in self._children.get(family, ()) if kind is POD)
        pods = {known.uid: cast("Pod", known.value) for known in found if known is not None}
        return {uid: pod for uid, pod in pods.items() if not pod.is_draining}

    def ghosts(
        self, kind: Kind, live: Mapping[ResourceKey, str], *, version: int, namespace: str
    ) -> list[Manifest]:
        """Return what is known and was not in a list of ``version``: each as the little that `remove` needs."""
        found = []
        for key, known in self._known[kind].items():
            is_in_reach = not namespace or key.namespace == namespace
            if is_in_reach and known.version <= version and live.get(key) != known.uid:
                found.append(_tombstone(kind, key, known))
        return found


def _tombstone(kind: Kind, key: ResourceKey, known: _Known) -> Manifest:
    metadata: dict[str, object] = {"namespace": key.namespace, "name": key.name, "uid": known.uid}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}


def frozen(manifest: Manifest) -> bytes:
    """Return JSON of what is read of an object: the record of who owns which field is half of it, and is left out."""
    metadata = {
        name: value for name, value in members(manifest.get("metadata")).items() if name != "managedFields"
    }
    return json.dumps({**manifest, "metadata": metadata}, separators=(",", ":")).encode()


def thawed(value: bytes) -> Manifest:
    """Return the object as Python has it."""
    return cast("Manifest", json.loads(value))


def family_of(manifest: Mapping[str, object]) -> Family | None:
    """Return of which AE an object is a child; None: of none.

    By its controller, else (pods, claims) by its label. What a pool has is a family of its own.
    """
    metadata = members(manifest.get("metadata"))
    kind, _, name = controller_of(manifest).partition("/")
    labels, namespace = members(metadata.get("labels")), str(metadata.get("namespace", ""))
    if pool := labels.get(POOL_LABEL):
        return pool_family(namespace, str(pool))
    label = label_of(name) if kind == APPLICATION_ENTITY.name else labels.get(AE_LABEL)
    return ResourceKey(namespace, str(label)) if label else None


def version_of(manifest: Mapping[str, object]) -> int:
    """Return the resource version as the number it is; 0 where there is none."""
    text = str(members(manifest.get("metadata")).get("resourceVersion") or "0")
    return int(text) if text.isdigit() else 0


def is_controlled_by(manifest: Mapping[str, object], uid: str) -> bool:
    """Whether the object's controller is the one with that uid."""
    owners = members(manifest.get("metadata")).get("ownerReferences")
    return any(
        members(owner).get("uid") == uid and members(owner).get("controller") is True
        for owner in (owners if isinstance(owners, list) else [])
    )


def controller_of(manifest: Mapping[str, object]) -> str:
    """Return kind/name of the object's controller; empty when it has none."""
    owners = members(manifest.get("metadata")).get("ownerReferences")
    for owner in owners if isinstance(owners, list) else []:
        if members(owner).get("controller") is True:
            return f"{owner.get('kind')}/{owner.get('name')}"
    return ""


def is_leaving(manifest: Mapping[str, object]) -> bool:
    """Whether the object is about to be deleted."""
    return bool(members(manifest.get("metadata")).get("deletionTimestamp"))


def uid_of(manifest: Mapping[str, object]) -> str:
    """Return the object's uid; empty where there is none."""
    return str(members(manifest.get("metadata")).get("uid", ""))
