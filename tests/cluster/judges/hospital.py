"""A cluster to look for ways in: two releases, listeners in two namespaces, Prometheus, and pods that pretend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.values import ApplicationEntity, Listener, Metadata
from aegate_operator.installation import Installation, parse_installation
from aegate_operator.manifests import children, drain_job, drain_policy
from aegate_operator.manifests.drain import pool_drain_job
from tests.cluster.chart.rendering import GIVEN, render, sets
from tests.cluster.judges.flows import Surroundings, parsed

PROMETHEUS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
    "podSelector": {"matchLabels": {"app": "prometheus"}},
}
API = ("api.enabled=true", "api.tokensSecret=aegate-tokens")
TRIAL = ("database.trial.enabled=true", "database.trial.password=not-a-secret-at-all")
COMPONENTS = ("operator", "worker", "api")
STRANGERS = {
    "monitoring/prometheus": {"app": "prometheus"},
    "monitoring/grafana": {"app": "grafana"},
    "pacs/prometheus": {"app": "prometheus"},
    "pacs/shell": {},
    "radiology/prometheus": {"app": "prometheus"},
    "radiology/shell": {},
    "ingress/proxy": {"app": "proxy"},
}
"""Pods that are not ours."""


def rendered(
    helm: Path,
    *values: str,
    namespace: str = "pacs",
    metrics_from: Mapping[str, Any] = PROMETHEUS,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Return what the chart renders for one release; ``more``: values that are no text."""
    metrics = [metrics_from] if metrics_from else []
    given = {"monitoring.metricsFrom": metrics, **more}
    whole = (word for key, value in given.items() for word in ("--set-json", f"{key}={json.dumps(value)}"))
    return _render(helm, *sets(*GIVEN, *values), *whole, namespace=namespace)


_render = cache(render)


def installation_of(release: str) -> Installation:
    """Return what a release tells its operator."""
    (told,) = [
        one["data"]["installation.json"]
        for one in parsed(release)
        if one["kind"] == "ConfigMap" and "installation.json" in one["data"]
    ]
    return parse_installation(json.loads(told))


def entity(
    name: str = "ct1", namespace: str = "radiology", *, listener: dict[str, Any] | None = None, **values: Any
) -> ApplicationEntity:
    """Return an AE; ``listener`` holds members of its Listener."""
    metadata = Metadata(ResourceKey(namespace, name), uid=f"{namespace}-{name}", generation=1)
    filled = {"title": AETitle(name.upper()), "node": "10.1.2.3", "port": 104, **values}
    return ApplicationEntity(metadata, listener=Listener(**listener or {}), **filled)


def hospital(release: str, other_release: str, *entities: ApplicationEntity) -> Surroundings:
    """Return a cluster with a release in pacs, another in elsewhere, and the listeners that the first one makes."""
    around = Surroundings()
    around.put(release)
    around.put(other_release)
    around.pods |= STRANGERS | _impostors(around)
    installation = installation_of(release)
    for ae in entities:
        for child in children(ae, installation):
            if child.kind == "NetworkPolicy":
                around.policies.append(child.manifest)
            if child.kind == "Deployment":
                template: Any = child.manifest["spec"]
                around.pods[f"{ae.key.namespace}/{ae.key.name}"] = template["template"]["metadata"]["labels"]
            if child.kind == "PersistentVolumeClaim":
                claim = _as_it_lives(child.manifest)
                _put_job(
                    around, f"{ae.key.namespace}/{ae.key.name}-drain", drain_job(claim, installation).manifest
                )
    for pool in installation.pools:
        drained = pool_drain_job(pool, None, installation, speaks_for_pool=True)
        _put_job(around, f"pacs/pool-{pool}-drain", drained)
    return around


def _put_job(around: Surroundings, name: str, job: Mapping[str, Any]) -> None:
    """Take up a Job that empties what was left, with its policy."""
    around.pods[name] = job["spec"]["template"]["metadata"]["labels"]
    around.policies.append(drain_policy(_as_it_lives(job)).manifest)


def _as_it_lives(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], "uid": "1f"}}


def _impostors(around: Surroundings) -> dict[str, dict[str, str]]:
    """Return pods in the AEs' namespace that carry the labels of ours, and those of another release beside ours."""
    ours = {name: around.pods[f"pacs/{name}"] for name in COMPONENTS if f"pacs/{name}" in around.pods}
    alike = {f"radiology/like-{name}": dict(labels) for name, labels in ours.items()}
    beside = {
        f"pacs/second-{name}": {**labels, "app.kubernetes.io/instance": "second"}
        for name, labels in ours.items()
    }
    return alike | beside
