"""Application Entities changed by the API on a real API server, under the API's own account and the admission policies.

The operator is at work: what was changed is seen in the list, by whichever API is asked.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from aegate_core.database import open_database
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterError
from aegate_core.resources.reference import ResourceRef
from aegate_core.services.manifests import Wish
from aegate_core.services.manifests.cluster import MANAGER, ClusterManifests
from aegate_core.stores.cluster import ClusterClient, ClusterConnection, from_kubeconfig
from aegate_core.stores.cluster.connection import Token
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY
from aegate_graphql_api.app import create_app
from aegate_graphql_api.authentication import LocalTokens
from aegate_graphql_api.rights import KINDS, VERBS
from aegate_graphql_api.tokens import create_token
from aegate_operator.projection import ProjectionTimes
from aegate_operator.resync import ResyncTimes
from tests.cluster.lab.lab import Lab
from tests.cluster.operator.conftest import operators_lab
from tests.cluster.operator.operating import TIMES, Ward, apply_all
from tests.cluster.validation.installing import our_policies
from tests.integration.api.editing import Editor
from tests.integration.waiting import eventually_async

SPACE, ACCOUNT = "aegate", "aegate-api"
"""As crds/policies/api.yaml names the API's account."""
USER = f"system:serviceaccount:{SPACE}:{ACCOUNT}"
DEADLINE_S = 120


@dataclass
class Clinic(Editor):
    """The API over a cluster."""

    ward: Ward
    manifests: ClusterManifests
    space: str

    async def create(self, title: str, more: str = "", spec: str = "") -> Any:
        spec = f'spec: {{title: "{title}", node: "10.1.2.3", port: 104 {spec}}}'
        arguments = f'input: {{namespace: "{self.space}", {spec} {more}}}'
        return await self.change("createApplicationEntity", arguments)

    async def live(self, name: str) -> Any:
        return await self.ward.admin.get(APPLICATION_ENTITY, ResourceKey(self.space, name))

    async def until_seen(self, name: str) -> dict[str, Any]:
        async def seen() -> dict[str, Any]:
            return await self.seen(name)

        return await eventually_async(seen, deadline_s=DEADLINE_S, what=f"{name} in the list")

    async def by_kubectl(self, name: str, manager: str = "kubectl-client-side-apply", **spec: Any) -> None:
        patch = {"spec": spec}
        self.ward.lab.kubectl(
            "patch",
            f"ae/{name}",
            f"--namespace={self.space}",
            "--type=merge",
            f"--field-manager={manager}",
            f"--patch={json.dumps(patch)}",
        )


@pytest.fixture(scope="module")
def operator_lab(say: Callable[[str], None]) -> Iterator[Lab]:
    """A lab for these tests alone: admission policies stay in it."""
    with operators_lab(0, say) as lab:
        yield lab


@pytest.fixture(scope="module")
def api_lab(operator_lab: Lab) -> Lab:
    """The lab with the API's account, its rights, and the admission policies."""
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": ACCOUNT}}
    account = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": SPACE}
    rules = [{"apiGroups": [k.group], "resources": [k.plural], "verbs": list(VERBS)} for k in KINDS]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ACCOUNT}
    apply_all(
        operator_lab,
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}},
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": ACCOUNT, "namespace": SPACE},
            },
            {**rbac, "kind": "ClusterRole", "rules": rules},
            {**rbac, "kind": "ClusterRoleBinding", "roleRef": role, "subjects": [account]},
            *our_policies(),
        ],
    )
    return operator_lab


def account_of(lab: Lab) -> ClusterConnection:
    server = from_kubeconfig(lab.kubeconfig).server
    token = lab.kubectl("create", "token", ACCOUNT, f"--namespace={SPACE}").strip()
    tls = ssl.create_default_context(cafile=str(lab.credentials.ca))
    return ClusterConnection(server, SPACE, tls, Token(text=token))


OpenClinic = Callable[[], AbstractAsyncContextManager[Clinic]]


@pytest.fixture
def open_clinic(api_lab: Lab, ward: Ward, radiology: str, tmp_path: Path) -> OpenClinic:
    """Start the operator with the times that people get, and an API beside it."""
    times = replace(TIMES, projection=ProjectionTimes(), resync=ResyncTimes(interval_s=3600, spread_s=0.1))
    tokens = tmp_path / "tokens.json"
    token = create_token(tokens, "nurse@example.org", ["AE_EDITOR"])

    @asynccontextmanager
    async def clinic() -> AsyncIterator[Clinic]:
        async with (
            ward.operating(times=times),
            open_database(f"sqlite://{ward.database}") as db,
            ClusterClient(account_of(api_lab), manager=MANAGER) as client,
        ):
            manifests = ClusterManifests(client)
            transport = httpx.ASGITransport(app=create_app(db, LocalTokens(tokens), manifests=manifests))
            async with httpx.AsyncClient(transport=transport, base_url="http://aegate") as http:
                await _policy_is_in_force(manifests, radiology)
                yield Clinic(http, token, ward, manifests, radiology)

    return clinic


