"""The node: takes the pods that the scheduler gives it, keeps its lease, and lets pods go that are deleted."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.lab.local_node.api import MERGE_PATCH, TRY_AGAIN_S, Client, moment
from tests.cluster.lab.local_node.background import background
from tests.cluster.lab.local_node.containers import now
from tests.cluster.lab.local_node.pods import Place, Pod
from tests.cluster.lab.local_node.specs import Manifest
from tests.cluster.lab.local_node.statuses import is_ready, node_status, reported_status
from tests.cluster.lab.local_node.volumes import decoded
from tests.integration.shims import build_shim

LEASE_S = 40
RENEW_EVERY_S = 10
NODES = "/api/v1/nodes"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
ADDRESS_SHIM = Path(__file__).with_name("pod_address.c")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the node is told."""

    name: str
    kubeconfig: Path
    network: IPv4Network
    """Pods get addresses from its second /24 on."""
    folder: Path
    processes: int
    """So many pods run; the others are only said to."""


class LocalNode:
    """Plays kubelet."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = Client(settings.kubeconfig)
        self._pods: dict[str, Pod | None] = {}
        """By uid; None: only said to run."""
        self._going: dict[str, asyncio.Task[None]] = {}
        self._data: dict[tuple[str, str, str], Mapping[str, str]] = {}
        """Of ConfigMaps and Secrets, by kind, namespace and name."""
        self._addresses = self._free_addresses()
        settings.folder.mkdir(parents=True, exist_ok=True)
        self._environ = self._base_environ(build_shim(ADDRESS_SHIM, settings.folder))

    async def run(self) -> None:
        """Be a node until cancelled; then its pods are stopped without grace, as a node's are that loses power."""
        try:
            async with asyncio.TaskGroup() as group:
                await self._follow_data(group)
                await self._register()
                group.create_task(self._renew())
                group.create_task(self._follow_pods())
        finally:
            await asyncio.gather(*(pod.stop(0) for pod in self._pods.values() if pod))
            await self._client.close()

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """Return a ConfigMap's data."""
        return self._data.get(("configmaps", namespace, name))

    def secret(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """Return a Secret's data."""
        return self._data.get(("secrets", namespace, name))

    async def _register(self) -> None:
        name = self._settings.name
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
        metadata = {"name": name, "labels": labels}
        await self._make(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": metadata})
        await self._say_ready()

    async def _say_ready(self) -> None:
        """Report the node's status where it is another one: whoever missed its lease for a while has given it up."""
        name, ip = self._settings.name, str(self._settings.network[1])
        if is_ready(await self._client.get(f"{NODES}/{name}") or {}):
            return
        version = (await self._client.get("/version") or {})["gitVersion"]
        status = {"status": node_status(ip, version, now())}
        await self._client.send("PATCH", f"{NODES}/{name}/status", status, MERGE_PATCH)

    async def _make(self, path: str, value: Manifest) -> None:
        try:
            await self._client.send("POST", path, value)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.CONFLICT:  # it is there from before
                raise

    async def _renew(self) -> None:
        name = self._settings.name
        spec: dict[str, Any] = {"holderIdentity": name, "leaseDurationSeconds": LEASE_S}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}}
        while True:
            spec["renewTime"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            renewed = await self._client.send("PATCH", f"{LEASES}/{name}", {"spec": spec}, MERGE_PATCH)
            if renewed:
                await self._say_ready()
            else:  # at first; its namespace may not be there yet, either
                await self._make(LEASES, {**lease, "spec": spec})
            await moment(RENEW_EVERY_S if renewed else TRY_AGAIN_S)

    async def _follow_data(self, group: asyncio.TaskGroup) -> None:
        """Follow ConfigMaps and Secrets, and return when all that are there are known."""
        known = [asyncio.Event() for _ in range(2)]
        for kind, event in zip(("configmaps", "secrets"), known, strict=True):
            group.create_task(self._follow_kind(kind, event))
        await asyncio.gather(*(event.wait() for event in known))

    async def _follow_kind(self, kind: str, known: asyncio.Event) -> None:
        async for change in self._client.watch(f"/api/v1/{kind}"):
            if change.kind == "LISTED":
                listed = {self._key(kind, o): self._content(kind, o) for o in change.value["items"]}
                self._data = {k: v for k, v in self._data.items() if k[0] != kind} | listed
                known.set()
            elif change.kind == "DELETED":
                self._data.pop(self._key(kind, change.value), None)
            else:
                self._data[self._key(kind, change.value)] = self._content(kind, change.value)
            for pod in self._pods.values():
                if pod and change.value["metadata"].get("namespace") in (None, pod.namespace):
                    pod.refresh()

    async def _follow_pods(self) -> None:
        selector = f"spec.nodeName={self._settings.name}"
        async for change in self._client.watch("/api/v1/pods", fieldSelector=selector):
            if change.kind == "LISTED":
                there = {o["metadata"]["uid"] for o in change.value["items"]}
                for uid in self._pods.keys() - there:
                    self._forget(uid)
                for pod in change.value["items"]:
                    await self._see(pod)
            elif change.kind == "DELETED":
                self._forget(change.value["metadata"]["uid"])
            else:
                await self._see(change.value)

    async def _see(self, manifest: Manifest) -> None:
        uid = manifest["metadata"]["uid"]
        is_over = manifest.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if uid not in self._pods and not is_over:
            await self._take(manifest)
        elif uid in self._pods and not is_ready(manifest):
            await self._say_again(manifest)
        if manifest["metadata"].get("deletionTimestamp") and uid not in self._going:
            self._going[uid] = background(self._delete(manifest))

    async def _take(self, manifest: Manifest) -> None:
        metadata, running = manifest["metadata"], sum(1 for p in self._pods.values() if p)
        ip = next(self._addresses)
        is_lasting = manifest["spec"].get("restartPolicy", "Always") == "Always"
        if is_lasting and running >= self._settings.processes:
            self._pods[metadata["uid"]] = None
            await self._say_running(manifest, ip)
            return
        folder = self._settings.folder / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
        place = Place(folder, ip, str(self._settings.network[1]), self._environ)
        pod = Pod(manifest, place, self._client, self)
        self._pods[metadata["uid"]] = pod
        pod.start()

    async def _say_running(self, manifest: Manifest, ip: str) -> None:
        metadata = manifest["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        status = reported_status(manifest, ip, str(self._settings.network[1]), now())
        await self._client.send("PATCH", path, {"status": status}, MERGE_PATCH)

    async def _say_again(self, manifest: Manifest) -> None:
        """Say of a pod that it is ready where somebody else said that it is not: who gives a node up, does."""
        pod = self._pods[manifest["metadata"]["uid"]]
        if pod is not None:
            pod.contradict()
        elif ip := manifest.get("status", {}).get("podIP"):
            await self._say_running(manifest, ip)

    async def _delete(self, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        pod = self._pods.get(metadata["uid"])
        if pod:
            await pod.delete(metadata.get("deletionGracePeriodSeconds", 30))
        else:
            path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
            await self._client.send("DELETE", path, {"gracePeriodSeconds": 0})

    def _forget(self, uid: str) -> None:
        """The API server no longer has it: one that was deleted by force still runs here."""
        pod = self._pods.pop(uid, None)
        going = self._going.pop(uid, None)
        if pod and going is None:
            self._going[uid] = background(pod.stop(0))

    def _free_addresses(self) -> Iterator[str]:
        network = self._settings.network
        hosts = (network[i] for i in itertools.count(256) if i % 256 not in (0, 255))
        return (str(address) for address in hosts)

    def _base_environ(self, shim: Path) -> dict[str, str]:
        """The programs are this Python's; nothing else of the surroundings gets in."""
        kept = {k: v for k, v in os.environ.items() if k in ("AEGATE_LAB_FOLDER", "LANG")}
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        api = self._client.url
        service = {"KUBERNETES_SERVICE_HOST": api.host, "KUBERNETES_SERVICE_PORT": str(api.port)}
        return {**kept, **service, "PATH": path, "PYTHONUNBUFFERED": "1", "LD_PRELOAD": str(shim)}

    @staticmethod
    def _key(kind: str, value: Manifest) -> tuple[str, str, str]:
        return kind, value["metadata"]["namespace"], value["metadata"]["name"]

    @staticmethod
    def _content(kind: str, value: Manifest) -> Mapping[str, str]:
        return decoded(value) if kind == "secrets" else value.get("data") or {}
