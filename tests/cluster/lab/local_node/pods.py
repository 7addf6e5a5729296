"""A pod as processes of this machine: init containers in their order, sidecars around the rest, and the way back."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from tests.cluster.lab.local_node.api import MERGE_PATCH, Client, moment
from tests.cluster.lab.local_node.background import background
from tests.cluster.lab.local_node.containers import Container, Run, now
from tests.cluster.lab.local_node.specs import Manifest, NotYet, Sources, command, environment, localized
from tests.cluster.lab.local_node.statuses import Observed, is_ready, is_sidecar, phase, pod_status
from tests.cluster.lab.local_node.volumes import Outside, Volumes

IMAGES = ("localhost/aegate", "aegate")
"""What the names of images start with whose programs are here: aegate's own, from this tree."""

SIDECARS_AT_LEAST_S = 2.0
"""What is left for sidecars when the others used up the grace period (kubelet has 2 s, too)."""


class Cluster(Protocol):
    """What a pod needs of the namespace that it is in."""

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """Return a ConfigMap's data."""

    def secret(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """Return a Secret's data."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod runs."""

    folder: Path
    ip: str
    host_ip: str
    environ: Mapping[str, str]
    """What every process here gets."""


class Pod:
    """One pod of this node."""

    def __init__(self, manifest: Manifest, place: Place, client: Client, cluster: Cluster) -> None:
        self.manifest = manifest
        self._place = place
        self._client = client
        self.namespace = str(manifest["metadata"]["namespace"])
        self._changed = asyncio.Event()
        self._is_initialized = self._has_started = False
        self._waiting: NotYet | None = None
        self._tasks: list[asyncio.Task[None]] = []
        addresses = {"podIP": place.ip, "podIPs": place.ip, "hostIP": place.host_ip}
        self._sources = Sources(
            lambda name: cluster.config_map(self.namespace, name),
            lambda name: cluster.secret(self.namespace, name),
            {**manifest, "status": {**manifest.get("status", {}), **addresses}},
        )
        outside = Outside(self._claim_folder, self._token)
        self._volumes = Volumes(place.folder / "volumes", self._sources, outside)
        spec = manifest["spec"]
        policy = spec.get("restartPolicy", "Always")
        inits = spec.get("initContainers", [])
        once = "Never" if policy == "Never" else "OnFailure"
        self._init = [self._container(c, "Always" if is_sidecar(c) else once) for c in inits]
        self._main = [self._container(c, policy) for c in spec["containers"]]

    @property
    def path(self) -> str:
        """Where the API server has it."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.manifest['metadata']['name']}"

    def start(self) -> None:
        """Begin to run it and to say how it is."""
        self._tasks = [background(self._run()), background(self._tell_for_ever())]

    def refresh(self) -> None:
        """Take up a ConfigMap or Secret that has changed; one that went away stays in the pod as it was."""
        try:
            self._volumes.refresh()
        except NotYet:
            return

    def contradict(self) -> None:
        """Say anew how it is where it was said to be ready: the API server has another word of it now."""
        if is_ready(self.manifest):
            self._changed.set()

    async def delete(self, grace_s: float) -> None:
        """Stop it in good order and take it out of the API server."""
        await self.stop(grace_s)
        await self._tell()
        uid = self.manifest["metadata"]["uid"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        await self._client.send("DELETE", self.path, options)

    async def stop(self, grace_s: float) -> None:
        """Stop its processes: containers together, then sidecars, the last first; nobody gets more than the grace."""
        end = time.monotonic() + grace_s
        for task in self._tasks[:1]:
            task.cancel()
        await asyncio.gather(*(c.stop(grace_s) for c in self._main))
        for container in reversed(self._init):
            await container.stop(max(end - time.monotonic(), min(grace_s, SIDECARS_AT_LEAST_S)))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        shutil.rmtree(self._place.folder / "volumes", ignore_errors=True)

    def _container(self, said: Manifest, restart_policy: str) -> Container:
        return Container(
            said, self._place.ip, restart_policy, lambda: self._prepared(said), self._changed.set
        )

    async def _run(self) -> None:
        await self._until_prepared()
        running: list[asyncio.Task[None]] = []
        try:
            for container in self._init:
                running.append(background(container.run()))
                await (container.is_started if is_sidecar(container.said) else container.is_done).wait()
                if not is_sidecar(container.said) and container.exit_code:
                    return
            self._is_initialized = self._has_started = True
            running += [background(c.run()) for c in self._main]
            await asyncio.gather(*(c.is_done.wait() for c in self._main))
            for container in reversed(self._init):
                await container.stop(self.manifest["spec"].get("terminationGracePeriodSeconds", 30))
        finally:
            self._changed.set()
            self._tasks += running

    async def _until_prepared(self) -> None:
        while True:
            try:
                await self._volumes.prepare()
            except NotYet as wait:
                self._waiting = wait
                self._changed.set()
                await moment()
                continue
            self._waiting = None
            return

    def _prepared(self, said: Manifest) -> Run:
        """Return what runs for a container. Raises NotYet."""
        image = said["image"]
        if not image.removeprefix("docker.io/").startswith(IMAGES):
            raise NotYet(
                "ImagePullBackOff", f'Back-off pulling image "{image}": this node has none but {IMAGES[0]}'
            )
        mounts = self._volumes.mounts(said)
        own = self._place.folder / said["name"]
        own.mkdir(parents=True, exist_ok=True)
        mounts = {**_above(mounts, own / "above"), **mounts}
        name = str(self.manifest["metadata"]["name"])
        base = {"LAB_POD_IP": self._place.ip, "LAB_POD_NAME": name, "HOSTNAME": name, "TMPDIR": str(own)}
        here = {
            **self._place.environ,
            **base,
        }  # paths of this machine already, even where one lies below a mount
        variables = environment(said, self._sources, here)
        variables = {k: v if here.get(k) == v else localized(v, mounts) for k, v in variables.items()}
        folder = Path(localized(said["workingDir"], mounts)) if "workingDir" in said else own
        log = self._place.folder / f"{said['name']}.log"
        return Run(command(said, variables, mounts), variables, folder, log)

    async def _tell_for_ever(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._tell()

    async def _tell(self) -> None:
        codes = [c.exit_code if c.is_done.is_set() else None for c in self._main]
        failed = [c for c in self._init if not is_sidecar(c.said) and c.is_done.is_set() and c.exit_code]
        seen = Observed(
            at=now(),
            phase="Failed" if failed else phase(self.manifest, codes, has_started=self._has_started),
            ip=self._place.ip,
            host_ip=self._place.host_ip,
            init=[self._status(c) for c in self._init],
            containers=[self._status(c) for c in self._main],
            is_initialized=self._is_initialized,
        )
        status = pod_status(self.manifest, seen)
        said = await self._client.send("PATCH", f"{self.path}/status", {"status": status}, MERGE_PATCH)
        if said and said["metadata"]["uid"] == self.manifest["metadata"]["uid"]:
            self.manifest = said

    def _status(self, container: Container) -> dict[str, Any]:
        status = container.status()
        if self._waiting:
            status["state"] = {"waiting": {"reason": self._waiting.reason, "message": str(self._waiting)}}
        return status

    async def _claim_folder(self, claim: str) -> Path:
        found = await self._client.get(f"/api/v1/namespaces/{self.namespace}/persistentvolumeclaims/{claim}")
        name = (found or {}).get("spec", {}).get("volumeName")
        volume = await self._client.get(f"/api/v1/persistentvolumes/{name}") if name else None
        path = (volume or {}).get("spec", {}).get("hostPath", {}).get("path")
        if not path:
            raise NotYet("ContainerCreating", f'claim "{claim}" is not bound to a hostPath volume')
        Path(path).mkdir(parents=True, exist_ok=True)
        return Path(path)

    async def _token(self, wanted: Manifest) -> str:
        account = self.manifest["spec"].get("serviceAccountName", "default")
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        audience = wanted.get("audience")
        spec = {"audiences": [audience] if audience else [], "expirationSeconds": 86_400}
        said = await self._client.send(
            "POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        )
        if said is None:
            raise NotYet("ContainerCreating", f'serviceaccount "{account}" not found')
        return str(said["status"]["token"])


def _above(mounts: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Return a folder for each path that mounts lie in, with links to them, as the data folder has spool and blobs.

    A program that is told such a path would else work in that folder of this machine.
    """
    found = {}
    for mount, place in mounts.items():
        path = PurePosixPath(mount)
        if len(path.parent.parts) > 2:
            here = folder / path.parent.relative_to("/")
            here.mkdir(parents=True, exist_ok=True)
            (here / path.name).unlink(missing_ok=True)
            (here / path.name).symlink_to(place)
            found[str(path.parent)] = here
    return found
