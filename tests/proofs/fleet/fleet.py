"""Many AEs in a lab: applied all at once, waited for, and the same children applied by a plain client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from aegate_core.resources.parse import parse_resource
from aegate_core.resources.values import ApplicationEntity
from aegate_core.stores.cluster import ClusterClient, Kind, from_kubeconfig
from aegate_core.stores.cluster.client import Manifest
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, CONFIG_MAP, DEPLOYMENT
from aegate_operator.children import KINDS
from aegate_operator.compare import stamped
from aegate_operator.declared import conditions_in
from aegate_operator.installation import Installation
from aegate_operator.manifests import children
from aegate_operator.pods import POOL_LABEL
from tests.cluster.lab.lab import Lab
from tests.cluster.operator.operating import apply_all, store
from tests.integration.waiting import eventually_async, take_s

T = TypeVar("T")

A_NAMESPACE = 100
"""AEs in one namespace."""
AT_ONCE = 8
"""Requests under way at once: as many AEs as the operator looks at."""
LOOK_S = 0.5
"""How often somebody looks whether all is done: more often would be a load of its own."""
DEADLINE_S = 3600


@dataclass(frozen=True, slots=True)
class Fleet:
    """AEs of one kind in namespaces of their own."""

    lab: Lab
    admin: ClusterClient
    name: str
    """What its namespaces begin with."""
    count: int
    spec: dict[str, Any]
    """What every AE says beside title and address."""
    first: int = 0
    """Number of its first AE: titles are of the whole cluster."""

    @property
    def namespaces(self) -> list[str]:
        """All of its namespaces."""
        return [f"{self.name}-{n:03}" for n in range(-(-self.count // A_NAMESPACE))]

    def entities(self) -> list[Manifest]:
        """Return the AEs as somebody applies them."""
        where = [self.namespaces[n // A_NAMESPACE] for n in range(self.count)]
        return [entity_of(namespace, self.first + n, self.spec) for n, namespace in enumerate(where)]

    def prepare(self, database_url: str) -> None:
        """Make the namespaces with what pods need in them."""
        for namespace in self.namespaces:
            claim = store(namespace)
            claim[-1]["stringData"] = {"dsn": database_url}
            apply_all(self.lab, [{"kind": "Namespace", "metadata": {"name": namespace}}, *claim])

    async def apply(self) -> float:
        """Apply all AEs; return how long that took."""
        return await timed(at_once(self.entities(), lambda one: self._apply(APPLICATION_ENTITY, one)))

    async def apply_children(self, installation: Installation) -> float:
        """Apply what the operator would make of all AEs, without them; return how long that took."""
        wished = [children_of(entity, installation) for entity in self.entities()]

        async def apply(own: Sequence[tuple[Kind, Manifest]]) -> None:
            for kind, manifest in own:
                await self._apply(kind, manifest)

        return await timed(at_once(wished, apply))

    async def until_ready(self) -> float:
        """Return when every AE is Ready, and how long that took."""
        return await timed(self._until_all(APPLICATION_ENTITY, is_ready))

    async def until_available(self) -> float:
        """Return when every Deployment is available, and how long that took."""
        return await timed(self._until_all(DEPLOYMENT, is_available))

    async def delete(self) -> None:
        """Delete the namespaces; return when nothing is left of them."""
        self.lab.kubectl("delete", "namespace", *self.namespaces, "--wait=false")
        for namespace in self.namespaces:
            self.lab.kubectl("wait", "--for=delete", f"namespace/{namespace}", "--timeout=280s")

    async def _apply(self, kind: Kind, manifest: Manifest) -> None:
        await self.admin.apply(kind, manifest)

    async def _until_all(self, kind: Kind, is_so: Callable[[Manifest], bool]) -> None:
        left = self.count
        for namespace in self.namespaces:
            expected = min(left, A_NAMESPACE)
            left -= expected

            async def all_are(namespace: str = namespace, expected: int = expected) -> bool:
                live = (await self.admin.list(kind, namespace=namespace)).items
                if len(live) == expected and all(map(is_so, live)):
                    return True
                await take_s(LOOK_S)
                return False

            await eventually_async(
                all_are, deadline_s=DEADLINE_S, what=f"{kind.plural} of {namespace} are all well"
            )


def entity_of(namespace: str, number: int, spec: dict[str, Any]) -> Manifest:
    """Return one AE; no two have a title or an address in common."""
    node = f"10.{number // 62500 + 1}.{number // 250 % 250}.{number % 250 + 1}"
    named = {"title": f"AE{number:06}", "node": node, "port": 104}
    return {
        "metadata": {"namespace": namespace, "name": f"ae{number:06}"},
        "spec": {**named, **spec},
    }


def children_of(entity: Manifest, installation: Installation) -> list[tuple[Kind, Manifest]]:
    """Return the children of an AE as the operator applies them, but for their owner: there is none."""
    metadata: Any = entity["metadata"]
    ae = parse_resource(
        {
            "apiVersion": APPLICATION_ENTITY.api_version,
            "kind": APPLICATION_ENTITY.name,
            "spec": entity["spec"],
            "metadata": {**metadata, "uid": "none", "generation": 1},
        }
    )
    assert isinstance(ae, ApplicationEntity)
    return [(KINDS[c.kind], stamped(_without_owner(c.manifest))) for c in children(ae, installation)]


def _without_owner(manifest: Any) -> Manifest:
    metadata = {name: value for name, value in manifest["metadata"].items() if name != "ownerReferences"}
    return {**manifest, "metadata": metadata}


def is_ready(entity: Manifest) -> bool:
    """Whether an AE's Ready condition is True."""
    return any(c.type.value == "Ready" and c.is_true for c in conditions_in(entity))


def is_available(deployment: Any) -> bool:
    """Whether a Deployment has all of its pods, for long enough."""
    status, wished = deployment.get("status", {}), deployment["spec"]["replicas"]
    return bool(status.get("availableReplicas") == status.get("updatedReplicas") == wished)


async def sizes_of_pools(admin: ClusterClient, namespace: str) -> list[int]:
    """Return how many bytes each ConfigMap of a pool's AEs holds."""
    found = await admin.list(CONFIG_MAP, namespace=namespace, labels=POOL_LABEL)
    data: list[Any] = [one.get("data") or {} for one in found.items]
    return [sum(len(text.encode()) for text in d.values()) for d in data if "listener.json" not in d]


async def at_once(items: Iterable[T], work: Callable[[T], Awaitable[None]], count: int = AT_ONCE) -> None:
    """Do ``work`` for each item, ``count`` of them at once."""
    waiting = iter(items)

    async def one_after_the_other() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one_after_the_other())


async def timed(work: Awaitable[None]) -> float:
    """Return how many seconds ``work`` takes."""
    began = time.monotonic()
    await work
    return time.monotonic() - began


@asynccontextmanager
async def administrator(lab: Lab) -> AsyncIterator[ClusterClient]:
    """Give the client of somebody who applies."""
    async with ClusterClient(from_kubeconfig(lab.kubeconfig), manager="kubectl") as admin:
        yield admin
