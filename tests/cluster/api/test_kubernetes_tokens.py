"""Tokens of a real API server: who they are by TokenReview, what they may by RBAC, what the API's own account needs."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from aegate_core.errors import IdentityUnavailable
from aegate_core.stores.cluster import ClusterClient, ClusterConnection, from_kubeconfig
from aegate_core.stores.cluster.connection import Token
from aegate_graphql_api.identity.kubernetes import KubernetesTokens, Lives
from aegate_graphql_api.permission import Permission
from tests.cluster.lab.lab import Lab

HOME = "aegate-sign-in"
AUDIENCE = "aegate.dev"
PARTITIONS = ["cardiology-x/default", "cardiology-x/research", "radiology-x/default"]

PEOPLE = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {HOME}}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: radiology-x}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: cardiology-x}}
---
# What the API itself may do, and nothing else.
apiVersion: v1
kind: ServiceAccount
metadata: {{name: aegate-api, namespace: {HOME}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: aegate-sign-in}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:auth-delegator"}}
subjects: [{{kind: ServiceAccount, name: aegate-api, namespace: {HOME}}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: aegate-test-queue}}
rules: [{{apiGroups: [aegate.dev], resources: [queues], verbs: [operate]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: aegate-test-editor}}
rules: [{{apiGroups: [aegate.dev], resources: [applicationentities], verbs: [get, create, patch, delete]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: aegate-test-half-an-editor}}
rules: [{{apiGroups: [aegate.dev], resources: [applicationentities], verbs: [get, create, patch]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: research, namespace: cardiology-x}}
rules: [{{apiGroups: [aegate.dev], resources: [queues], resourceNames: [research], verbs: [operate]}}]
---
{{}}
"""


def binding(person: str, role: str, *, namespace: str = "", kind: str = "ClusterRole") -> str:
    where = f", namespace: {namespace}" if namespace else ""
    return f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: {"RoleBinding" if namespace else "ClusterRoleBinding"}
metadata: {{name: {person}-{role}{where}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: {role}}}
subjects: [{{kind: ServiceAccount, name: {person}, namespace: {HOME}}}]
"""


BINDINGS = (
    binding("chief", "aegate-test-queue"),
    binding("chief", "aegate-test-editor"),
    binding("radiographer", "aegate-test-queue", namespace="radiology-x"),
    binding("researcher", "research", namespace="cardiology-x", kind="Role"),
    binding("engineer", "aegate-test-editor", namespace="cardiology-x"),
    binding("engineer", "aegate-test-half-an-editor", namespace="radiology-x"),
)
NAMES = ("chief", "radiographer", "researcher", "engineer", "visitor")


@pytest.fixture(scope="module")
def people(cheap_lab: Lab) -> Iterator[Lab]:
    accounts = [
        f"apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {HOME}}}\n"
        for name in NAMES
    ]
    cheap_lab.apply(PEOPLE.removesuffix("---\n{}\n") + "---\n" + "---\n".join([*accounts, *BINDINGS]))
    yield cheap_lab
    cheap_lab.kubectl("delete", "namespace", HOME, "radiology-x", "cardiology-x", "--wait=false")
    cheap_lab.kubectl("delete", "clusterrolebinding", "aegate-sign-in", "chief-aegate-test-queue")
    cheap_lab.kubectl("delete", "clusterrolebinding", "chief-aegate-test-editor")


@asynccontextmanager
async def signing_in(lab: Lab, lives: Lives | None = None) -> AsyncIterator[KubernetesTokens]:
    """Give the authenticator under the API's own account."""

    async def known() -> list[str]:
        return PARTITIONS

    admin = from_kubeconfig(lab.kubeconfig)
    own = Token(text=lab.kubectl("create", "token", "aegate-api", f"--namespace={HOME}").strip())
    connection = ClusterConnection(
        admin.server, HOME, ssl.create_default_context(cafile=str(lab.credentials.ca)), own
    )
    async with ClusterClient(connection, manager="aegate-api", timeout_s=5) as client:
        yield KubernetesTokens(client, known, AUDIENCE, lives or Lives())


