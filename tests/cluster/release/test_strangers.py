"""Somebody's own objects that have the names of an AE's children: none is touched, and the condition names each.

A claim without an owner is no stranger: whoever makes one beforehand says where the spool is to lie.
"""

from __future__ import annotations

import json
from typing import Any

from tests.cluster.release.hospital import Hospital
from tests.integration.waiting import eventually

NAME = "ct-21"
CHILD, CLAIM = f"ae-{NAME}", f"ae-{NAME}-spool"
PODS = {"matchLabels": {"app": "theirs"}}
THEIRS: dict[str, dict[str, Any]] = {
    "Deployment": {
        "apiVersion": "apps/v1",
        "spec": {
            "replicas": 0,
            "selector": PODS,
            "template": {
                "metadata": {"labels": PODS["matchLabels"]},
                "spec": {"containers": [{"name": "theirs", "image": "theirs"}]},
            },
        },
    },
    "Service": {"spec": {"selector": PODS["matchLabels"], "ports": [{"port": 80}]}},
    "ConfigMap": {"data": {"theirs": "yes"}},
    "NetworkPolicy": {
        "apiVersion": "networking.k8s.io/v1",
        "spec": {"podSelector": PODS, "policyTypes": ["Ingress"]},
    },
    "PodDisruptionBudget": {"apiVersion": "policy/v1", "spec": {"selector": PODS, "maxUnavailable": 1}},
}
SPOOL = {"spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}}


def test_what_somebody_has_under_the_names_of_children_is_left_alone_until_it_is_gone(
    installed: Hospital,
) -> None:
    for kind, theirs in THEIRS.items():
        _apply(installed, kind, CHILD, theirs)
    _apply(installed, "PersistentVolumeClaim", CLAIM, SPOOL)
    before = _wishes(installed)
    claim = installed.uids("persistentvolumeclaims")[f"PersistentVolumeClaim/{CLAIM}"]
    named = [f"{kind} {installed.namespace}/{CHILD} is not of aegate" for kind in THEIRS]
    with installed.never_hot():
        installed.add_ae(NAME, listener={"replicas": 2})
        eventually(
            lambda: all(said in _message(installed) for said in named),
            deadline_s=60,
            what=lambda: f"each is named, not {_message(installed)}",
        )
    assert _wishes(installed) == before

    for kind in THEIRS:
        installed.kubectl("delete", kind, CHILD)
    installed.wait_until_ready(NAME)
    assert installed.uids("persistentvolumeclaims")[f"PersistentVolumeClaim/{CLAIM}"] == claim


def _apply(hospital: Hospital, kind: str, name: str, theirs: dict[str, Any]) -> None:
    metadata = {"namespace": hospital.namespace, "name": name}
    hospital.lab.apply(json.dumps({"apiVersion": "v1", "kind": kind, "metadata": metadata, **theirs}))


def _wishes(hospital: Hospital) -> dict[str, Any]:
    """Return what somebody says of each object; controllers may write to its status meanwhile."""
    live = [hospital.get(kind, CHILD) for kind in THEIRS]
    return {o["kind"]: [o.get("spec"), o.get("data"), o["metadata"].get("labels")] for o in live}


def _message(hospital: Hospital) -> str:
    conditions = hospital.get("ae", NAME).get("status", {}).get("conditions", [])
    return " ".join(c["message"] for c in conditions if c["type"] == "Ready")
