"""The chart on a real API server: what it takes, what stays when a release goes, and who has it then."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.cluster.chart.rendering import CHART, VALUES, sets, with_values
from tests.integration.waiting import eventually

OTHERS_KINDS = sets(
    "monitoring.serviceMonitor.enabled=false",
    "monitoring.prometheusRule.enabled=false",
    "api.httpRoute.enabled=false",
)
"""Of operators that a bare cluster does not have."""
RESTRICTED = "pod-security.kubernetes.io/{}=restricted"
CRD = "applicationentities.aegate.dev"


class Cluster(Protocol):
    """What these tests need of a lab."""

    @property
    def environ(self) -> dict[str, str]: ...

    def kubectl(self, *arguments: str) -> str: ...


Helm = Callable[..., str]


@pytest.fixture(scope="module")
def helm_on(helm: Path, cluster: Cluster) -> Helm:
    """Run Helm on the cluster; what it says on standard error is a warning."""

    def run(*arguments: str | Path) -> str:
        # Without HOME it keeps what it learns of the cluster in the working directory, which is the tree.
        environ = {**os.environ, **cluster.environ}
        done = subprocess.run([helm, *arguments], capture_output=True, text=True, timeout=300, env=environ)
        assert (done.returncode, [w for w in done.stderr.splitlines() if "arning" in w]) == (0, []), (
            done.stderr
        )
        return done.stdout

    return run


def namespace(cluster: Cluster, name: str) -> None:
    """Make a namespace that admits restricted pods alone, and warns of what would make others."""
    cluster.kubectl("create", "namespace", name)
    for mode in ("enforce", "warn"):
        cluster.kubectl("label", "namespace", name, RESTRICTED.format(mode))


def owner(cluster: Cluster, *what: str) -> tuple[str, str]:
    annotations = json.loads(cluster.kubectl("get", *what, "--output", "json"))["metadata"]["annotations"]
    return annotations["meta.helm.sh/release-name"], annotations["meta.helm.sh/release-namespace"]


def uids(cluster: Cluster, space: str) -> dict[str, Any]:
    found = json.loads(cluster.kubectl("get", "deployments,jobs,pvc", "-n", space, "--output", "json"))[
        "items"
    ]
    return {f"{o['kind']}/{o['metadata']['name']}": o["metadata"]["uid"] for o in found}


@pytest.mark.parametrize("name", VALUES)
def test_every_object_is_taken_without_a_warning_and_stays_the_same_by_an_upgrade(
    cluster: Cluster, helm_on: Helm, name: str
) -> None:
    space = f"chart-{name}"
    namespace(cluster, space)
    for watched in ("radiology", "cardiology") if name == "namespaced" else ():
        namespace(cluster, watched)
    arguments = (name, CHART, "--namespace", space, *with_values(name), *OTHERS_KINDS)
    helm_on("install", *arguments)
    before = uids(cluster, space)
    helm_on("upgrade", *arguments)
    assert uids(cluster, space) == before
    helm_on("uninstall", name, "--namespace", space)


def test_what_a_release_leaves_another_one_uses_and_takes_over_when_asked_to(
    cluster: Cluster, helm_on: Helm
) -> None:
    namespace(cluster, "left")
    values = ("--namespace", "left", *with_values("least"))
    helm_on("install", "first", CHART, *values, "--take-ownership", *sets("adopt=true"))
    claim = cluster.kubectl(
        "get", "pvc", "aegate-blobs", "-n", "left", "--output", "jsonpath={.metadata.uid}"
    )

    said = helm_on("uninstall", "first", "--namespace", "left")
    assert f"[CustomResourceDefinition] {CRD}" in said
    assert "[PersistentVolumeClaim] aegate-blobs" in said

    said = helm_on("install", "second", CHART, *values)
    assert f"CRD {CRD} was made by another release, or by hand: it stays as it is" in said
    assert "PersistentVolumeClaim aegate-blobs was made by another release" in said
    assert owner(cluster, "crd", CRD) == ("first", "left")

    said = helm_on("upgrade", "second", CHART, *values, "--take-ownership", *sets("adopt=true"))
    assert "another release" not in said
    assert (
        owner(cluster, "crd", CRD)
        == owner(cluster, "pvc", "aegate-blobs", "-n", "left")
        == ("second", "left")
    )
    assert claim == cluster.kubectl(
        "get", "pvc", "aegate-blobs", "-n", "left", "--output", "jsonpath={.metadata.uid}"
    )
    helm_on("uninstall", "second", "--namespace", "left")


READING, CHANGING = {"get", "list", "watch"}, {"create", "update", "patch", "delete", "deletecollection"}
OURS = ("applicationentities", "imageroutes", "patientpartitions")
PEOPLE: dict[str, dict[str, set[str]]] = {
    "view": dict.fromkeys(OURS, READING),
    "edit": dict.fromkeys(OURS, READING | CHANGING),
    "admin": {**dict.fromkeys(OURS, READING | CHANGING), "queues": {"operate"}},
}
"""What each of the cluster's roles for people may do with what is ours."""


