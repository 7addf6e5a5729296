"""ApplicationEntities and an installation for the tests of manifests, and short ways into what comes out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.values import ApplicationEntity, Listener, Metadata
from aegate_operator.installation import Installation, ListenerTemplate
from aegate_operator.manifests import Child, children

INSTALLATION = Installation(image="localhost/aegate-scp:1", namespace="aegate-system")


def entity(name: str = "ct1", *, listener: dict[str, Any] | None = None, **values: Any) -> ApplicationEntity:
    """An AE; ``listener`` holds members of its Listener."""
    metadata = Metadata(ResourceKey("radiology", name), uid="0b5e", generation=3)
    filled = {"title": AETitle("CT1"), "node": "10.1.2.3", "port": 104, **values}
    return ApplicationEntity(metadata, listener=Listener(**listener or {}), **filled)


def installation(**values: Any) -> Installation:
    """The installation with some members of its listener template, or of itself, changed."""
    own = {k: v for k, v in values.items() if k in Installation.__slots__}
    template = {k: v for k, v in values.items() if k in ListenerTemplate.__slots__}
    assert own.keys() | template.keys() == values.keys()
    return replace(INSTALLATION, listener=replace(INSTALLATION.listener, **template), **own)


def of_kind(kind: str, ae: ApplicationEntity, wanted: Installation = INSTALLATION) -> Child:
    """The AE's one child of that kind."""
    (found,) = [c for c in children(ae, wanted) if c.kind == kind]
    return found


def kinds(ae: ApplicationEntity, wanted: Installation = INSTALLATION) -> list[str]:
    """The kinds of all children, in order."""
    return [c.kind for c in children(ae, wanted)]


def at(value: Any, *path: str | int) -> Any:
    """What stands at a path of a manifest."""
    for step in path:
        value = value[step]
    return value


def pod_of(ae: ApplicationEntity, wanted: Installation = INSTALLATION) -> dict[str, Any]:
    """The pod's spec."""
    found = at(of_kind("Deployment", ae, wanted).manifest, "spec", "template", "spec")
    assert isinstance(found, dict)
    return found


def container(name: str, ae: ApplicationEntity, wanted: Installation = INSTALLATION) -> dict[str, Any]:
    """One container of the pod, sidecars included."""
    pod = pod_of(ae, wanted)
    found = {c["name"]: c for c in [*pod["initContainers"], *pod["containers"]]}[name]
    assert isinstance(found, dict)
    return found
