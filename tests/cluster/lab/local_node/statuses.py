"""The status of a pod and of the node, as kubelet writes them: pure functions of what is so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.cluster.lab.local_node.specs import Manifest

CAPACITY = {"cpu": "1000", "memory": "4Ti", "pods": "100000", "ephemeral-storage": "4Ti"}
"""The scheduler must never say no: nothing here is limited."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is so of a pod, at a time."""

    at: str
    phase: str
    ip: str
    host_ip: str
    init: Sequence[Mapping[str, Any]]
    containers: Sequence[Mapping[str, Any]]
    is_initialized: bool


def pod_status(pod: Manifest, seen: Observed) -> dict[str, Any]:
    """Return the status that says what was ``seen``; a condition that has not changed keeps its time."""
    is_ready = seen.phase == "Running" and all(
        c["ready"] for c in (*seen.containers, *_sidecars(pod, seen.init))
    )
    wished = {
        "PodReadyToStartContainers": True,
        "Initialized": seen.is_initialized,
        "ContainersReady": is_ready,
        "Ready": is_ready,
    }
    return {
        "phase": seen.phase,
        "podIP": seen.ip,
        "podIPs": [{"ip": seen.ip}],
        "hostIP": seen.host_ip,
        "hostIPs": [{"ip": seen.host_ip}],
        "startTime": pod.get("status", {}).get("startTime") or seen.at,
        "conditions": conditions(pod, wished, seen.at),
        "initContainerStatuses": list(seen.init),
        "containerStatuses": list(seen.containers),
    }


def conditions(described: Manifest, wished: Mapping[str, bool], at: str) -> list[dict[str, Any]]:
    """Return the conditions of an object with some of them set."""
    before = {c["type"]: dict(c) for c in described.get("status", {}).get("conditions", [])}
    for kind, is_so in wished.items():
        status = "True" if is_so else "False"
        if before.get(kind, {}).get("status") != status:
            before[kind] = {"type": kind, "status": status, "lastTransitionTime": at}
    return list(before.values())


def reported_status(pod: Manifest, ip: str, host_ip: str, at: str) -> dict[str, Any]:
    """Return the status of a pod that is only said to run."""

    def running(container: Manifest) -> dict[str, Any]:
        return {
            "name": container["name"],
            "image": container["image"],
            "imageID": container["image"],
            "ready": True,
            "started": True,
            "restartCount": 0,
            "state": {"running": {"startedAt": at}},
        }

    spec = pod["spec"]
    init = [
        running(c) if is_sidecar(c) else running(c) | _completed(at) for c in spec.get("initContainers", [])
    ]
    containers = [running(c) for c in spec["containers"]]
    return pod_status(pod, Observed(at, "Running", ip, host_ip, init, containers, is_initialized=True))


def node_status(ip: str, version: str, at: str) -> dict[str, Any]:
    """Return the status of a node that takes everything."""
    kinds = {"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}
    return {
        "capacity": CAPACITY,
        "allocatable": CAPACITY,
        "addresses": [{"type": "InternalIP", "address": ip}],
        "nodeInfo": _node_info(version),
        "conditions": [
            {
                "type": kind,
                "status": status,
                "reason": "LocalNode",
                "lastHeartbeatTime": at,
                "lastTransitionTime": at,
            }
            for kind, status in kinds.items()
        ],
    }


def is_ready(manifest: Manifest) -> bool:
    """Whether the status of a pod or a node says that it is ready."""
    conditions = manifest.get("status", {}).get("conditions", [])
    return any((c["type"], c["status"]) == ("Ready", "True") for c in conditions)


def is_sidecar(container: Manifest) -> bool:
    """Tell whether an init container runs as long as the pod."""
    return container.get("restartPolicy") == "Always"


def phase(pod: Manifest, exit_codes: Iterable[int | None], *, has_started: bool) -> str:
    """Return the phase: by how the containers ended, once all have for good."""
    codes = list(exit_codes)
    if not has_started:
        return "Pending"
    if pod["spec"].get("restartPolicy", "Always") == "Always" or None in codes:
        return "Running"
    return "Succeeded" if not any(codes) else "Failed"


def _sidecars(pod: Manifest, statuses: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    names = {c["name"] for c in pod["spec"].get("initContainers", []) if is_sidecar(c)}
    return [s for s in statuses if s["name"] in names]


def _completed(at: str) -> dict[str, Any]:
    ended = {"exitCode": 0, "reason": "Completed", "startedAt": at, "finishedAt": at}
    return {"state": {"terminated": ended}, "started": False}


def _node_info(version: str) -> dict[str, str]:
    known = {"kubeletVersion": version, "operatingSystem": "linux", "architecture": "amd64"}
    others = (
        "bootID",
        "containerRuntimeVersion",
        "kernelVersion",
        "kubeProxyVersion",
        "machineID",
        "osImage",
    )
    return {**dict.fromkeys((*others, "systemUUID"), ""), **known}
