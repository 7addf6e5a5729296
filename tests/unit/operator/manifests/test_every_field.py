"""What each field of an ApplicationEntity costs when it is edited: nothing, a reload, or the associations of its pods.

The table names every field of the CRD; one that is new there fails here until somebody has said what it costs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from aegate_core.resources.crds import load_crds
from aegate_core.resources.parse import parse_resource
from aegate_core.resources.values import ApplicationEntity
from aegate_operator.manifests import children
from tests.unit.operator.manifests.builders import INSTALLATION, at

NOTHING = frozenset[str]()
"""The listener does not need it: nothing but the generation that its configuration carries differs."""
RELOAD = frozenset({"configuration"})
SERVICE = frozenset({"Service"})
SCALE = frozenset({"scale"})
CLAIM = frozenset({"PersistentVolumeClaim"})
ROLL = frozenset({"pod"})
IMMUTABLE = "immutable"
ALL_GO = "gone"

BASE: dict[str, Any] = {
    "title": "CT1",
    "node": "10.1.2.3",
    "port": 104,
    "sourceRanges": ["10.1.2.0/24"],
    "timeouts": {
        "connectSeconds": 10,
        "acseSeconds": 30,
        "dimseResponseSeconds": 20,
        "networkIdleSeconds": 600,
    },
    "listener": {
        "serviceType": "LoadBalancer",
        "replicas": 2,
        "acknowledge": "Indexed",
        "tls": {"secretName": "identity", "caSecretName": "hospital"},
        "spool": {"type": "PersistentVolumeClaim", "accessMode": "ReadWriteMany", "size": "5Gi"},
    },
}

EDITS: dict[str, tuple[Any, frozenset[str] | str]] = {
    "title": ("CT2", IMMUTABLE),
    "patientPartition": ("research", IMMUTABLE),
    "node": ("10.9.2.4", RELOAD | SERVICE | {"NetworkPolicy"}),
    "sourceRanges": (["10.9.0.0/16"], RELOAD | SERVICE | {"NetworkPolicy"}),
    "networkPolicy": ("Disabled", SERVICE | {"NetworkPolicy"}),
    "port": (105, NOTHING),
    "locationCode": ("ER", NOTHING),
    "documentType": ("XR", NOTHING),
    "routeLevel": ("Image", NOTHING),
    "maxConnections": (9, NOTHING),
    "comment": ("behind the door", NOTHING),
    "ability": ("Print", ALL_GO),
    "updateDatabaseFromDICOM": (True, NOTHING),
    "allowModalityWorklistQuery": (True, NOTHING),
    "suspend": (True, NOTHING),
    "enabled": (False, RELOAD | SCALE | ROLL | {"NetworkPolicy", "PodDisruptionBudget"}),
    "push.reconcilePatientData": ("MR", NOTHING),
    "push.reconcileAccessionNumber": ("EncounterID", NOTHING),
    "push.priority": (90, NOTHING),
    "push.storageCommitment": (True, NOTHING),
    "push.callingTitle": ("GATE", NOTHING),
    "push.tls.verifyHostname": (False, NOTHING),
    "push.tls.serverName": ("ct1.example", NOTHING),
    "push.compression.mode": ("Lossless", NOTHING),
    "push.compression.quality": (90, NOTHING),
    "print.displayFormat": ("STANDARD\\2,2", NOTHING),
    "print.filmSize": ("14INX17IN", NOTHING),
    "print.orientation": ("LANDSCAPE", NOTHING),
    "print.medium": ("PAPER", NOTHING),
    "print.copies": (2, NOTHING),
    "print.color": (True, NOTHING),
    "print.callingTitle": ("GATE", NOTHING),
    "study.quietPeriodSeconds": (5, NOTHING),
    "study.maxAgeSeconds": (60, NOTHING),
    "timeouts.connectSeconds": (5, NOTHING),
    "timeouts.acseSeconds": (5, RELOAD),
    "timeouts.dimseResponseSeconds": (10, RELOAD),
    "timeouts.networkIdleSeconds": (60, RELOAD),
    "listener.mode": ("None", ALL_GO),
    "listener.pool": ("small", NOTHING),
    "listener.serviceType": ("NodePort", SERVICE),
    "listener.serviceAnnotations": ({"a.example/b": "c"}, SERVICE),
    "listener.loadBalancerClass": ("metallb.example/l2", SERVICE),
    "listener.port": (11113, SERVICE),
    "listener.nodePort": (30104, SERVICE),
    "listener.replicas": (3, SCALE),
    "listener.maxAssociations": (50, RELOAD),
    "listener.verifyCalledTitle": (True, RELOAD),
    "listener.verifyNode": (False, RELOAD),
    "listener.acknowledge": ("Spooled", RELOAD),
    "listener.longestAssociationSeconds": (600, RELOAD | ROLL),
    "listener.extraSOPClasses": (["1.2.3"], RELOAD),
    "listener.calledTitle": ("ARCHIVE", RELOAD),
    "listener.spool.type": ("EmptyDir", ROLL | CLAIM),
    "listener.spool.accessMode": ("ReadWriteOnce", SCALE | CLAIM | {"PodDisruptionBudget"}),
    "listener.spool.storageClassName": ("fast", CLAIM),
    "listener.spool.size": ("9Gi", CLAIM),
    "listener.pod.resources.requests": ({"cpu": "1"}, ROLL),
    "listener.pod.resources.limits": ({"memory": "2Gi"}, ROLL),
    "listener.pod.nodeSelector": ({"disk": "ssd"}, ROLL | CLAIM),
    "listener.pod.priorityClassName": ("urgent", ROLL | CLAIM),
    "listener.pod.tolerations": ([{"key": "ct", "operator": "Exists"}], ROLL | CLAIM),
    "listener.tls.secretName": ("other", ROLL),
    "listener.tls.caSecretName": ("other-ca", ROLL),
    "listener.tls.clientAuth": ("Request", RELOAD),
}


def test_table_names_every_field_of_the_crd() -> None:
    schema: Any = load_crds()["ApplicationEntity"].schema

    assert sorted(fields(schema["properties"]["spec"])) == sorted(EDITS)


@pytest.mark.parametrize("path", EDITS)
def test_edit_costs_what_the_table_says(path: str) -> None:
    value, expected = EDITS[path]
    if expected == IMMUTABLE:
        return  # an API server and `aegate validate` refuse it: test_crd_cases
    before, after = entity(BASE), entity(edited(path, value))

    changed = differences(before, after)

    if expected == ALL_GO:
        assert children(after, INSTALLATION) == ()
    else:
        assert changed == expected


def test_new_generation_alone_touches_only_the_configuration_file() -> None:
    before, after = parts(entity(BASE, generation=1)), parts(entity(BASE, generation=2))

    assert {name for name in before if before[name] != after[name]} == {"configuration"}


def fields(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every field that can be set, as a dotted path."""
    for name, inner in schema["properties"].items():
        below = f"{path}.{name}" if path else name
        if "properties" in inner:
            yield from fields(inner, below)
        else:
            yield below


