"""Every field of an ApplicationEntity that may be changed is changed under an open association: none is cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.cluster.lab.lab import KubectlFailed
from tests.cluster.release.edited import Edited, old_pods_end_well
from tests.cluster.release.hospital import Hospital
from tests.integration.waiting import eventually

CRD = Path(__file__).parents[3] / "crds" / "applicationentity.yaml"
NAME, TITLE = "ct-9", "CT_9"
EFFECTIVE_S = 5.0
"""From an edit that no pod has to be started for until Ready says that every pod has it."""

Edits = dict[str, Any] | list[dict[str, Any]]
"""What is merged into the spec: once, or one after the other."""

LIVE: dict[str, Edits] = {
    # The machine is in these ranges, which alone admit it from here on.
    "node, sourceRanges": {"node": "192.0.2.9", "sourceRanges": ["10.0.0.0/8"]},
    "networkPolicy": {"networkPolicy": "Disabled"},
    "port": {"port": 4242},
    "locationCode": {"locationCode": "ER"},
    "documentType": {"documentType": "CT"},
    "routeLevel": {"routeLevel": "Series"},
    "maxConnections": {"maxConnections": 7},
    "comment": {"comment": "moved to room 3"},
    "push.reconcilePatientData": {"push": {"reconcilePatientData": "MR"}},
    "push.reconcileAccessionNumber": {"push": {"reconcileAccessionNumber": "EncounterID"}},
    "push.priority": {"push": {"priority": 60}},
    "push.storageCommitment": {"push": {"storageCommitment": True}},
    "push.callingTitle": {"push": {"callingTitle": "GATE"}},
    "push.compression.mode": {"push": {"compression": {"mode": "Lossless"}}},
    "push.compression.mode, push.compression.quality": {
        "push": {"compression": {"mode": "Lossy", "quality": 80}}
    },
    "push.tls.serverName": {"push": {"tls": {"serverName": "ct-9.example.org"}}},
    "push.tls.verifyHostname": {"push": {"tls": {"verifyHostname": False}}},
    "updateDatabaseFromDICOM": {"updateDatabaseFromDICOM": True},
    "allowModalityWorklistQuery": {"allowModalityWorklistQuery": True},
    "suspend": [{"suspend": True}, {"suspend": False}],
    "study.quietPeriodSeconds": {"study": {"quietPeriodSeconds": 30}},
    "study.maxAgeSeconds": {"study": {"maxAgeSeconds": 600}},
    "timeouts.connectSeconds": {"timeouts": {"connectSeconds": 20}},
    "timeouts.acseSeconds": {"timeouts": {"acseSeconds": 20}},
    "timeouts.dimseResponseSeconds": {"timeouts": {"dimseResponseSeconds": 60}},
    "timeouts.networkIdleSeconds": {"timeouts": {"networkIdleSeconds": 300}},
    "listener.serviceAnnotations": {"listener": {"serviceAnnotations": {"example.org/a": "b"}}},
    "listener.port": {"listener": {"port": 11113}},
    "listener.nodePort": {"listener": {"serviceType": "NodePort", "nodePort": 31999}},
    "listener.maxAssociations": {"listener": {"maxAssociations": 30}},
    "listener.verifyCalledTitle": {"listener": {"verifyCalledTitle": True}},
    "listener.verifyNode": {"listener": {"verifyNode": False}},
    "listener.calledTitle": {"listener": {"calledTitle": "AEGATE"}},
    "listener.acknowledge": {"listener": {"acknowledge": "Indexed"}},
    "listener.extraSOPClasses": {"listener": {"extraSOPClasses": ["1.2.3.4"]}},
    "listener.serviceType": [
        {"listener": {"serviceType": "ClusterIP", "nodePort": None}},
        {"listener": {"serviceType": "NodePort"}},
    ],
    "listener.mode": {"listener": {"mode": "Dedicated"}},
    "ability": [{"ability": "Print", "push": None}],
    "print.displayFormat": {"print": {"displayFormat": "STANDARD\\2,3"}},
    "print.filmSize": {"print": {"filmSize": "A4"}},
    "print.orientation": {"print": {"orientation": "LANDSCAPE"}},
    "print.medium": {"print": {"medium": "PAPER"}},
    "print.copies": {"print": {"copies": 2}},
    "print.color": {"print": {"color": True}},
    "print.callingTitle": [{"print": {"callingTitle": "GATE"}}, {"ability": "Push", "print": None}],
}
ROLLS: dict[str, dict[str, Any]] = {
    "listener.longestAssociationSeconds": {"listener": {"longestAssociationSeconds": 900}},
    "listener.pod.resources.requests, listener.pod.resources.limits": {
        "listener": {"pod": {"resources": {"requests": {"cpu": "20m"}, "limits": {"memory": "600Mi"}}}}
    },
    "listener.pod.nodeSelector": {"listener": {"pod": {"nodeSelector": {"kubernetes.io/os": "linux"}}}},
    "listener.pod.tolerations": {"listener": {"pod": {"tolerations": [{"key": "x", "operator": "Exists"}]}}},
    "listener.pod.priorityClassName": {"listener": {"pod": {"priorityClassName": "system-cluster-critical"}}},
    "listener.spool.type": {"listener": {"acknowledge": "Indexed", "spool": {"type": "EmptyDir"}}},
}
SCALES: dict[str, dict[str, Any]] = {"listener.replicas": {"listener": {"replicas": 2}}}
"""Pods come, and none goes."""
ELSEWHERE = {
    "title": "refused: test_refused",
    "patientPartition": "refused: test_refused",
    "enabled": "test_edits_of_the_way_in.py",
    "listener.pool": "test_edits_of_the_way_in.py, by mode",
    "listener.loadBalancerClass": "goes with a LoadBalancer, which a lab has not",
    "listener.spool.accessMode": "a claim's cannot be changed: test_a_claim_cannot_be_changed",
    "listener.spool.storageClassName": "a claim's can be set once, where it had none; then as accessMode",
    "listener.spool.size": "needs a StorageClass that expands, which a lab has not: test_a_claim_cannot_be_changed",
    "listener.tls.secretName": "test_edits_of_the_way_in.py",
    "listener.tls.clientAuth": "test_edits_of_the_way_in.py",
    "listener.tls.caSecretName": "test_edits_of_the_way_in.py",
}


@pytest.fixture(scope="module")
def edited(installed: Hospital) -> Iterator[Edited]:
    """An AE whose device is this machine."""
    installed.add_ae(NAME)
    installed.wait_until_ready(NAME)
    yield Edited(installed, NAME)
    installed.kubectl("delete", "applicationentity", NAME)


def test_every_field_is_in_one_of_the_tables() -> None:
    crd = YAML(typ="safe", pure=True).load(CRD.read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    edits = {key: _edits(edits) for table in (LIVE, ROLLS, SCALES) for key, edits in table.items()}
    changed = {key: {f for edit in edits[key] for f in _changed(edit, schema)} for key in edits}
    assert {key for key, fields in changed.items() if not fields >= set(key.split(", "))} == set()
    told = set().union(ELSEWHERE, *changed.values())
    assert {f for f in _fields(schema) if f not in told and f.partition(".")[0] not in ELSEWHERE} == set()


@pytest.mark.parametrize("name", LIVE)
def test_edit_that_a_running_listener_takes_up(edited: Edited, name: str) -> None:
    with edited.hospital.paced_sender(edited.hospital.address(NAME), TITLE, f"live {name}") as sender:
        sender.goes_on()
        before = edited.pods()
        for spec in _edits(LIVE[name]):
            took_s = edited.patch(spec)
            assert took_s <= EFFECTIVE_S, f"{took_s:.1f} s"
            sender.goes_on()
        assert edited.pods() == before


CLAIM: dict[str, tuple[dict[str, str], str]] = {
    "accessMode": ({"accessMode": "ReadWriteOnce"}, "spec is immutable"),
    "size": ({"size": "2Gi"}, "only dynamically provisioned pvc can be resized"),
}


@pytest.mark.parametrize("name", CLAIM)
def test_a_claim_cannot_be_changed(edited: Edited, name: str) -> None:
    """What the API server says of it stands in Ready; the listener goes on, and all is well when it is taken back."""
    change, words = CLAIM[name]
    with edited.hospital.paced_sender(edited.hospital.address(NAME), TITLE, f"claim {name}") as sender:
        before = edited.pods()
        spool = {"type": "PersistentVolumeClaim", **change}
        edited.patch({"listener": {"spool": spool}}, reason="ListenerNotReady")
        assert words in edited.message()
        sender.goes_on()
        edited.patch({"listener": {"spool": None}})
        assert edited.pods() == before
        sender.goes_on()


@pytest.mark.parametrize("name", SCALES)
def test_edit_that_adds_pods(edited: Edited, name: str) -> None:
    with edited.hospital.paced_sender(edited.hospital.address(NAME), TITLE, f"scales {name}") as sender:
        sender.goes_on()
        before = edited.pods()
        edited.patch(SCALES[name])
        sender.goes_on()
        assert edited.pods().items() > before.items()


def test_edit_that_takes_pods_away(edited: Edited) -> None:
    """Whichever goes: what is open at it goes on to its release."""
    address = edited.hospital.address(NAME)
    with (
        edited.hospital.paced_sender(address, TITLE, "one less") as sender,
        edited.hospital.paced_sender(address, TITLE, "or the other") as other,
    ):
        edited.patch({"listener": {"replicas": 1}})
        eventually(
            lambda: sorted(ending for _, _, ending in edited.pods().values()) == [False, True],
            deadline_s=60,
            what="one of the pods is to end",
        )
        sender.goes_on()
        other.goes_on()
    eventually(lambda: len(edited.pods()) == 1, deadline_s=120, what="it is gone")


@pytest.mark.parametrize("name", ROLLS)
def test_edit_that_needs_new_pods_waits_for_the_open_association(
    edited: Edited, name: str, tmp_path: Path
) -> None:
    address = edited.hospital.address(NAME)
    with (
        old_pods_end_well(edited, tmp_path),
        edited.hospital.paced_sender(address, TITLE, f"rolls {name}") as sender,
    ):
        sender.goes_on()
        old = edited.pods()
        edited.patch(ROLLS[name])
        sender.goes_on()
        ending = {pod for pod, (_, _, is_ending) in edited.pods().items() if is_ending}
        assert ending and ending <= old.keys()


@pytest.mark.parametrize(
    ("spec", "word"), [({"title": "CT_10"}, "title"), ({"patientPartition": "other"}, "patientPartition")]
)
def test_refused(edited: Edited, spec: dict[str, Any], word: str) -> None:
    with pytest.raises(KubectlFailed, match=word):
        edited.hospital.kubectl(
            "patch", "applicationentity", NAME, "--type=merge", f"--patch={json.dumps({'spec': spec})}"
        )


def test_no_image_was_lost(edited: Edited) -> None:
    """Whatever these tests did to its listener meanwhile."""
    edited.hospital.until_nothing_is_lost()


def _fields(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Give the path of each field that has no fields."""
    if "properties" not in schema:
        yield path
        return
    for name, below in schema["properties"].items():
        yield from _fields(below, f"{path}.{name}" if path else name)


def _edits(edits: Edits) -> list[dict[str, Any]]:
    return edits if isinstance(edits, list) else [edits]


def _changed(edit: dict[str, Any], schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Give the path of each field that an edit sets; what it takes away is not looked at."""
    for name, value in edit.items():
        below, at = schema["properties"][name], f"{path}.{name}" if path else name
        if isinstance(value, dict) and "properties" in below:
            yield from _changed(value, below, at)
        elif value is not None:
            yield at
