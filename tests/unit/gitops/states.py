"""Every state that our resources come into, as the operator writes it, and what Argo CD and kstatus should make of it.

The operator is the real one over a cluster in memory; only an API server's own part is played: generations, the CRDs'
defaults, the mark of what is being deleted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterRefused
from aegate_core.resources.schema import with_defaults
from aegate_core.stores.cluster.kinds import (
    APPLICATION_ENTITY,
    DEPLOYMENT,
    IMAGE_ROUTE,
    POD,
    SERVICE,
    Kind,
)
from aegate_operator.installation import Pool
from aegate_operator.manifests.child import POOL_LABEL, base_name
from aegate_operator.reports import Report
from tests.unit.operator.ground import CRDS, INSTALLATION, Ground

Object = dict[str, Any]
Make = Callable[[Ground], Awaitable[Object]]
CT1 = ResourceKey("radiology", "ct1")
WITH_POOL = replace(
    INSTALLATION, pools={"default": Pool("default", "pool.aegate-system.svc:11112", shares=1)}
)


@dataclass(frozen=True)
class State:
    """How a resource comes into a state, and what is to be said of it."""

    make: Make
    kstatus: str
    argo_cd: str
    words: str = ""
    """Part of the message that a person reads in either."""

    async def object(self) -> Object:
        """Return the object as an API server gives it."""
        made = await self.make(Ground(installation=WITH_POOL))
        whole = with_defaults(made, CRDS[made["kind"]].schema)
        assert isinstance(whole, dict)
        return whole


def _ae(ground: Ground, name: str = "ct1") -> Object:
    return ground.cluster.of(APPLICATION_ENTITY, ResourceKey("radiology", name))


async def unseen(ground: Ground) -> Object:
    """An AE that the operator has not looked at."""
    ground.add_ae()
    return _ae(ground)


def applied(**spec: Any) -> Make:
    """An AE is applied, the operator looks at it, and no pod is there yet."""

    async def make(ground: Ground) -> Object:
        ground.add_ae(**spec)
        await ground.settle()
        ground.clock.pass_(1)
        await ground.settle()
        return _ae(ground)

    return make


def served(*, locations: frozenset[str] | None = None, **spec: Any) -> Make:
    """An AE whose listener has come up."""

    async def make(ground: Ground) -> Object:
        ground.outcomes.locations = locations
        ground.add_ae(**spec)
        await ground.settle()
        await ground.serve(CT1)
        return _ae(ground)

    return make


def edited(*, is_seen: bool, **spec: Any) -> Make:
    """A listener that is served, and then another version."""

    async def make(ground: Ground) -> Object:
        await served()(ground)
        ground.add_ae(**spec)
        if is_seen:
            await ground.settle()
        return _ae(ground)

    return make


def with_pod(**status: Any) -> Make:
    """An AE whose one pod is not ready."""

    async def make(ground: Ground) -> Object:
        await applied()(ground)
        ground.add_pod(CT1, is_ready=False, **status)
        await ground.settle()
        return _ae(ground)

    return make


def waiting(reason: str, message: str = "") -> Make:
    """A container waits."""
    state = {"waiting": {"reason": reason, "message": message}}
    return with_pod(containerStatuses=[{"name": "receiver", "state": state}])


def unschedulable(message: str) -> Make:
    """A pod has no node."""
    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return with_pod(conditions=[{"type": "Ready", "status": "False"}, said])


def reported(**report: Any) -> Make:
    """A listener of all pods says something of itself."""

    async def make(ground: Ground) -> Object:
        await served()(ground)
        ground.reader.said["radiology-ct1"] = Report(ground.revision(CT1), **{"state": "ready", **report})
        ground.clock.pass_(60)
        await ground.ask_pods()
        return _ae(ground)

    return make


async def given_up(ground: Ground) -> Object:
    """The Deployment's deadline is over."""
    await applied()(ground)
    name = ResourceKey("radiology", base_name("ct1"))
    condition = {"type": "Progressing", "status": "False", "message": "timed out progressing."}
    live = ground.cluster.of(DEPLOYMENT, name)
    status = {"observedGeneration": live["metadata"]["generation"], "conditions": [condition]}
    ground.cluster.put(DEPLOYMENT, {**live, "status": status})
    await ground.settle()
    return _ae(ground)


