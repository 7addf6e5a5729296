"""The admission policy of the API's service account: git stays the source, and a change names who asked for it."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from tests.cluster.validation.api_server import Answer, ApiServer, address
from tests.cluster.validation.installing import (
    READY_S,
    OldObjects,
    install_policies,
    make_namespace,
    put,
    remove_policies,
)
from tests.crd_cases.table import API_VERSION, Manifest
from tests.integration.waiting import eventually

NAMESPACE = "policies-api"
API_USER = "system:serviceaccount:aegate:aegate-api"
OTHER_USER = "system:serviceaccount:aegate:aegate-operator"
IN_GIT = {"labels": {"aegate.dev/managed-in": "git"}}
REQUESTED = {"annotations": {"aegate.dev/requested-by": "nurse@example.org"}}
SPECS: dict[str, dict[str, object]] = {
    "ApplicationEntity": {"title": "CT1", "node": "10.1.2.3", "port": 104},
    "ImageRoute": {"to": ["pacs"]},
    "PatientPartition": {},
}
CHANGE = {"metadata": {"annotations": {"example.org/note": "changed"}}}


def resource(kind: str, **metadata: object) -> Manifest:
    """A resource of these tests' namespace."""
    whole = {"name": "ct1", "namespace": NAMESPACE, **metadata}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": whole, "spec": SPECS[kind]}


@pytest.fixture(scope="module")
def policies(api: ApiServer, stored: OldObjects) -> Iterator[ApiServer]:
    """The admission policies in force, and two service accounts that RBAC lets do everything with our kinds."""
    make_namespace(api, NAMESPACE)
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    role: Manifest = {
        "metadata": {"name": "policies-api"},
        "rules": [{"apiGroups": ["aegate.dev"], "resources": ["*"], "verbs": ["*"]}],
    }
    group = "rbac.authorization.k8s.io"
    binding: Manifest = {
        "metadata": {"name": "policies-api"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "policies-api"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user} for user in (API_USER, OTHER_USER)],
    }
    put(api, f"{rbac}/clusterroles", role)
    put(api, f"{rbac}/clusterrolebindings", binding)
    remove_policies(api)
    install_policies(api)
    probe = resource("PatientPartition")
    eventually(
        lambda: "aegate-api" in api.create(probe, user=API_USER, dryRun="All").message,
        deadline_s=READY_S,
        what="the policy in force",
    )
    yield api
    remove_policies(api)
    for place in ("clusterrolebindings", "clusterroles"):
        api.request("DELETE", f"{rbac}/{place}/policies-api")


@pytest.fixture(params=SPECS)
def kind(request: pytest.FixtureRequest, policies: ApiServer) -> Iterator[str]:
    """Each kind in turn; nothing of it is there."""
    yield request.param
    policies.delete(resource(request.param))


def assert_denied(answer: Answer, *words: str) -> None:
    """The answer denies, and says all of this."""
    assert answer.status == http.client.FORBIDDEN, answer.body
    assert [w for w in words if w not in answer.message] == [], answer.message


def test_a_change_names_who_asked_for_it(policies: ApiServer, kind: str) -> None:
    words = (
        f"{kind} {NAMESPACE}/ct1 must name who asked for the change in the annotation aegate.dev/requested-by",
        "got nothing: set it to the user of the request",
    )
    assert_denied(policies.create(resource(kind), user=API_USER), *words)
    blank = {"annotations": {"aegate.dev/requested-by": "  "}}
    assert_denied(policies.create(resource(kind, **blank), user=API_USER), *words)
    assert policies.get(resource(kind)).status == http.client.NOT_FOUND
    assert policies.create(resource(kind, **REQUESTED), user=API_USER).is_accepted
    assert policies.merge(resource(kind), CHANGE, user=API_USER).is_accepted
    forgotten = {"metadata": {"annotations": {"aegate.dev/requested-by": None}}}
    before = policies.get(resource(kind)).body
    assert_denied(policies.merge(resource(kind), forgotten, user=API_USER), *words)
    assert policies.get(resource(kind)).body == before
    assert policies.request("DELETE", address(resource(kind)), user=API_USER).is_accepted


def test_what_is_managed_in_git_is_changed_there(policies: ApiServer, kind: str) -> None:
    before = policies.create(resource(kind, **IN_GIT, **REQUESTED)).body
    said = f"{kind} {NAMESPACE}/ct1 must be changed in git"
    assert_denied(
        policies.merge(resource(kind), CHANGE, user=API_USER),
        said,
        "got UPDATE by the API",
        "change the manifest there",
    )
    unlabelled = {"metadata": {"labels": {"aegate.dev/managed-in": None}}}
    assert_denied(policies.merge(resource(kind), unlabelled, user=API_USER), said)
    deletion = policies.request("DELETE", address(resource(kind)), user=API_USER)
    assert_denied(deletion, said, "got DELETE by the API")
    assert policies.get(resource(kind)).body == before


def test_others_and_other_labels_are_let_pass(policies: ApiServer, kind: str) -> None:
    elsewhere = {"labels": {"aegate.dev/managed-in": "api"}}
    assert policies.create(resource(kind, **elsewhere, **REQUESTED), user=API_USER).is_accepted
    assert policies.merge(resource(kind), CHANGE, user=API_USER).is_accepted
    policies.delete(resource(kind))
    assert policies.create(resource(kind, **IN_GIT), user=OTHER_USER).is_accepted
    assert policies.merge(resource(kind), CHANGE, user=OTHER_USER).is_accepted
    assert policies.request("DELETE", address(resource(kind)), user=OTHER_USER).is_accepted
