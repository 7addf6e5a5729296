"""Small manifests for the tests of resources, and the shortest way to have them judged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache

from aegate_core.resources.crds import CRD, load_crds
from aegate_core.resources.manifests import Reading, read_manifests
from aegate_core.resources.parse import parse_resource
from aegate_core.resources.validation import ValidationResult, validate_reading, versions_of
from aegate_core.resources.values import Resource

API_VERSION = "aegate.dev/v1alpha1"
Manifest = dict[str, object]


@cache
def crds() -> Mapping[str, CRD]:
    """The project's CRDs, loaded once."""
    return load_crds()


def manifest(kind: str, name: str, spec: Mapping[str, object], **metadata: object) -> Manifest:
    """A whole manifest."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": dict(spec),
    }


def ae(name: str = "ct1", **spec: object) -> Manifest:
    """The manifest of an AE; a member given as None is left out."""
    filled = {"title": name.upper(), "node": "10.1.2.3", "port": 104, **spec}
    return manifest("ApplicationEntity", name, {k: v for k, v in filled.items() if v is not None})


def route(name: str = "r1", **spec: object) -> Manifest:
    """The manifest of a route; ``source`` becomes ``from``."""
    filled = {"to": ["pacs"], **spec}
    if "source" in filled:
        filled["from"] = filled.pop("source")
    return manifest("ImageRoute", name, filled)


def partition(name: str = "p1", **spec: object) -> Manifest:
    """The manifest of a partition."""
    return manifest("PatientPartition", name, spec)


def resource(
    value: Manifest, *, uid: str = "", created_at: str = "", labels: dict[str, str] | None = None
) -> Resource:
    """The resource of a manifest, with what a server or an earlier apply sets."""
    metadata = {**value["metadata"], "uid": uid, "creationTimestamp": created_at, "labels": labels or {}}  # type: ignore[dict-item] # built above
    return parse_resource({**value, "metadata": metadata})


def read_bytes(raw: bytes) -> Reading:
    """What reading ``raw`` from standard input gives."""
    return read_manifests(["-"], stdin=lambda most: raw[:most])


def validate_text(text: str, *, old: Iterable[Resource] = ()) -> ValidationResult:
    """What is said to a YAML or JSON text."""
    return validate_reading(read_bytes(text.encode()), old=versions_of(old), crds=crds())


def validate(*values: Manifest, old: Iterable[Resource] = ()) -> ValidationResult:
    """What is said to these manifests."""
    listed = {"apiVersion": "v1", "kind": "List", "items": list(values)}
    return validate_text(json.dumps(listed), old=old)
