"""The operator in this process, under a service account that has the listed rights and no others; pods are said to run.

What a pod's listener reports is read from its ConfigMap: kubelets and listeners have tests of their own.
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aegate_core.database import open_database
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterError, ClusterUnavailable
from aegate_core.stores.cluster import ClusterClient, ClusterConnection, Kind, from_kubeconfig
from aegate_core.stores.cluster.client import Manifest
from aegate_core.stores.cluster.connection import Token
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, CONFIG_MAP, DEPLOYMENT, VOLUME_CLAIM
from aegate_operator.assembly import Operator, Times
from aegate_operator.installation import Installation, ListenerTemplate
from aegate_operator.manifests import revision
from aegate_operator.pods import Pod
from aegate_operator.projection import ProjectionTimes
from aegate_operator.reports import Report
from aegate_operator.resync import ResyncTimes
from aegate_operator.rights import RULES
from aegate_operator.settings import OperatorSettings
from tests.cluster.lab.audit import Request
from tests.cluster.lab.lab import Lab
from tests.integration.waiting import eventually_async

HOME = "aegate-system"
USER = f"system:serviceaccount:{HOME}:aegate-operator"
SPOOL = replace(ListenerTemplate().spool, type="EmptyDir")
INSTALLATION = Installation(
    image="localhost/aegate:tree", namespace=HOME, listener=ListenerTemplate(spool=SPOOL, pre_stop_s=1)
)
TIMES = Times(
    ResyncTimes(interval_s=3600, spread_s=0.1, retry_s=0.2),
    ProjectionTimes(quiet_s=0.05, look_s=1.0, retry_s=0.2),
)
DEADLINE_S = 120
HOT_PER_MINUTE = 60
"""What an operator with a few AEs may ask of an API server in trouble, at most, besides a burst of this many."""


@dataclass
class Listeners:
    """Every pod has in force what its ConfigMap says, but for the problems that a test gives it."""

    admin: ClusterClient
    said: dict[str, Report] = field(default_factory=dict)
    """By the AE's label."""

    async def read(self, pod: Pod) -> Report:
        """Return what the pod says."""
        if pod.entity_label in self.said:
            return self.said[pod.entity_label]
        try:
            name = ResourceKey(pod.key.namespace, f"ae-{pod.entity_label}")
            return Report(revision(await self.admin.get(CONFIG_MAP, name)), "ready")
        except ClusterError as error:
            return Report(problem=f"does not answer ({error.code})")


@dataclass
class Ward:
    """A lab with our CRDs and the operator's account, and what tests do there."""

    lab: Lab
    admin: ClusterClient
    listeners: Listeners
    database: Path
    sqlite_template: Path

    @asynccontextmanager
    async def operating(
        self, installation: Installation = INSTALLATION, times: Times = TIMES, *, server: str = ""
    ) -> AsyncIterator[Operator]:
        """An operator at work that has looked at everything once; whatever ends it fails the test.

        ``server``: how it reaches the API server, where a test stands in between.
        """
        if not self.database.exists():
            shutil.copyfile(self.sqlite_template, self.database)
        settings = OperatorSettings(installation, f"sqlite://{self.database}", "operator-0")
        stop = asyncio.Event()
        async with open_database(settings.database_url) as db:
            connection = account_of(self.lab)
            connection = replace(connection, server=server) if server else connection
            operator = Operator(settings, connection, db, self.listeners, times=times)
            running = asyncio.create_task(operator.run(stop))
            try:
                await eventually_async(
                    lambda: running.done() or operator.projection_is_current(), deadline_s=DEADLINE_S
                )
                yield operator
                assert not running.done(), running
            finally:
                stop.set()
                await asyncio.wait_for(running, 60)

    async def add_ae(self, namespace: str, name: str = "ct1", **spec: Any) -> ResourceKey:
        """Somebody applies an AE."""
        key = ResourceKey(namespace, name)
        filled = {"title": name.upper(), "node": "10.1.2.3", "port": 104, **spec}
        metadata = {"namespace": namespace, "name": name}
        manifest = {"metadata": metadata, "spec": filled}
        try:
            await self.admin.apply(APPLICATION_ENTITY, manifest)
        except ClusterUnavailable:  # our connection was to an API server that has ended
            await self.admin.apply(APPLICATION_ENTITY, manifest)
        return key

    async def remove(self, kind: Kind, key: ResourceKey) -> None:
        """Somebody deletes an object."""
        live = await self.admin.get(kind, key)
        await self.admin.delete(kind, key, uid=str(live["metadata"]["uid"]))  # type: ignore[index]

    async def find(self, kind: Kind, key: ResourceKey) -> Manifest | None:
        """Return an object, or None."""
        try:
            return await self.admin.get(kind, key)
        except ClusterError:
            return None

    async def conditions(
        self, key: ResourceKey, kind: Kind = APPLICATION_ENTITY
    ) -> dict[str, tuple[str, str]]:
        """Return status and reason of every condition."""
        return {c["type"]: (c["status"], c["reason"]) for c in await self._conditions(key, kind)}

    async def message(self, key: ResourceKey, type: str = "Ready") -> str:
        """Return a condition's message."""
        return next(
            (c["message"] for c in await self._conditions(key, APPLICATION_ENTITY) if c["type"] == type), ""
        )

    async def until(self, key: ResourceKey, type: str, status: str, reason: str) -> None:
        """Wait until a condition says so."""

        async def does() -> bool:
            return (await self.conditions(key)).get(type) == (status, reason)

        await eventually_async(does, deadline_s=DEADLINE_S, what=f"{key} {type}={status} {reason}")

    async def until_gone(self, kind: Kind, key: ResourceKey) -> None:
        """Wait until there is no such object."""

        async def is_gone() -> bool:
            return await self.find(kind, key) is None

        await eventually_async(is_gone, deadline_s=DEADLINE_S, what=f"{kind} {key} is gone")

    def requests(self, namespace: str = "") -> list[Request]:
        """Return what the operator has asked of the API server so far, of one namespace or all."""
        ours = [r for r in self.lab.audit() if r.user == USER]
        return [r for r in ours if not namespace or r.namespace == namespace]

    def writes(self, namespace: str = "") -> list[tuple[str, str]]:
        """Return verb and resource of each of its writes."""
        return [(r.verb, r.resource) for r in self.requests(namespace) if r.is_write]

    async def _conditions(self, key: ResourceKey, kind: Kind) -> list[dict[str, str]]:
        live: Any = await self.find(kind, key) or {}
        found: list[dict[str, str]] = live.get("status", {}).get("conditions", [])
        return found