def token(lab: Lab, name: str, audience: str = AUDIENCE) -> str:
    return lab.kubectl("create", "token", name, f"--namespace={HOME}", f"--audience={audience}").strip()


async def test_rbac_becomes_permissions_partitions_and_namespaces(people: Lab) -> None:
    queue, editor = Permission.DICOM_QUEUE, Permission.AE_EDITOR
    async with signing_in(people) as tokens:
        for name, permissions, partitions, namespaces in (
            ("chief", {queue, editor}, None, None),
            ("radiographer", {queue}, {"radiology-x/default"}, set()),
            ("researcher", {queue}, {"cardiology-x/research"}, set()),
            ("engineer", {editor}, set(), {"cardiology-x"}),
            ("visitor", set(), set(), set()),
        ):
            own = token(people, name)
            assert tokens.is_ours(own)
            caller = await tokens.authenticate(own, address="10.0.0.1")
            assert caller is not None, name
            assert (caller.name, caller.address) == (f"k8s:system:serviceaccount:{HOME}:{name}", "10.0.0.1")
            assert caller.permissions == permissions | {Permission.TOKEN}, name
            assert (caller.partitions, caller.namespaces) == (partitions, namespaces), name
            assert caller.expires_at is not None


async def test_tokens_that_are_not_for_us_are_refused(people: Lab) -> None:
    genuine = token(people, "chief")
    async with signing_in(people) as tokens:
        for name, wrong in (
            ("of another audience", token(people, "chief", "somebody-else")),
            ("for the API server", people.kubectl("create", "token", "chief", f"--namespace={HOME}").strip()),
            ("forged", genuine[:-8] + "AAAAAAAA"),
            ("without signature", genuine.rpartition(".")[0] + "."),
        ):
            assert await tokens.authenticate(wrong, address="") is None, name
        assert not tokens.is_ours("not-a-token")
        assert not tokens.is_ours("aegate_" + "x" * 43)


async def test_an_answer_counts_for_a_short_while(people: Lab) -> None:
    name = "system:serviceaccount:" + HOME + ":aegate-api"
    own = token(people, "radiographer")
    async with signing_in(people) as tokens:
        first = await tokens.authenticate(own, address="")
        before = len(reviews(people, name))
        assert await tokens.authenticate(own, address="") == first
        assert len(reviews(people, name)) == before
    async with signing_in(people, Lives(fresh_s=0, refused_s=0)) as eager:
        assert await eager.authenticate(own, address="") == first
        people.kubectl("delete", "rolebinding", "radiographer-aegate-test-queue", "--namespace=radiology-x")
        after = await eager.authenticate(own, address="")
        assert after is not None
        assert after.permissions == {Permission.TOKEN}


def reviews(lab: Lab, user: str) -> list[object]:
    return [r for r in lab.audit() if r.user == user and r.is_write]


async def test_while_the_api_server_is_silent_the_last_answer_goes_on(people: Lab) -> None:
    own, other = token(people, "chief"), token(people, "visitor")
    async with (
        signing_in(people, Lives(fresh_s=0)) as tokens,
        signing_in(people, Lives(fresh_s=0, stale_s=0)) as strict,
    ):
        for one in (tokens, strict):
            assert await one.authenticate(own, address="") is not None
            one.client._timeout = one.client._timeout.__class__(total=1)
        with people.pause("kube-apiserver"):
            caller = await tokens.authenticate(own, address="")
            assert caller is not None
            assert caller.permissions == frozenset(Permission)
            with pytest.raises(IdentityUnavailable):
                await tokens.authenticate(other, address="")
            with pytest.raises(IdentityUnavailable):
                await strict.authenticate(own, address="")
        assert await tokens.authenticate(other, address="") is not None
