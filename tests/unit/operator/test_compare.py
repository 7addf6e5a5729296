"""What is wished must be found in the live object; defaults, other spellings and others' fields are no difference."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from aegate_operator.compare import WISHED, differences, stamped
from aegate_operator.manifests import children
from tests.unit.operator.manifests.builders import INSTALLATION, entity, of_kind

Manifest = dict[str, Any]
AE = entity()
DEPLOYMENT = stamped(of_kind("Deployment", AE).manifest)
SERVICE = stamped(of_kind("Service", AE).manifest)
POLICY = stamped(of_kind("NetworkPolicy", AE).manifest)
BUDGET = stamped(of_kind("PodDisruptionBudget", entity(listener={"replicas": 2})).manifest)
PLACED = stamped(of_kind("Deployment", entity(listener={"pod": {"nodeSelector": {"zone": "a"}}})).manifest)


def live(manifest: Manifest) -> Manifest:
    """The object as an API server gives it back: with defaults, times and fields of its own."""
    found = copy.deepcopy(manifest)
    found["metadata"] |= {"uid": "1", "resourceVersion": "7", "generation": 1, "creationTimestamp": "now"}
    if found["kind"] == "Deployment":
        pod = found["spec"]["template"]["spec"]
        found["spec"] |= {"progressDeadlineSeconds": 600}
        pod |= {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
        for container in pod["containers"]:
            container |= {"terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "IfNotPresent"}
            container["resources"]["requests"]["cpu"] = "0.05"
    if found["kind"] == "Service":
        found["spec"] |= {"clusterIP": "10.96.0.7", "sessionAffinity": "None", "ipFamilies": ["IPv4"]}
    found["status"] = {"observedGeneration": 1}
    return found


def found(wished: Manifest, lives: Manifest) -> list[str]:
    return list(differences(wished, lives))


@pytest.mark.parametrize("child", children(AE, INSTALLATION), ids=lambda child: child.kind)
def test_nothing_differs_in_what_was_applied(child: Any) -> None:
    wished = stamped(child.manifest)
    assert found(wished, live(wished)) == []


def changed(*path: str | int, to: object) -> Callable[[Manifest], None]:
    def change(manifest: Manifest) -> None:
        place: Any = manifest
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return change


POD = ("spec", "template", "spec")
RECEIVER = (*POD, "containers", 0)
IN_POD = "spec.template.spec"
LIMIT = ("resources", "limits", "memory")


def pod(manifest: Manifest) -> Any:
    return manifest["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("wished", "change", "path"),
    [
        (DEPLOYMENT, changed("spec", "replicas", to=3), "spec.replicas"),
        (DEPLOYMENT, changed(*RECEIVER, "image", to="x"), f"{IN_POD}.containers.receiver.image"),
        (DEPLOYMENT, changed(*POD, "enableServiceLinks", to=True), f"{IN_POD}.enableServiceLinks"),
        (DEPLOYMENT, changed(*RECEIVER, *LIMIT, to="1Gi"), f"{IN_POD}.containers.receiver.resources.limits.memory"),
        (SERVICE, changed("spec", "ports", 0, "targetPort", to=1), "spec.ports.11112/TCP.targetPort"),
        (SERVICE, changed("spec", "selector", to={}), "spec.selector.app.kubernetes.io/name"),
        (SERVICE, changed("metadata", "ownerReferences", to=[]), "metadata.ownerReferences.0b5e.apiVersion"),
        (SERVICE, changed("metadata", "labels", to=None), "metadata.labels.app.kubernetes.io/name"),
        (SERVICE, changed("metadata", "annotations", to={}), f"metadata.annotations.{WISHED}"),
        (SERVICE, changed("spec", "selector", "x", to="y"), "spec.selector.x"),
        (BUDGET, changed("spec", "selector", "matchLabels", "x", to="y"), "spec.selector.matchLabels.x"),
        (BUDGET, changed("spec", "selector", "matchExpressions", to=[{"key": "x"}]), "spec.selector.matchExpressions"),
        (PLACED, changed(*POD, "nodeSelector", "x", to="y"), f"{IN_POD}.nodeSelector.x"),
        (POLICY, changed("spec", "podSelector", "matchLabels", "x", to="y"), "spec.podSelector.matchLabels.x"),
        (POLICY, changed("spec", "ingress", 0, "ports", 0, "endPort", to=65535), "spec.ingress.0.ports.0.endPort"),
        (POLICY, changed("spec", "ingress", 0, "ports", to=[]), "spec.ingress.0.ports"),
        (POLICY, lambda m: m["spec"]["ingress"].append({}), "spec.ingress"),
        (POLICY, lambda m: m["spec"]["ingress"][0]["ports"].append({"port": 22}), "spec.ingress.0.ports"),
        (POLICY, lambda m: m["spec"]["ingress"][0]["from"].append({"podSelector": {}}), "spec.ingress.0.from"),
    ],
)  # fmt: skip
def test_drift_is_found(wished: Manifest, change: Callable[[Manifest], None], path: str) -> None:
    lives = live(wished)
    change(lives)
    assert found(wished, lives)[0] == path


@pytest.mark.parametrize(
    ("wished", "change"),
    [
        (DEPLOYMENT, changed("metadata", "annotations", "deployment.kubernetes.io/revision", to="2")),
        (DEPLOYMENT, changed("spec", "template", "metadata", "annotations", to={"restartedAt": "now"})),
        (DEPLOYMENT, lambda m: pod(m)["containers"].append({"name": "sidecar"})),
        (DEPLOYMENT, lambda m: pod(m)["containers"][0]["env"].insert(0, {"name": "HTTP_PROXY"})),
        (DEPLOYMENT, lambda m: pod(m)["containers"].reverse()),
        (SERVICE, changed("metadata", "labels", "team", to="radiology")),
        (SERVICE, lambda m: m["spec"]["ports"].append({"port": 9, "protocol": "TCP"})),
        (SERVICE, lambda m: m["metadata"]["ownerReferences"].insert(0, {"uid": "other"})),
    ],
)  # fmt: skip
def test_what_others_own_is_theirs(wished: Manifest, change: Callable[[Manifest], None]) -> None:
    lives = live(wished)
    change(lives)
    assert found(wished, lives) == []


@pytest.mark.parametrize(
    ("wished", "lives", "is_same"),
    [
        ({"limits": {"cpu": "1000m"}}, {"limits": {"cpu": "1"}}, True),
        ({"limits": {"cpu": 1}}, {"limits": {"cpu": "1"}}, True),
        ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1024Mi"}}, True),
        ({"limits": {"memory": "1G"}}, {"limits": {"memory": "1Gi"}}, False),
        ({"requests": {"storage": "20Gi"}}, {"requests": {"storage": None}}, False),
        ({"sizeLimit": "500M"}, {"sizeLimit": "0.5G"}, True),
        ({"name": "1000m"}, {"name": "1"}, False),
        ({"limits": {"cpu": "much"}}, {"limits": {"cpu": "more"}}, False),
        ({"flag": False}, {}, False),
        ({"annotations": {}}, {}, True),
        ({"list": []}, {"list": None}, True),
        ({"list": []}, {"list": ["x"]}, False),
        ({"args": ["a", "b"]}, {"args": ["b", "a"]}, False),
        ({"emptyDir": {}}, {"emptyDir": {"medium": "Memory"}}, True),
        ({"object": {"a": 1}}, {"object": "text"}, False),
        ({"ports": [{"port": 80}]}, {"ports": [{"port": 80, "protocol": "TCP"}]}, True),
        ({"ingress": [{"a": 1}]}, {"ingress": [{"a": 1, "protocol": "TCP"}]}, True),
        ({"ingress": [{"a": 1}]}, {"ingress": [{"a": 1, "protocol": "UDP"}]}, False),
        ({"ports": [{"port": 80, "protocol": "UDP"}]}, {"ports": [{"port": 80, "protocol": "TCP"}]}, False),
    ],
)
def test_what_counts_as_the_same(wished: Manifest, lives: Manifest, is_same: bool) -> None:
    assert (found(wished, lives) == []) is is_same


def test_what_is_no_longer_wished_shows_in_the_digest() -> None:
    with_annotation = stamped(
        of_kind("Service", entity(listener={"service_annotations": {"a": "b"}})).manifest
    )
    lives = live(with_annotation)
    assert found(with_annotation, lives) == []
    assert found(SERVICE, lives) == [f"metadata.annotations.{WISHED}"]


def test_the_digest_leaves_what_is_wished_as_it_is() -> None:
    child = of_kind("Service", entity(listener={"service_annotations": {"a": "b"}})).manifest
    before = copy.deepcopy(child)
    marked = stamped(child)
    assert child == before
    annotations = marked["metadata"]["annotations"]  # type: ignore[index,call-overload]
    assert annotations["a"] == "b"
    assert len(annotations[WISHED]) == 32
    assert stamped(child) == marked