async def _policy_is_in_force(manifests: ClusterManifests, space: str) -> None:
    ref = ResourceRef("ApplicationEntity", ResourceKey(space, "probe"))
    nobody = Wish(ref, " ", {"title": "PROBE", "node": "10.0.0.1", "port": 1}, dry_run=True)

    async def refuses() -> bool:
        try:
            await manifests.create(nobody)
        except Exception as error:
            return "requested-by" in str(error)
        return False

    await eventually_async(refuses, deadline_s=DEADLINE_S, what="the API's admission policy in force")


async def test_what_was_changed_before_stays_and_the_person_is_named(open_clinic: OpenClinic) -> None:
    async with open_clinic() as clinic:
        made = await clinic.create("CT_1", spec=', comment: "room 4"')
        assert made["__typename"] == "ApplicationEntityChanged", made
        assert made["applicationEntity"]["name"] == "ct-1"
        await clinic.until_seen("ct-1")

        changed = await clinic.update("ct-1", "port: 11112")
        again = await clinic.update("ct-1", "push: {priority: 70}")

        assert changed["applicationEntity"]["comment"] == "room 4"
        live = await clinic.live("ct-1")
        spec = live["spec"]
        assert (spec["comment"], spec["port"], spec["push"]["priority"]) == ("room 4", 11112, 70)
        assert live["metadata"]["annotations"] == {"aegate.dev/requested-by": "nurse@example.org"}
        assert {m["manager"] for m in live["metadata"]["managedFields"] if not m.get("subresource")} == {
            MANAGER
        }
        assert again["applicationEntity"]["generation"] == live["metadata"]["generation"]
        removed = await clinic.update("ct-1", "comment: null, push: null")
        assert {"comment", "push"} & (await clinic.live("ct-1"))["spec"].keys() == set(), removed