def entity(spec: Mapping[str, Any], *, generation: int = 1) -> ApplicationEntity:
    found = parse_resource(
        {
            "kind": "ApplicationEntity",
            "metadata": {"name": "ct1", "namespace": "radiology", "uid": "0b5e", "generation": generation},
            "spec": spec,
        }
    )
    assert isinstance(found, ApplicationEntity)
    return found


def edited(path: str, value: Any) -> dict[str, Any]:
    spec = copy.deepcopy(BASE)
    *parents, last = path.split(".")
    place = spec
    for step in parents:
        place = place.setdefault(step, {})
    place[last] = value
    return spec


def parts(ae: ApplicationEntity) -> dict[str, Any]:
    """What an edit may change, one by one; the pod template apart from how many pods there are."""
    found: dict[str, Any] = {}
    for child in children(ae, INSTALLATION):
        if child.kind == "ConfigMap":
            found["configuration"] = child.manifest
        elif child.kind == "Deployment":
            spec = dict(at(child.manifest, "spec"))
            found["pod"] = spec.pop("template")
            found["scale"] = spec
        else:
            found[child.kind] = child.manifest
    return found


def differences(before: ApplicationEntity, after: ApplicationEntity) -> frozenset[str]:
    old, new = parts(before), parts(after)
    return frozenset(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