def allowed(cluster: Cluster, who: str, space: str) -> dict[str, set[str]]:
    """Return the verbs that somebody has there, by our resources, as ``kubectl auth can-i`` lists them."""
    found: dict[str, set[str]] = {}
    listed = cluster.kubectl("auth", "can-i", "--list", "--no-headers", f"--as={who}", "--namespace", space)
    for line in listed.splitlines():
        resource, _, group = line.partition(" ")[0].partition(".")
        if group == "aegate.dev":
            found.setdefault(resource, set()).update(line.rpartition("[")[2].strip("] ").split())
    return found


def test_whoever_may_view_edit_or_administer_a_namespace_may_do_so_with_its_entities(
    cluster: Cluster, helm_on: Helm
) -> None:
    for space in ("people", "people-elsewhere"):
        namespace(cluster, space)
    for role in PEOPLE:
        words = (f"--clusterrole={role}", f"--user={role}er", "--namespace=people")
        cluster.kubectl("create", "rolebinding", role, *words)
    assert all(allowed(cluster, f"{role}er", "people") == {} for role in PEOPLE)
    helm_on("install", "people", CHART, "--namespace", "people", *with_values("least"))
    for role, verbs in PEOPLE.items():
        eventually(
            lambda: allowed(cluster, f"{role}er", "people") == verbs,  # noqa: B023
            deadline_s=60,
            what=lambda: f"{role}: {allowed(cluster, f'{role}er', 'people')}",  # noqa: B023
        )
        assert allowed(cluster, f"{role}er", "people-elsewhere") == {}
    helm_on("uninstall", "people", "--namespace", "people")


SMALL = (*with_values("least"), *sets("rbac.aggregate=false", "crds.install=false"))
"""A release without objects of the cluster; it shares the claim of the images with whoever made it."""


def everything(cluster: Cluster, release: str, *spaces: str) -> dict[str, str]:
    """Return the uid of every object of a release, by namespace, kind and name."""
    kinds = "deployments,jobs,cronjobs,configmaps,serviceaccounts,services,networkpolicies,roles,rolebindings"
    wanted = ("--selector", f"app.kubernetes.io/instance={release}", "--output", "json")
    found = [
        one
        for space in spaces
        for one in json.loads(cluster.kubectl("get", kinds, "--namespace", space, *wanted))["items"]
    ]
    return {
        f"{o['metadata']['namespace']}/{o['kind']}/{o['metadata']['name']}": o["metadata"]["uid"]
        for o in found
    }


def test_two_releases_in_one_namespace_share_nothing_but_the_images_claim(
    cluster: Cluster, helm_on: Helm
) -> None:
    namespace(cluster, "both")
    for watched in ("one-watched", "two-watched"):
        namespace(cluster, watched)
    spaces = ("both", "one-watched", "two-watched")
    helm_on("install", "one", CHART, "-n", "both", *SMALL, *sets("watchNamespaces={one-watched}"))
    first = everything(cluster, "one", *spaces)
    helm_on("install", "two", CHART, "-n", "both", *SMALL, *sets("watchNamespaces={two-watched}"))
    second = everything(cluster, "two", *spaces)

    assert everything(cluster, "one", *spaces) == first
    assert len(first) == len(second) > 10
    assert not first.items() & second.items()
    assert {n for n in first if not n.startswith("both/")} == {
        f"one-watched/{kind}/one-aegate.both.operator" for kind in ("Role", "RoleBinding")
    }

    helm_on("uninstall", "one", "--namespace", "both")
    assert everything(cluster, "one", *spaces) == {}
    assert everything(cluster, "two", *spaces) == second
    helm_on("uninstall", "two", "--namespace", "both")


def test_two_releases_that_look_after_the_same_entities_are_refused_in_words(
    cluster: Cluster, helm_on: Helm, helm: Path
) -> None:
    def refused(release: str, space: str, *values: str) -> str:
        words = ("--namespace", space, *SMALL, *values)
        command: list[str | Path] = [helm, "install", release, CHART, *words]
        environ = {**os.environ, **cluster.environ}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environ)
        assert done.returncode != 0, "it was taken"
        assert everything(cluster, release, space) == {}
        return str(done.stderr)

    for space in ("here", "there", "shared", "other"):
        namespace(cluster, space)
    of_two = sets("watchNamespaces={shared,other}")
    helm_on("install", "first", CHART, "--namespace", "here", *SMALL, *of_two)
    for space in ("here", "there"):
        said = refused("second", space, *sets("watchNamespaces={shared}"))
        assert (
            "got shared, and first has shared (Role first-aegate.here.operator): two operators undo each other's "
            "work; leave it out, or upgrade that release"
        ) in said
        assert "got none, which means all, and first has shared (Role" in refused("second", space)
    helm_on("upgrade", "first", CHART, "--namespace", "here", *SMALL, *of_two)

    helm_on("uninstall", "first", "--namespace", "here")
    helm_on("install", "all", CHART, "--namespace", "here", *SMALL)
    for space, role in (
        ("here", "ServiceAccount all-aegate-operator"),
        ("there", "ClusterRole all-aegate.here.operator"),
    ):
        aggregate = sets(f"rbac.aggregate={str(space == 'there').lower()}")
        said = refused("second", space, *sets("watchNamespaces={shared}"), *aggregate)
        assert f"got shared, and all has every namespace ({role})" in said
    assert "and all has every namespace (ClusterRole all-aegate.here.operator)" in refused("second", "there")
    helm_on("uninstall", "all", "--namespace", "here")
