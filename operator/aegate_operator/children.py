"""Make the children of one AE what is wished: compare, apply, prune. Nothing is written that is so already.

An object of our name that is not ours is never touched: it may be somebody's own Service.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterConflict, ClusterError, ClusterNotFound, ClusterUnavailable
from aegate_core.events import CHILD_APPLIED, CHILD_PRUNED, Log
from aegate_core.resources.values import ApplicationEntity
from aegate_core.resources.yaml_tree import members
from aegate_core.stores.cluster.client import ClusterClient, Manifest, key_of
from aegate_core.stores.cluster.kinds import DEPLOYMENT, POD, Kind
from aegate_operator.cache import CHILDREN, OWNED, Cache, Family, controller_of, is_controlled_by, is_leaving
from aegate_operator.compare import WISHED, differences, stamped
from aegate_operator.declared import generation_of
from aegate_operator.manifests import Child
from aegate_operator.metrics import OperatorMetrics
from aegate_operator.pods import REVISION, Pod
from aegate_operator.reports import Report, stand

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in CHILDREN}
MANAGED_BY = "app.kubernetes.io/managed-by"
OURS = "aegate-operator"

log = Log("operator")


@dataclass(frozen=True, slots=True)
class Written:
    """What bringing the children about did."""

    changed: int = 0
    """Objects written."""
    refusals: tuple[str, ...] = ()
    """What the API server did not take; the rest was done all the same."""

    def __add__(self, other: Written) -> Written:
        return Written(self.changed + other.changed, self.refusals + other.refusals)


class ChildWriter:
    """Writes children of AEs through the API server, and keeps the cache ahead of the watches."""

    def __init__(self, client: ClusterClient, cache: Cache, metrics: OperatorMetrics) -> None:
        self._client = client
        self._cache = cache
        self._metrics = metrics
        self._generations: dict[ResourceKey, tuple[object, int]] = {}
        """Uid and generation of each AE's Deployment as it was last applied."""

    def generation(self, key: ResourceKey, deployment: Manifest | None) -> int | None:
        """Return the generation in which an AE's Deployment got what is wished; None: not since the start.

        An annotation of somebody else makes another one, which the pods have nothing to do with.
        """
        uid, generation = self._generations.get(key, (None, 0))
        is_it = deployment is not None and members(deployment.get("metadata")).get("uid") == uid
        return generation if is_it else None

    def forget(self, key: ResourceKey) -> None:
        """Take note that an AE is gone."""
        self._generations.pop(key, None)

    async def bring(self, ae: ApplicationEntity, wished: Sequence[Child], *, was_complete: bool) -> Written:
        """Apply what differs, in order. ``was_complete``: all was there before, so what is missing was deleted.

        Raises ClusterUnavailable: the rest waits.
        """
        changed, refusals = 0, []
        for child in wished:
            try:
                changed += await self._bring(ae, child, was_complete=was_complete)
            except ClusterUnavailable:
                raise
            except ClusterError as error:
                refusals.append(f"{error.message.rstrip('.')}.")
        return Written(changed, tuple(refusals))

    async def prune(self, uid: str, family: Family, wished: Sequence[Child]) -> int:
        """Delete the children that are no longer wished, of the AE with that uid alone; return how many."""
        names = {(child.kind, child.name) for child in wished}
        unwanted = [
            (kind, manifest)
            for kind, manifest in self._cache.children(family, *OWNED)
            if is_controlled_by(manifest, uid)
            and (kind.name, key_of(manifest).name) not in names
            and not is_leaving(manifest)
        ]
        for kind, manifest in unwanted:
            await self._delete(kind, manifest)
        return len(unwanted)

    async def hurry(self, pods: Mapping[str, Pod], reports: Mapping[str, Report], revision: str) -> int:
        """Have kubelet look at once at the ConfigMap of the pods that have another one in force."""
        late = [
            pod
            for uid, pod in pods.items()
            if pod.revision != revision
            and not pod.is_leaving
            and uid in reports
            and stand(reports[uid].revision, reports[uid].entities) not in ("", revision)
        ]
        for pod in late:
            annotations = {REVISION: revision}
            patch = {"metadata": {"uid": pod.uid, "annotations": annotations}}
            try:
                self._cache.put(POD, await self._client.merge(POD, pod.key, patch))
            except (ClusterConflict, ClusterNotFound):
                continue  # it is gone by now
        return len(late)

    def template_differs(self, child: Child, namespace: str) -> bool | None:
        """Return whether applying the Deployment would roll its pods; None: it is not there."""
        live = self._cache.get(KINDS[child.kind], ResourceKey(namespace, child.name))
        if live is None:
            return None
        return any(differences(_template(child.manifest), _template(live)))

    async def _bring(self, ae: ApplicationEntity, child: Child, *, was_complete: bool) -> int:
        kind, key = KINDS[child.kind], ResourceKey(ae.key.namespace, child.name)
        wished = stamped(child.manifest)
        live = self._cache.get(kind, key)
        is_cached, made = live is not None, None
        if live is None and not was_complete:
            made = await self._make(kind, wished)
        if live is None and made is None:
            live = await self._find(kind, key)
        if live is not None:
            _refuse_stranger(kind, live, ae)
            if is_cached and not any(differences(wished, live)):
                return 0
        is_drift = was_complete if live is None else _wished(live) == _wished(wished)
        applied = made or await self._client.apply(kind, wished)
        self._cache.put(kind, applied)
        if kind == DEPLOYMENT:
            self._generations[ae.key] = members(applied["metadata"]).get("uid"), generation_of(applied)
        if is_drift:
            self._metrics.drift.labels(kind.name).inc()
        log(
            CHILD_APPLIED,
            kind=kind.name,
            namespace=key.namespace,
            name=key.name,
            change="repaired" if is_drift else "created" if live is None else "updated",
        )
        return 1

    async def _make(self, kind: Kind, wished: Manifest) -> Manifest | None:
        """Apply what should not be there yet; None: there is one, so it is to be looked at first."""
        try:
            return await self._client.apply_new(kind, wished)
        except ClusterConflict:
            return None

    async def _find(self, kind: Kind, key: ResourceKey) -> Manifest | None:
        """Return the object of that name that the watch does not show, because it does not carry our label."""
        try:
            return await self._client.get(kind, key)
        except ClusterNotFound:
            return None

    async def _delete(self, kind: Kind, manifest: Manifest) -> None:
        metadata, key = members(manifest["metadata"]), key_of(manifest)
        with contextlib.suppress(ClusterNotFound):  # somebody was faster; the watch is on its way
            await self._client.delete(kind, key, uid=str(metadata["uid"]))
        self._cache.remove(kind, manifest)
        log(CHILD_PRUNED, kind=kind.name, namespace=key.namespace, name=key.name)


def _refuse_stranger(kind: Kind, live: Manifest, ae: ApplicationEntity) -> None:
    """Raise ClusterConflict for an object that is not this AE's: it is somebody else's, or of an earlier life."""
    if is_controlled_by(live, ae.metadata.uid):
        return
    controller, labels = controller_of(live), members(members(live["metadata"]).get("labels"))
    if controller == f"ApplicationEntity/{ae.key.name}":
        raise ClusterConflict(
            f"{kind} {key_of(live)} is of an ApplicationEntity of this name that was deleted: "
            "waiting until it is collected"
        )
    if controller or (kind in OWNED and labels.get(MANAGED_BY) != OURS):
        whose = f"belongs to {controller}" if controller else "is not of aegate"
        raise ClusterConflict(f"{kind} {key_of(live)} {whose} and is left alone: delete or rename it")


def _template(manifest: Mapping[str, object]) -> Mapping[str, object]:
    return members(members(manifest.get("spec")).get("template"))


def _wished(manifest: Mapping[str, object]) -> object:
    return members(members(manifest.get("metadata")).get("annotations")).get(WISHED)
