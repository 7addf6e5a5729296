"""Names and labels of children: valid and unique, however long or odd the AE's name is."""

from __future__ import annotations

import itertools

import pytest

from aegate_core.resources.names import dns1035_label, dns1123_label, label_value
from aegate_operator.manifests import children
from aegate_operator.manifests.child import AE_LABEL, base_name, label_of
from tests.unit.operator.manifests.builders import INSTALLATION, at, entity

LONGEST = "a" * 63 + "." + "b" * 63 + "." + "c" * 63 + "." + "d" * 61
ODD = [
    "ct1",
    "7t-mri",
    "a",
    "a.b",
    "a-b",
    "a--b",
    "a" * 43,
    "a" * 44,
    "a" * 63,
    "a" * 62 + "b",
    "a" * 64,
    "a" * 51 + "." + "b" * 20,
    LONGEST,
    LONGEST[:-1] + "e",
]


@pytest.mark.parametrize("name", ODD)
def test_every_name_makes_valid_children(name: str) -> None:
    found = children(entity(name, listener={"replicas": 2}), INSTALLATION)

    assert len(found) == 6
    for child in found:
        assert dns1035_label(child.name) == []
        assert at(child.manifest, "metadata", "name") == child.name
        labels = at(child.manifest, "metadata", "labels")
        assert [bad for value in labels.values() for bad in label_value(value)] == []


@pytest.mark.parametrize("name", ODD)
def test_the_pods_names_stay_labels(name: str) -> None:
    pod = f"{base_name(name)}-{'f' * 10}-{'x' * 5}"

    assert dns1123_label(pod) == []


def test_no_two_names_make_one_child() -> None:
    cut = base_name("a.b")

    assert len({base_name(name) for name in ODD}) == len(ODD)
    assert len({label_of(name) for name in ODD}) == len(ODD)
    assert base_name(cut.removeprefix("aex-")) != cut
    for first, second in itertools.permutations(ODD, 2):
        assert base_name(first) != f"{base_name(second)}-spool"


def test_names_of_usual_length_are_read_as_they_are() -> None:
    names = {child.kind: child.name for child in children(entity(listener={"replicas": 2}), INSTALLATION)}

    assert names == {
        "PersistentVolumeClaim": "ae-ct1-spool",
        "ConfigMap": "ae-ct1",
        "NetworkPolicy": "ae-ct1",
        "Service": "ae-ct1",
        "Deployment": "ae-ct1",
        "PodDisruptionBudget": "ae-ct1",
    }


def test_label_of_a_name_that_is_one_is_the_name() -> None:
    assert [label_of(n) for n in ("ct1", "a.b", "a" * 63)] == ["ct1", "a.b", "a" * 63]


def test_children_carry_our_labels_and_none_of_the_aes() -> None:
    ae = entity()
    ae.metadata.labels["argocd.argoproj.io/instance"] = "hospital"  # type: ignore[index] # a dict

    for child in children(ae, INSTALLATION):
        assert at(child.manifest, "metadata", "labels") == {
            "app.kubernetes.io/name": "aegate-listener",
            "app.kubernetes.io/instance": "ct1",
            "app.kubernetes.io/managed-by": "aegate-operator",
            "app.kubernetes.io/part-of": "aegate",
            AE_LABEL: "ct1",
        }
        annotations = at(child.manifest, "metadata").get("annotations")
        expected = {"aegate.dev/entity": "ct1"} if child.kind == "PersistentVolumeClaim" else None
        assert annotations == expected


def test_all_but_the_claim_belong_to_the_ae() -> None:
    owner = {
        "apiVersion": "aegate.dev/v1alpha1",
        "kind": "ApplicationEntity",
        "name": "ct1",
        "uid": "0b5e",
        "controller": True,
        "blockOwnerDeletion": True,
    }

    owners = {
        child.kind: at(child.manifest, "metadata").get("ownerReferences")
        for child in children(entity(listener={"replicas": 2}), INSTALLATION)
    }

    assert owners.pop("PersistentVolumeClaim") is None
    owned = ("ConfigMap", "NetworkPolicy", "Service", "Deployment", "PodDisruptionBudget")
    assert owners == {kind: [owner] for kind in owned}