async def refused(ground: Ground) -> Object:
    """The API server does not take a child."""

    def refuse(verb: str, kind: Kind, key: ResourceKey) -> ClusterRefused | None:
        return ClusterRefused("exceeded quota: small", status=403) if kind == SERVICE else None

    ground.cluster.refuse = refuse
    return await applied()(ground)


def taken(**spec: Any) -> Make:
    """Another AE has the title already."""

    async def make(ground: Ground) -> Object:
        ground.add_ae("other", "cardiology", title="CT1")
        await ground.settle()
        return await applied(**spec)(ground)

    return make


async def upgraded(ground: Ground) -> Object:
    """Two listeners, and a new version of the installation that lets one roll at a time: this one waits."""
    for name in ("ct0", "ct1"):
        ground.add_ae(name)
    await ground.settle()
    await ground.serve(ResourceKey("radiology", "ct0"), CT1)
    newer = replace(WITH_POOL, image="localhost/aegate:2", max_concurrent_rollouts=1)
    after = Ground(ground.cluster, newer)
    after.reader.said = ground.reader.said
    await after.settle()
    await after.ask_pods()
    return _ae(after)


async def pooled(ground: Ground) -> Object:
    """An AE in a pool that serves it."""
    await applied(listener={"mode": "Shared"})(ground)
    metadata = {"namespace": "aegate-system", "name": "pool-a", "labels": {POOL_LABEL: "default"}}
    ready = {"type": "Ready", "status": "True"}
    ground.cluster.put(
        POD,
        {"metadata": metadata, "status": {"podIP": "10.0.0.9", "phase": "Running", "conditions": [ready]}},
    )
    (view,) = [
        m for (kind, key), m in ground.cluster.objects.items() if key.name == "aegate-entities-default-0"
    ]
    revision = {name: _sha(text) for name, text in view["data"].items()}
    ground.reader.said["pool-a"] = Report("of the chart", "ready", entities=revision)
    await ground.settle()
    await ground.ask_pods()
    return _ae(ground)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def declared(kind: Kind, spec: Object, *, is_seen: bool = True) -> Make:
    """A route or a partition beside two AEs."""

    async def make(ground: Ground) -> Object:
        ground.outcomes.locations = frozenset({"WARD"})
        for name in ("ct1", "pacs"):
            ground.add_ae(name)
        pacs = _ae(ground, "pacs")
        labelled = {**pacs, "metadata": {**pacs["metadata"], "labels": {"ward": "2"}}}
        ground.cluster.put(APPLICATION_ENTITY, labelled)
        ground.add_ae("laser", ability="Print")
        ground.add_ae("other", "cardiology", title="TAKEN")
        await ground.settle()
        ground.add_ae("taken")
        key = ResourceKey("radiology", "one")
        ground.cluster.put(kind, {"metadata": {"namespace": key.namespace, "name": key.name}, "spec": spec})
        if is_seen:
            await ground.settle()
        return ground.cluster.of(kind, key)

    return make


def route(different: Object | None = None, *, is_seen: bool = True) -> Make:
    """A route from ct1 to pacs, with a difference."""
    spec = {"to": ["pacs"], "from": {"aes": ["ct1"]}, **(different or {})}
    return declared(IMAGE_ROUTE, spec, is_seen=is_seen)


def again(make: Make, **spec: Any) -> Make:
    """A resource that has been looked at, and a newer version that has not."""

    async def newer(ground: Ground) -> Object:
        before = await make(ground)
        (kind,) = [kind for kind, _ in ground.cluster.objects if kind.name == before["kind"]][:1]
        ground.cluster.put(kind, {**before, "spec": {**before["spec"], **spec}})
        return ground.cluster.of(kind, ResourceKey("radiology", before["metadata"]["name"]))

    return newer


def leaving(make: Make) -> Make:
    """A resource that is being deleted: its children have to go first, or somebody's finalizer holds it."""

    async def marked(ground: Ground) -> Object:
        found = await make(ground)
        return {**found, "metadata": {**found["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}

    return marked


async def policy(ground: Ground) -> Object:
    """Nobody acts on an AEPolicy, and it has no status."""
    metadata = {"name": "hospital", "generation": 2}
    return {"apiVersion": "aegate.dev/v1alpha1", "kind": "AEPolicy", "metadata": metadata, "spec": {}}
