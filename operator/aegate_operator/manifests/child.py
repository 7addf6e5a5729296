"""A child object: its names, its labels and whose it is.

Names are cut to 46 characters at most, so that even the names of pods, which get 17 more, stay DNS labels. A name that
had to change carries a hash and another prefix, so that it can never be another AE's unchanged one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from aegate_core.resources.manifest_of import API_VERSION
from aegate_core.resources.names import dns1123_label, label_value
from aegate_core.resources.values import ApplicationEntity

Manifest = dict[str, object]

AE_LABEL = "aegate.dev/ae"
POOL_LABEL = "aegate.dev/pool"
APP = "aegate-listener"
DRAIN_APP = "aegate-drain"
"""Not `APP`: no Service may send a device to such a pod, no Deployment count it."""
ENTITY_ANNOTATION = "aegate.dev/entity"

_LONGEST_NAME = 46
_LONGEST_LABEL = 63
_HASH = 10


@dataclass(frozen=True, slots=True)
class Child:
    """One wished object, whole, as it is applied."""

    kind: str
    name: str
    manifest: Mapping[str, object]


def base_name(name: str) -> str:
    """Return what the children of the AE ``name`` are called: ``ae-<name>``, or ``aex-<cut>-<hash>``.

    It begins with a letter, as the name of a Service must (RFC 1035), where an AE's may begin with a digit.
    """
    plain = f"ae-{name}"
    if len(plain) <= _LONGEST_NAME and not dns1123_label(plain):
        return plain
    cut = name.replace(".", "-")[: _LONGEST_NAME - _HASH - len("aex--")].rstrip("-")
    return f"aex-{cut}-{_hash(name)}"


def label_of(name: str) -> str:
    """Return the value of `AE_LABEL` for the AE ``name``: the name itself, or cut with a hash when it is too long."""
    if not label_value(name):
        return name
    return f"{name[: _LONGEST_LABEL - _HASH - 1].rstrip('-.')}-{_hash(name)}"


def labels(ae: ApplicationEntity) -> Manifest:
    """Return the labels of every child. Nothing is taken from the AE's own: Argo CD would prune by them."""
    return {
        "app.kubernetes.io/name": APP,
        "app.kubernetes.io/instance": label_of(ae.key.name),
        "app.kubernetes.io/managed-by": "aegate-operator",
        "app.kubernetes.io/part-of": "aegate",
        AE_LABEL: label_of(ae.key.name),
    }


def selector(ae: ApplicationEntity) -> Manifest:
    """Return what selects the AE's pods: for ever the same, because a Deployment's cannot be changed."""
    return {"app.kubernetes.io/name": APP, AE_LABEL: label_of(ae.key.name)}


def child(
    ae: ApplicationEntity,
    api_version: str,
    kind: str,
    content: Mapping[str, object],
    *,
    annotations: Mapping[str, str] | None = None,
) -> Child:
    """Return a child that goes with the AE (Kubernetes collects it by its owner reference)."""
    name = base_name(ae.key.name)
    metadata = {**_metadata(ae, name), "ownerReferences": [_owner(ae)]}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return Child(kind, name, {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content})


def orphan(
    ae: ApplicationEntity,
    kind: str,
    content: Mapping[str, object],
    *,
    name: str,
    annotations: Mapping[str, str],
) -> Child:
    """Return a child of API version v1 that outlives the AE; it says whose it was, because its label may be cut."""
    metadata = {**_metadata(ae, name), "annotations": {ENTITY_ANNOTATION: ae.key.name, **annotations}}
    return Child(kind, name, {"apiVersion": "v1", "kind": kind, "metadata": metadata, **content})


def _metadata(ae: ApplicationEntity, name: str) -> Manifest:
    return {"name": name, "namespace": ae.key.namespace, "labels": labels(ae)}


def _owner(ae: ApplicationEntity) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": "ApplicationEntity",
        "name": ae.key.name,
        "uid": ae.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:_HASH]