@asynccontextmanager
async def never_hot(ward: Ward) -> AsyncIterator[None]:
    """See that the block asks the API server for no more than what is news, and a few tries a minute."""
    before, began = len(ward.requests()), time.monotonic()
    yield
    minutes = (time.monotonic() - began) / 60
    asked = ward.requests()[before:]
    assert len(asked) <= HOT_PER_MINUTE * (1 + minutes), Counter((r.verb, r.resource, r.code) for r in asked)


def rights(rules: Sequence[Any] = RULES) -> list[dict[str, Any]]:
    """Return account, role and binding as manifests."""
    account = {"name": "aegate-operator", "namespace": HOME}
    named = {"metadata": {"name": "aegate-operator"}}
    listed = [{"apiGroups": [r.group], "resources": [r.resource], "verbs": list(r.verbs)} for r in rules]
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "aegate-operator"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {**rbac, "kind": "ClusterRole", **named, "rules": listed},
        {
            **rbac,
            "kind": "ClusterRoleBinding",
            **named,
            "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
    ]


def account_of(lab: Lab) -> ClusterConnection:
    """Return the operator's own connection: its token, no client certificate."""
    admin = from_kubeconfig(lab.kubeconfig)
    token = lab.kubectl("create", "token", "aegate-operator", f"--namespace={HOME}").strip()
    tls = ssl.create_default_context(cafile=str(lab.credentials.ca))
    return ClusterConnection(admin.server, HOME, tls, Token(text=token))


def store(namespace: str) -> list[dict[str, Any]]:
    """Return what every namespace of AEs must hold: the claim of the blobs, bound to a volume, and the DSN."""
    name = f"blobs-{namespace}"
    size, modes = {"storage": "1Gi"}, ["ReadWriteMany"]
    volume = {
        "capacity": size,
        "accessModes": modes,
        "hostPath": {"path": f"/srv/{name}"},
        "storageClassName": "",
    }
    claim = {
        "accessModes": modes,
        "resources": {"requests": size},
        "volumeName": name,
        "storageClassName": "",
    }
    metadata = {"namespace": namespace, "name": "aegate-blobs"}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": namespace, "name": "aegate-database"},
            "stringData": {"dsn": "postgres://nobody@127.0.0.1:1/none"},
        },
    ]


def apply_all(lab: Lab, manifests: Sequence[dict[str, Any]]) -> None:
    """Apply manifests in order, without kubectl: it would read the whole API's description before."""

    async def apply() -> None:
        async with ClusterClient(from_kubeconfig(lab.kubeconfig), manager="kubectl") as admin:
            for manifest in manifests:
                await admin.apply(_KINDS[manifest["kind"]], manifest)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, apply()).result()


_ADMISSION = "admissionregistration.k8s.io/v1"
_KINDS = {
    kind.name: kind
    for kind in (
        Kind("aegate.dev/v1alpha1", "AEPolicy", "aepolicies"),
        Kind(_ADMISSION, "ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
        Kind(_ADMISSION, "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
        Kind("v1", "Namespace", "namespaces"),
        Kind("v1", "ServiceAccount", "serviceaccounts"),
        Kind("v1", "Secret", "secrets"),
        Kind("v1", "PersistentVolume", "persistentvolumes"),
        Kind("v1", "ResourceQuota", "resourcequotas"),
        Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"),
        Kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings"),
        Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions"),
        DEPLOYMENT,
        VOLUME_CLAIM,
    )
}
