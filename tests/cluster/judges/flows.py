"""Flows through NetworkPolicies, in words: ``"monitoring/prometheus 8080"`` calls port 8080 of the pod in question.

The surroundings are a cluster with two releases, pods of AEs in several namespaces, and pods that look like ours.
Addresses of pods are of 172.20.0.0/16, so that no range of a device means one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.cluster.chart.rendering import Object, objects
from tests.cluster.judges.asking import ask

Labels = Mapping[str, str]

parsed = cache(objects)
"""The objects that a chart renders; nobody changes them."""


@dataclass(frozen=True)
class Expected:
    """Who may call a pod, and who may not: ``<address or namespace/pod> <port>[/UDP]``."""

    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()

    def __add__(self, other: Expected) -> Expected:
        return Expected(self.allowed + other.allowed, self.denied + other.denied)

    @property
    def rows(self) -> dict[str, bool]:
        """Each flow, and whether it should be allowed."""
        rows = [*((row, True) for row in self.allowed), *((row, False) for row in self.denied)]
        assert len(dict(rows)) == len(rows), "a flow stands twice in the table"
        return dict(rows)


@dataclass
class Surroundings:
    """Pods by namespace/name, and all NetworkPolicies."""

    pods: dict[str, Labels] = field(default_factory=dict)
    policies: list[Object] = field(default_factory=list)

    def put(self, release: str) -> None:
        """Take up what a chart renders; a pod is called by its component, pools by their names: pacs/pool-default."""
        for one in parsed(release):
            namespace = one["metadata"].get("namespace", "")
            if one["kind"] == "NetworkPolicy":
                self.policies.append(one)
            elif (labels := _pod_labels(one)) is not None:
                name = labels["app.kubernetes.io/name"].removeprefix("aegate-")
                pool = labels.get("aegate.dev/pool")
                self.pods[f"{namespace}/{name}{f'-{pool}' if pool else ''}"] = labels

    def judged(self, judges: Path, target: str, rows: Iterable[str]) -> dict[str, bool]:
        """Return what the matcher says of each flow to the pod ``target``."""
        return self.judged_flows(judges, {row: (row, target) for row in rows})

    def judged_flows(self, judges: Path, flows: Mapping[str, tuple[str, str]]) -> dict[str, bool]:
        """Return what the matcher says of flows, given by their names: source with port, and target."""
        question = {
            "policies": self.policies,
            "namespaces": [_namespace(name) for name in sorted({key.split("/")[0] for key in self.pods})],
            "pods": [_pod(key, number, labels) for number, (key, labels) in enumerate(self.pods.items(), 1)],
            "flows": [_flow(source, target) for source, target in flows.values()],
        }
        return dict(zip(flows, ask(judges / "flows", question), strict=True))


def selecting(policies: Sequence[Object], namespace: str, labels: Labels) -> list[str]:
    """Return the names of the policies that select a pod; ours select by matchLabels alone."""
    return [
        one["metadata"]["name"]
        for one in policies
        if one["metadata"]["namespace"] == namespace
        and one["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    ]


def _pod_labels(one: Object) -> Labels | None:
    if one["kind"] == "Pod":
        return dict(one["metadata"]["labels"])
    spec = one.get("spec", {})
    template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    return dict(template["metadata"]["labels"]) if template else None


def _flow(row: str, target: str) -> dict[str, Any]:
    source, _, port = row.partition(" ")
    number, _, protocol = port.partition("/")
    return {"from": source, "to": target, "port": int(number), "protocol": protocol or "TCP"}


def _namespace(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}}


def _pod(key: str, number: int, labels: Labels) -> dict[str, Any]:
    namespace, name = key.split("/")
    metadata = {"namespace": namespace, "name": name, "labels": dict(labels)}
    return {"metadata": metadata, "status": {"podIP": f"172.20.0.{number}"}}
