"""The Job that empties a claim whose ApplicationEntity is gone."""

from __future__ import annotations

from typing import Any

import pytest

from aegate_core.resources.names import dns1123_label
from aegate_operator.manifests import drain_job, drain_policy, entity_of
from aegate_operator.manifests.child import base_name
from aegate_operator.manifests.placement import PLACEMENT_ANNOTATION
from tests.unit.operator.manifests.builders import (
    INSTALLATION,
    at,
    container,
    entity,
    installation,
    of_kind,
    pod_of,
)
from tests.unit.operator.manifests.test_names import ODD


def claim(name: str = "ct1", **listener: Any) -> dict[str, Any]:
    """A claim as the API server has it: its AE is not asked any more."""
    ae = entity(name, listener=listener)
    manifest: dict[str, Any] = dict(of_kind("PersistentVolumeClaim", ae).manifest)
    return manifest | {"metadata": {**manifest["metadata"], "uid": "c1a1"}, "status": {"phase": "Bound"}}


def test_job_empties_the_claim_and_belongs_to_it() -> None:
    job = drain_job(claim(), INSTALLATION)

    assert (job.kind, job.name) == ("Job", "ae-ct1-drain")
    assert at(job.manifest, "metadata", "ownerReferences") == [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "name": "ae-ct1-spool",
            "uid": "c1a1",
            "controller": True,
            "blockOwnerDeletion": False,
        }
    ]
    pod = at(job.manifest, "spec", "template", "spec")
    assert pod["restartPolicy"] == "OnFailure"
    assert pod["volumes"][0] == {"name": "spool", "persistentVolumeClaim": {"claimName": "ae-ct1-spool"}}
    assert pod["containers"][0]["command"] == ["python3", "-m", "aegate_scp.indexer", "--until-empty"]


def test_job_has_what_the_sidecar_has() -> None:
    (drain,) = at(drain_job(claim(), INSTALLATION).manifest, "spec", "template", "spec", "containers")
    sidecar = container("indexer", entity())

    for same in ("image", "env", "volumeMounts", "securityContext", "resources", "livenessProbe"):
        assert drain[same] == sidecar[same]
    assert "restartPolicy" not in drain


def test_pods_of_the_job_are_nobodys_endpoint() -> None:
    job = drain_job(claim(), INSTALLATION).manifest
    selector = at(of_kind("Service", entity()).manifest, "spec", "selector")

    labels = at(job, "spec", "template", "metadata", "labels")

    assert not selector.items() <= labels.items()
    assert labels["aegate.dev/ae"] == "ct1"


def test_job_is_restricted_and_never_given_up() -> None:
    spec = at(drain_job(claim(), INSTALLATION).manifest, "spec")
    pod = spec["template"]["spec"]

    assert spec["backoffLimit"] == 2147483647
    assert "activeDeadlineSeconds" not in spec
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", ODD)
def test_name_of_every_entity_is_found_again(name: str) -> None:
    found = drain_job(claim(name), INSTALLATION)

    assert entity_of(claim(name)) == name
    assert found.name == f"{base_name(name)}-drain"
    assert dns1123_label(found.name) == []
    variables = at(found.manifest, "spec", "template", "spec", "containers", 0, "env")
    assert {"name": "AEGATE_AE", "value": f"radiology/{name}"} in variables


def test_job_runs_where_the_installation_lets_listeners_run() -> None:
    wanted = installation(
        node_selector={"disk": "ssd"},
        tolerations=({"key": "dicom", "operator": "Exists"},),
        priority_class_name="usual",
        image_pull_secrets=("registry",),
    )

    pod = at(drain_job(claim(), wanted).manifest, "spec", "template", "spec")

    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert pod["tolerations"] == [{"key": "dicom", "operator": "Exists"}]
    assert (pod["priorityClassName"], pod["imagePullSecrets"]) == ("usual", [{"name": "registry"}])


OWN_NODES = {
    "nodeSelector": {"storage": "yes"},
    "tolerations": [{"key": "storage", "operator": "Exists", "effect": "NoSchedule"}],
    "priorityClassName": "hospital-critical",
}


def test_job_runs_where_the_pods_of_its_entity_did() -> None:
    wanted = installation(
        node_selector={"disk": "ssd"}, tolerations=({"key": "dicom", "operator": "Exists"},)
    )
    ae = entity(listener={"pod": OWN_NODES})

    pod = at(drain_job(claim(pod=OWN_NODES), wanted).manifest, "spec", "template", "spec")

    assert pod["nodeSelector"] == {"disk": "ssd", "storage": "yes"}
    assert pod["tolerations"] == [
        {"key": "dicom", "operator": "Exists"},
        {"key": "storage", "operator": "Exists", "effect": "NoSchedule"},
    ]
    assert pod["priorityClassName"] == "hospital-critical"
    for same in ("nodeSelector", "tolerations", "priorityClassName"):
        assert pod[same] == pod_of(ae, wanted)[same]


def test_claim_of_an_entity_that_says_nothing_of_nodes_carries_nothing_of_them() -> None:
    assert PLACEMENT_ANNOTATION not in claim()["metadata"]["annotations"]
    resources = {"resources": {"limits": {"memory": "1Gi"}}}
    assert PLACEMENT_ANNOTATION not in claim(pod=resources)["metadata"]["annotations"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"tolerations": 5}', '{"tolerations": ["x"]}'])
def test_what_somebody_else_wrote_on_the_claim_keeps_no_job_from_being_made(text: str) -> None:
    edited = claim(pod=OWN_NODES)
    edited["metadata"]["annotations"][PLACEMENT_ANNOTATION] = text

    pod = at(drain_job(edited, INSTALLATION).manifest, "spec", "template", "spec")

    assert not {"nodeSelector", "tolerations", "priorityClassName"} & pod.keys()


def test_policy_lets_nobody_to_the_pods_of_the_job_and_goes_with_it() -> None:
    made = dict(drain_job(claim(), INSTALLATION).manifest)
    job = made | {"metadata": {**at(made, "metadata"), "uid": "70b"}}

    policy = drain_policy(job)

    spec, labels = policy.manifest["spec"], at(made, "spec", "template", "metadata", "labels")
    selected = {"app.kubernetes.io/name": "aegate-drain", "aegate.dev/ae": "ct1"}
    assert spec == {"podSelector": {"matchLabels": selected}, "policyTypes": ["Ingress"], "ingress": []}
    assert selected.items() <= labels.items()
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "ae-ct1-drain", "uid": "70b"}
    assert at(policy.manifest, "metadata", "ownerReferences") == [
        owner | {"controller": True, "blockOwnerDeletion": False}
    ]


def test_policy_of_a_job_is_called_as_no_child_of_another_entity() -> None:
    made = dict(drain_job(claim(), INSTALLATION).manifest)
    policy = drain_policy(made | {"metadata": {**at(made, "metadata"), "uid": "70b"}})

    assert base_name("ct1-drain") == "ae-ct1-drain"
    assert policy.name == "drain-ae-ct1"
