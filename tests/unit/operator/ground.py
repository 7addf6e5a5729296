"""An operator without clock, network and kopf: a fake cluster tells the informer, a test takes the queue's steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import AegateError
from aegate_core.resources.crds import CRD, load_crds
from aegate_core.resources.reference import ResourceRef
from aegate_core.stores.cluster.client import ClusterClient
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, CONFIG_MAP, DEPLOYMENT, POD
from aegate_core.stores.cluster.occasions import Reporter
from aegate_operator.cache import DECLARED, WATCHED, Cache
from aegate_operator.declared import Declared
from aegate_operator.informer import Informer
from aegate_operator.installation import Installation
from aegate_operator.manifests import revision
from aegate_operator.manifests.child import AE_LABEL, base_name
from aegate_operator.metrics import OperatorMetrics
from aegate_operator.pods import Pod
from aegate_operator.pools import ref_of_pool
from aegate_operator.reconcile import Outcomes, Reconciler
from aegate_operator.reports import Report, Reports
from aegate_operator.rollout import RolloutGate
from aegate_operator.surface import Surface
from aegate_operator.work_queue import WorkQueue
from tests.unit.operator.clock import Clock
from tests.unit.operator.fake_cluster import FakeCluster

CRDS: dict[str, CRD] = load_crds()
INSTALLATION = Installation(image="localhost/aegate:1", namespace="aegate-system")


@dataclass
class FakeReader:
    """Pods that say what a test wants them to; by name."""

    said: dict[str, Report] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def read(self, pod: Pod) -> Report:
        self.asked.append(pod.key.name)
        return self.said.get(pod.key.name, Report(problem="does not answer"))


class Ground:
    """One operator's insides over a fake cluster; a second one over the same cluster is a restart."""

    def __init__(self, cluster: FakeCluster | None = None, installation: Installation = INSTALLATION) -> None:
        self.cluster = cluster or FakeCluster()
        self.installation = installation
        self.clock = Clock()
        self.metrics = OperatorMetrics()
        self.queue: WorkQueue[ResourceRef] = WorkQueue(clock=self.clock, jitter=lambda: 1.0)
        self.reader = FakeReader()
        self.cache, self.declared = Cache(), Declared(CRDS)
        self.declared_changed: Callable[[ResourceRef], None] = lambda ref: None
        self.looked_at: Callable[[ResourceRef], None] = lambda ref: None
        self.informer = Informer(
            self.cache,
            self.declared,
            self.queue.add,
            declared_changed=lambda ref: self.declared_changed(ref),
            installation=installation,
        )
        self.reports = Reports(self.reader, changed=self._look_at, clock=self.clock)
        self.outcomes = Outcomes()
        self.gate = RolloutGate(installation.max_concurrent_rollouts, self.clock)
        surface = Surface(
            client=cast(ClusterClient, self.cluster),
            cache=self.cache,
            declared=self.declared,
            reports=self.reports,
            gate=self.gate,
            installation=installation,
            metrics=self.metrics,
            reporter=Reporter("aegate.dev/operator", "operator-0"),
            enqueue=self.queue.add,
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.clock()),
        )
        self.reconciler = Reconciler(surface, self.outcomes)
        self.errors: dict[ResourceRef, str] = {}
        self.cluster.saw = self.informer.saw
        for kind in sorted(WATCHED, key=lambda kind: kind in DECLARED):
            for (of, _), manifest in list(self.cluster.objects.items()):
                if of == kind:
                    self.informer.saw(kind, None, dict(manifest))
        for ref in self.informer.everything():
            self.queue.add(ref)

    async def settle(self) -> int:
        """Look at all that is due until nothing is; return how many looks that took."""
        looks = 0
        while (ref := self.queue.take()) is not None:
            looks += 1
            assert looks < 10_000, "it never comes to rest"
            try:
                await self.reconciler.reconcile(ref)
            except AegateError as error:
                self.errors[ref] = error.message
                self.queue.retry(ref)
            else:
                self.errors.pop(ref, None)
                self.queue.succeeded(ref)
                self.looked_at(ref)
            self.queue.done(ref)
        return looks

    async def ask_pods(self) -> None:
        """Let every pod that is due be asked once, and look at what follows."""
        asking = asyncio.create_task(self.reports.run())
        while len(self.reports._queue):
            await asyncio.wait({asking}, timeout=0.001)
        asking.cancel()
        await asyncio.wait({asking})
        await self.settle()

    def add_ae(self, name: str = "ct1", namespace: str = "radiology", **spec: Any) -> ResourceKey:
        """Somebody applies an AE."""
        key = ResourceKey(namespace, name)
        known = self.cluster.objects.get((APPLICATION_ENTITY, key), {})
        filled = {"title": name.upper(), "node": "10.1.2.3", "port": 104, **known.get("spec", {}), **spec}
        self.cluster.put(
            APPLICATION_ENTITY,
            {
                **known,
                "metadata": {**known.get("metadata", {}), "namespace": namespace, "name": name},
                "spec": filled,
            },
        )
        return key

    def add_pod(self, key: ResourceKey, name: str = "ct1-a", *, is_ready: bool = True, **status: Any) -> None:
        """A kubelet says how a pod of an AE is."""
        ready = {"type": "Ready", "status": "True" if is_ready else "False"}
        labels = {AE_LABEL: key.name}
        manifest = {
            "metadata": {"namespace": key.namespace, "name": name, "labels": labels},
            "spec": {"volumes": self._volumes(key)},
            "status": {"podIP": "10.0.0.1", "phase": "Running", "conditions": [ready], **status},
        }
        self.cluster.put(POD, manifest)

    def _volumes(self, key: ResourceKey) -> list[Any]:
        """The volumes of the AE's Deployment, if it has one."""
        name = ResourceKey(key.namespace, base_name(key.name))
        deployment = self.cluster.objects.get((DEPLOYMENT, name))
        volumes: list[Any] = deployment["spec"]["template"]["spec"]["volumes"] if deployment else []
        return volumes

    def revision(self, key: ResourceKey) -> str:
        """What a listener reports that has the AE's ConfigMap in force."""
        return revision(self.cluster.of(CONFIG_MAP, ResourceKey(key.namespace, base_name(key.name))))

    async def serve(self, *keys: ResourceKey) -> None:
        """Everything comes up: Deployments roll out, a pod each answers with its configuration."""
        self.cluster.roll_out()
        for key in keys:
            name = f"{key.namespace}-{key.name}"
            self.reader.said[name] = Report(self.revision(key), "ready")
            self.add_pod(key, name)
        await self.settle()
        await self.ask_pods()

    def conditions(self, key: ResourceKey) -> dict[str, tuple[str, str]]:
        """Status and reason of every condition in an AE's status."""
        status = self.cluster.of(APPLICATION_ENTITY, key).get("status", {})
        return {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions", [])}

    def message(self, key: ResourceKey, type: str = "Ready") -> str:
        """A condition's message."""
        status = self.cluster.of(APPLICATION_ENTITY, key)["status"]
        return str(next(c["message"] for c in status["conditions"] if c["type"] == type))

    def _look_at(self, key: ResourceKey) -> None:
        self.queue.add(ref_of_pool(key) or ResourceRef(APPLICATION_ENTITY.name, key))
