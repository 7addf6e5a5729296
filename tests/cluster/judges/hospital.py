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
from aegate_operator.manifests import children
from aegate_operator.manifests.child import DRAIN_APP
from aegate_operator.manifests.child import labels as labels_of
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
        drained = {key: str(value) for key, value in labels_of(ae).items()} | {
            "app.kubernetes.io/name": DRAIN_APP
        }
        around.pods[f"{ae.key.namespace}/{ae.key.name}-drain"] = drained
    return around


def _impostors(around: Surroundings) -> dict[str, dict[str, str]]:
    """Return pods in the AEs' namespace that carry the labels of ours, and those of another release beside ours."""
    ours = {name: around.pods[f"pacs/{name}"] for name in COMPONENTS if f"pacs/{name}" in around.pods}
    alike = {f"radiology/like-{name}": dict(labels) for name, labels in ours.items()}
    beside = {
        f"pacs/second-{name}": {**labels, "app.kubernetes.io/instance": "second"}
        for name, labels in ours.items()
    }
    return alike | beside