async def test_every_api_shows_a_change_within_a_second(open_clinic: OpenClinic) -> None:
    async with open_clinic() as clinic:
        await clinic.create("CT1")
        await clinic.until_seen("ct1")
        took = []
        for port in range(105, 110):
            answer = await clinic.update("ct1", f"port: {port}")
            version, began = answer["applicationEntity"]["version"], time.monotonic()

            async def is_there(version: str = version) -> bool:
                return bool((await clinic.seen("ct1"))["version"] == version)

            await eventually_async(is_there, deadline_s=DEADLINE_S)
            took.append(time.monotonic() - began)
        print(f"seconds until the list shows it: {sorted(round(t, 2) for t in took)}")
        assert sorted(took)[len(took) // 2] <= 1.0


async def test_two_that_create_one_of_a_name_do_not_both_get_it(open_clinic: OpenClinic) -> None:
    async with open_clinic() as clinic:
        answers = await asyncio.gather(*(clinic.create("CT1", spec=f', comment: "{n}"') for n in range(6)))
        kinds = sorted(answer["__typename"] for answer in answers)
        assert kinds == ["ApplicationEntityChanged"] + ["ResourceConflictProblem"] * 5
        (made,) = (a for a in answers if a["__typename"] == "ApplicationEntityChanged")
        assert (await clinic.live("ct1"))["spec"]["comment"] == made["applicationEntity"]["comment"]


async def test_what_the_api_server_refuses_comes_back_on_its_argument(open_clinic: OpenClinic) -> None:
    async with open_clinic() as clinic:
        await clinic.create("CT1")
        await clinic.until_seen("ct1")
        before = await clinic.live("ct1")
        for spec, field in (
            ("port: 70000", "input.spec.port"),
            ('title: "CT9"', "input.spec.title"),
            ('node: "0.0.0.0"', "input.spec.node"),
            ('push: {callingTitle: " x"}', "input.spec.push.callingTitle"),
            ('node: "ct1.example.org"', "input.spec.sourceRanges"),
            ("listener: {nodePort: 30001}", "input.spec.listener.nodePort"),
        ):
            answer = await clinic.update("ct1", spec)
            assert answer["__typename"] == "ValidationProblem", (spec, answer)
            assert [error["field"] for error in answer["fieldErrors"]] == [field], answer
            assert "70000" not in answer["message"]
        wrong = await clinic.change(
            "createApplicationEntity",
            f'input: {{namespace: "{clinic.space}", name: "other", spec: {{title: "MR1", node: "10.1.2.3", port: 1}}}}',
        )
        assert [error["field"] for error in wrong["fieldErrors"]] == ["input.name"], wrong
        nowhere = await clinic.change(
            "createApplicationEntity",
            'input: {namespace: "no-such-place", spec: {title: "MR1", node: "10.1.2.3", port: 1}}',
        )
        assert nowhere["__typename"] in ("ValidationProblem", "UnavailableProblem"), nowhere
        assert (await clinic.live("ct1"))["spec"] == before["spec"]


async def test_what_an_aepolicy_denies_is_refused_on_its_argument(open_clinic: OpenClinic) -> None:
    async with open_clinic() as clinic:
        policy = {
            "apiVersion": "aegate.dev/v1alpha1",
            "kind": "AEPolicy",
            "metadata": {"name": "narrow"},
            "spec": {"allowedCIDRs": ["10.0.0.0/8"]},
        }
        apply_all(clinic.ward.lab, [policy])
        try:
            arguments = f'input: {{namespace: "{clinic.space}", spec: {{title: "MR1", node: "192.168.1.1", port: 1}}}}'

            async def denied() -> Any:
                answer = await clinic.change("createApplicationEntity", arguments)
                if (
                    answer["__typename"] == "ApplicationEntityChanged"
                ):  # the policy is not known everywhere yet
                    id = answer["applicationEntity"]["id"]
                    await clinic.change("deleteApplicationEntity", "input: {id: $id}", id=("ID!", id))
                    return None
                return answer

            answer = await eventually_async(denied, deadline_s=DEADLINE_S)
            assert [error["field"] for error in answer["fieldErrors"]] == ["input.spec.node"], answer
            assert answer["message"].startswith("input.spec.node: spec.node must lie within 10.0.0.0/8")
        finally:
            clinic.ward.lab.kubectl("delete", "aepolicy", "narrow")


async def test_fields_of_kubectl_are_taken_over_only_when_asked(open_clinic: OpenClinic) -> None:
    async with open_clinic() as clinic:
        await clinic.ward.add_ae(
            clinic.space, "ct1", comment="by hand", sourceRanges=["10.1.0.0/16", "10.2.0.0/16"]
        )
        await clinic.until_seen("ct1")

        refused = await clinic.update("ct1", "port: 11112")
        expected = {"manager": "kubectl", "fields": ["spec.port"], "canTakeOver": True}
        assert {name: refused[name] for name in expected} == expected
        lists = await clinic.update("ct1", 'sourceRanges: ["10.2.0.0/16"]')
        assert (lists["manager"], lists["fields"]) == ("kubectl", ["spec.sourceRanges"]), lists
        gone = await clinic.update("ct1", "comment: null")
        assert (gone["manager"], gone["fields"]) == ("kubectl", ["spec.comment"]), gone
        assert (await clinic.live("ct1"))["spec"]["port"] == 104
        beside = await clinic.update("ct1", 'locationCode: "ER"')
        assert beside["__typename"] == "ApplicationEntityChanged", beside

        forced = await clinic.update(
            "ct1", 'port: 11112, comment: null, sourceRanges: ["10.2.0.0/16"]', "takeOver: true"
        )
        assert forced["__typename"] == "ApplicationEntityChanged", forced
        spec = (await clinic.live("ct1"))["spec"]
        assert (spec["port"], spec["sourceRanges"], spec["locationCode"]) == (11112, ["10.2.0.0/16"], "ER")
        assert "comment" not in spec
        later = await clinic.update("ct1", "port: 11113")
        assert later["applicationEntity"]["port"] == 11113, later

        id = (await clinic.seen("ct1"))["id"]
        kept = await clinic.change("deleteApplicationEntity", "input: {id: $id}", id=("ID!", id))
        assert (kept["__typename"], kept["canTakeOver"]) == ("ManagedElsewhereProblem", True)
        deleted = await clinic.change(
            "deleteApplicationEntity", "input: {id: $id, takeOver: true}", id=("ID!", id)
        )
        assert deleted["__typename"] == "ApplicationEntityChanged", deleted
        with pytest.raises(ClusterError, match="not found"):
            await clinic.live("ct1")


@pytest.mark.parametrize(
    ("metadata", "manager"),
    [
        ({"labels": {"aegate.dev/managed-in": "git"}}, "git"),
        (
            {"annotations": {"argocd.argoproj.io/tracking-id": "imaging:aegate.dev/ApplicationEntity:x/ct1"}},
            "Argo CD (imaging)",
        ),
        (
            {
                "labels": {
                    "kustomize.toolkit.fluxcd.io/name": "imaging",
                    "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
                }
            },
            "Flux (flux-system/imaging)",
        ),
        (
            {
                "labels": {"app.kubernetes.io/managed-by": "Helm"},
                "annotations": {
                    "meta.helm.sh/release-name": "devices",
                    "meta.helm.sh/release-namespace": "x",
                },
            },
            "Helm (x/devices)",
        ),
    ],
)
async def test_what_a_gitops_tool_keeps_is_left_to_it(
    open_clinic: OpenClinic, metadata: dict[str, Any], manager: str
) -> None:
    async with open_clinic() as clinic:
        spec = {"title": "CT1", "node": "10.1.2.3", "port": 104}
        named = {"name": "ct1", "namespace": clinic.space, **metadata}
        await clinic.ward.admin.apply(APPLICATION_ENTITY, {"metadata": named, "spec": spec})
        await clinic.until_seen("ct1")
        before = await clinic.live("ct1")

        changed = await clinic.update("ct1", "port: 11112", "takeOver: true")
        id = (await clinic.seen("ct1"))["id"]
        deleted = await clinic.change(
            "deleteApplicationEntity", "input: {id: $id, takeOver: true}", id=("ID!", id)
        )

        for refused in (changed, deleted):
            assert (refused["__typename"], refused["manager"], refused["canTakeOver"]) == (
                "ManagedElsewhereProblem",
                manager,
                False,
            )
        assert changed["fields"] == ["spec.port"]
        assert (await clinic.live("ct1"))["spec"] == before["spec"]


async def test_who_saw_an_older_version_gets_the_one_of_now(open_clinic: OpenClinic) -> None:
    async with open_clinic() as clinic:
        made = await clinic.create("CT1")
        await clinic.until_seen("ct1")
        guard = f'version: "{made["applicationEntity"]["version"]}"'
        assert (await clinic.update("ct1", "port: 105", guard))["__typename"] == "ApplicationEntityChanged"

        late = await clinic.update("ct1", 'comment: "mine"', guard)

        assert (late["__typename"], late["current"]["port"]) == ("ResourceConflictProblem", 105)
        assert "comment" not in (await clinic.live("ct1"))["spec"]
        guard = f'version: "{late["current"]["version"]}"'
        assert (await clinic.update("ct1", 'comment: "mine"', guard))["applicationEntity"]["port"] == 105


async def test_many_at_once_lose_nothing(open_clinic: OpenClinic) -> None:
    async with open_clinic() as clinic:
        await clinic.create("CT1")
        await clinic.until_seen("ct1")
        specs = ["port: 105", 'comment: "x"', "maxConnections: 9"]
        answers = await asyncio.gather(*(clinic.update("ct1", spec) for spec in specs))
        assert {answer["__typename"] for answer in answers} == {"ApplicationEntityChanged"}, answers
        spec = (await clinic.live("ct1"))["spec"]
        assert (spec["port"], spec["comment"], spec["maxConnections"]) == (105, "x", 9)


async def test_a_dry_run_changes_nothing_and_the_api_touches_nothing_else(open_clinic: OpenClinic) -> None:
    async with open_clinic() as clinic:
        await clinic.create("CT1")
        id = (await clinic.until_seen("ct1"))["id"]
        before = await clinic.live("ct1")
        tried = await clinic.change(
            "validateApplicationEntity", "input: {update: {id: $id, spec: {port: 105}}}", id=("ID!", id)
        )
        assert (tried["dryRun"], tried["applicationEntity"]["port"]) == (True, 105), tried
        bad = await clinic.change(
            "validateApplicationEntity",
            f'input: {{create: {{namespace: "{clinic.space}", spec: {{title: "X", node: "::", port: 1}}}}}}',
        )
        assert [e["field"] for e in bad["fieldErrors"]] == ["input.create.spec.node"], bad
        assert (await clinic.live("ct1"))["spec"] == before["spec"]
        used = {(r.group, r.resource, r.verb) for r in clinic.ward.lab.audit() if r.user == USER}
        assert {(group, resource) for group, resource, _ in used} == {("aegate.dev", "applicationentities")}
        assert {verb for *_, verb in used} <= set(VERBS)
