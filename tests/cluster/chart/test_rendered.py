"""What the chart renders: as it was, and by rules that hold whatever the values are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from aegate_core.decisions.listener_config import ListenerConfig
from aegate_graphql_api import rights
from aegate_operator.installation import ImageBucket, Installation, Pool, parse_installation
from aegate_operator.pools import share_in
from aegate_operator.rights import RULES
from tests.cluster.chart.rendering import (
    CHART,
    GIVEN,
    VALUES,
    Object,
    objects,
    pods,
    render,
    sets,
    snapshot,
    with_values,
)
from tests.cluster.chart.snapshots import path_of

OF_THE_CLUSTER = {
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
NEEDS_THE_API = {"Deployment aegate-operator", "Deployment aegate-api", "Pod aegate-test"}
DATABASE = "StatefulSet aegate-trial-database"


@pytest.mark.parametrize("name", VALUES)
def test_what_is_rendered_is_as_it_was(helm: Path, name: str) -> None:
    assert snapshot(render(helm, *with_values(name))) == path_of(name).read_text(), (
        "python -m tests.cluster.chart.snapshots writes it anew"
    )


def containers(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


@pytest.mark.parametrize("name", VALUES)
def test_every_pod_is_as_pod_security_restricted_asks(helm: Path, name: str) -> None:
    for whose, pod in pods(render(helm, *with_values(name))):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, whose
        assert security["runAsUser"] > 0, whose
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, whose
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), whose
        kinds = {key for volume in pod.get("volumes", ()) for key in volume if key != "name"}
        assert kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected"}, whose
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, whose
            assert not any("hostPort" in port for port in container.get("ports", ())), whose


@pytest.mark.parametrize("name", VALUES)
def test_every_pod_of_ours_has_limits_and_a_token_only_where_it_needs_one(helm: Path, name: str) -> None:
    for whose, pod in pods(render(helm, *with_values(name))):
        assert (pod.get("automountServiceAccountToken") is False) == (whose not in NEEDS_THE_API), whose
        for container in containers(pod):
            if container["name"] != "sign-in":
                assert container["resources"]["requests"].keys() == {"cpu", "memory"}, whose
                assert container["resources"]["limits"].keys() == {"memory"}, whose


@pytest.mark.parametrize("name", VALUES)
def test_every_pod_waits_for_the_schema_with_its_own_role(helm: Path, name: str) -> None:
    waiting = {}
    for whose, pod in pods(render(helm, *with_values(name))):
        first = pod.get("initContainers", [{}])[0]
        if first.get("name") == "wait-for-schema":
            waiting[whose] = first["env"][0]["valueFrom"]["secretKeyRef"]["name"]
    expected = {"Deployment aegate-worker": "aegate-database-worker"}
    if name in ("everything", "sign-in"):
        expected["Deployment aegate-api"] = "aegate-database-api"
    assert waiting == expected


@pytest.mark.parametrize("name", VALUES)
def test_roles_name_exact_verbs_and_no_secret(helm: Path, name: str) -> None:
    roles = [o for o in objects(render(helm, *with_values(name))) if o["kind"] in ("Role", "ClusterRole")]
    assert roles
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
            assert not {"secrets", "pods/exec", "serviceaccounts/token"} & set(rule["resources"])


def flat(rules: Iterable[tuple[str, str, Iterable[str]]]) -> set[tuple[str, str, str]]:
    return {(group, resource, verb) for group, resource, verbs in rules for verb in verbs}


@pytest.mark.parametrize("name", VALUES)
def test_the_operator_may_do_just_what_it_does(helm: Path, name: str) -> None:
    roles = [
        o
        for o in objects(render(helm, *with_values(name)))
        if o["kind"] in ("Role", "ClusterRole") and o["metadata"]["name"].endswith(".operator")
    ]
    assert len(roles) == (2 if name == "namespaced" else 1)
    for role in roles:
        granted = flat(
            (group, resource, rule["verbs"])
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        )
        assert granted == flat((rule.group, rule.resource, rule.verbs) for rule in RULES)


@pytest.mark.parametrize("name", VALUES)
def test_the_api_may_change_what_people_declare_and_nothing_else(helm: Path, name: str) -> None:
    rendered = objects(render(helm, *with_values(name)))
    roles = [
        o for o in rendered if o["kind"] in ("Role", "ClusterRole") and o["metadata"]["name"].endswith(".api")
    ]
    has_api = any(o["kind"] == "Deployment" and o["metadata"]["name"] == "aegate-api" for o in rendered)
    assert len(roles) == (0 if not has_api else 2 if name == "namespaced" else 1)
    wished = flat((kind.group, kind.plural, rights.VERBS) for kind in rights.KINDS)
    for role in roles:
        (rule,) = role["rules"]
        assert flat((rule["apiGroups"][0], r, rule["verbs"]) for r in rule["resources"]) == wished


def test_policies_carry_the_release_and_know_the_apis_account(helm: Path) -> None:
    rendered = render(helm, *with_values("everything"), release="one", namespace="pacs")
    policies = [o for o in objects(rendered) if o["kind"].startswith("ValidatingAdmissionPolicy")]
    assert {o["metadata"]["name"] for o in policies} == {"one-aegate.pacs.aepolicy", "one-aegate.pacs.api"}
    bound = {o["spec"]["policyName"] for o in policies if o["kind"].endswith("Binding")}
    assert bound == {o["metadata"]["name"] for o in policies if not o["kind"].endswith("Binding")}
    assert "'system:serviceaccount:pacs:one-aegate-api'" in rendered
    assert "serviceaccount:aegate:" not in rendered


def test_whoever_has_no_rights_to_the_cluster_can_install_for_namespaces(helm: Path) -> None:
    rendered = objects(render(helm, *with_values("namespaced")))
    assert not {o["kind"] for o in rendered} & {*OF_THE_CLUSTER, "CustomResourceDefinition"}
    roles = [o for o in rendered if o["kind"] == "Role" and o["metadata"]["name"].endswith(".operator")]
    assert [r["metadata"]["namespace"] for r in roles] == ["radiology", "cardiology"]


def names(helm: Path, *arguments: str, release: str, namespace: str) -> set[tuple[str, str, str]]:
    return {
        (o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"])
        for o in objects(render(helm, *arguments, release=release, namespace=namespace))
    }


@pytest.mark.parametrize(
    "values", [("least", "least"), ("namespaced", "namespaced"), ("everything", "least")]
)
def test_two_releases_side_by_side_share_nothing_but_the_crds(helm: Path, values: tuple[str, str]) -> None:
    spaces = sets("watchNamespaces={one,b}"), sets("watchNamespaces={two,c}")
    one = names(helm, *with_values(values[0]), *spaces[0], release="aegate", namespace="one")
    two = names(helm, *with_values(values[1]), *spaces[1], release="aegate", namespace="two")
    assert {kind for kind, _, _ in one & two} <= {"CustomResourceDefinition"}


def test_names_stay_within_their_limits(helm: Path) -> None:
    release, namespace = "r" * 53, "n" * 63
    for one in objects(render(helm, *with_values("everything"), release=release, namespace=namespace)):
        limit = (
            52
            if one["kind"] == "CronJob"
            else 63
            if one["kind"] not in {*OF_THE_CLUSTER, "Role", "RoleBinding"}
            else 253
        )
        if one["kind"] != "CustomResourceDefinition":
            assert len(one["metadata"]["name"]) <= limit, one["metadata"]["name"]


def test_crds_and_images_stay_when_the_release_goes(helm: Path) -> None:
    kept = {
        o["metadata"]["name"]
        for o in objects(render(helm, *with_values("least")))
        if o["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    }
    crds = {
        o["metadata"]["name"]
        for o in objects(render(helm, *with_values("least")))
        if "Definition" in o["kind"]
    }
    assert kept == crds | {"aegate-blobs"}
    assert {"applicationentities.aegate.dev", "imageroutes.aegate.dev"} < crds


def told_to_operator(rendered: Iterable[Object]) -> Installation:
    """What the operator reads."""
    maps = [o["data"] for o in rendered if o["kind"] == "ConfigMap"]
    [told] = [data["installation.json"] for data in maps if "installation.json" in data]
    return parse_installation(json.loads(told))


@pytest.mark.parametrize("name", VALUES)
def test_the_operator_understands_what_it_is_told(helm: Path, name: str) -> None:
    installation = told_to_operator(objects(render(helm, *with_values(name))))
    assert (installation.namespace, installation.database_secret, installation.blob_claim) == (
        "pacs",
        "aegate-database",
        "aegate-blobs",
    )
    if name == "everything":
        assert (str(installation.title), installation.listener.replicas, installation.listener.host) == (
            "HOSPITAL",
            2,
            "::",
        )
        assert (installation.image_pull_secrets, len(installation.metrics_from)) == (("registry",), 1)
        host = "aegate-pool-{}.pacs.svc:{}".format
        outside = Pool("outside", host("outside", 2762), shares=16, grace_s=900, waits_for_index=True)
        assert dict(installation.pools) == {
            "default": Pool("default", host("default", 11112), service="aegate-pool-default"),
            "outside": replace(outside, service="aegate-pool-outside"),
        }
    if name == "namespaced":
        assert (installation.image, installation.watched_namespaces) == (
            "localhost/aegate:1",
            ("radiology", "cardiology"),
        )


def test_the_operator_knows_where_a_pool_within_the_cluster_is_reached(helm: Path) -> None:
    told = told_to_operator(objects(render(helm, *sets(*GIVEN, "pools.a.port=104"))))
    assert told.pools == {"a": Pool("a", "aegate-pool-a.pacs.svc:104")}


def test_a_pool_is_told_what_a_listener_reads_and_mounts_all_shares_that_there_can_be(helm: Path) -> None:
    rendered = objects(render(helm, *with_values("everything")))
    [config] = [
        o for o in rendered if o["kind"] == "ConfigMap" and o["metadata"]["name"] == "aegate-pool-outside"
    ]
    told = ListenerConfig.from_json(config["data"]["listener.json"])
    assert (told.name, told.port, told.host, told.grace_s) == ("pool-outside", 11112, "::", 900)
    assert told.tls is not None and told.tls.client_auth == "Request"
    [pool] = [
        pod for whose, pod in pods(render(helm, *with_values("everything"))) if whose.endswith("pool-outside")
    ]
    assert pool["terminationGracePeriodSeconds"] == 5 + 900 + 25
    volumes = {v["name"]: v for v in pool["volumes"]}
    shares = [s["configMap"]["name"] for s in volumes["entities"]["projected"]["sources"]]
    assert shares == [f"aegate-entities-outside-{i}" for i in range(64)]
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["properties"]["pools"]["additionalProperties"]["properties"]["shares"]["maximum"] == 64
    assert share_in(shares[-1], Pool("outside", "")) == 63
    assert volumes["spool"]["emptyDir"] == {"sizeLimit": "5Gi"}
    assert (
        volumes["tls"]["secret"]["secretName"] == volumes["tls-ca"]["secret"]["secretName"] == "outside-tls"
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), "fast"),
        (("pools.a.spool.storageClassName=slow",), "slow"),
        (("pools.a.spool.storageClassName=",), None),
    ],
)
def test_a_pool_may_ask_for_the_clusters_own_storage_class(
    helm: Path, values: tuple[str, ...], expected: str | None
) -> None:
    given = ("listener.spool.storageClassName=fast", "pools.a.replicas=2", *values)
    [claim] = [
        o
        for o in objects(render(helm, *sets(*GIVEN, *given)))
        if o["metadata"]["name"] == "aegate-pool-a-spool"
    ]
    assert claim["spec"].get("storageClassName") == expected


def job(helm: Path, *values: str) -> str:
    [name] = [
        o["metadata"]["name"] for o in objects(render(helm, *sets(*GIVEN, *values))) if o["kind"] == "Job"
    ]
    return str(name)


def test_another_migration_is_another_job(helm: Path) -> None:
    first = job(helm)
    assert re.fullmatch(r"aegate-schema-\d{4}-[0-9a-f]{8}", first)
    assert job(helm, "worker.replicas=5") == first
    others = [
        job(helm, "image.tag=other"),
        job(helm, "database.roles.api=other"),
        job(helm, "migration.resources.limits.memory=1Gi"),
    ]
    assert len({first, *others}) == 4


def test_the_operator_starts_anew_when_what_it_is_told_changes_and_workers_do_not(helm: Path) -> None:
    def templates(*values: str) -> dict[str, object]:
        rendered = objects(render(helm, *sets(*GIVEN, *values)))
        return {o["metadata"]["name"]: o["spec"]["template"] for o in rendered if o["kind"] == "Deployment"}

    before, after = templates(), templates("listener.graceSeconds=600")
    assert before["aegate-operator"] != after["aegate-operator"]
    assert before["aegate-worker"] == after["aegate-worker"]


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ((), "docs/operations/runbooks"),
        (
            ("monitoring.prometheusRule.runbooks=https://git.example.org/runbooks/",),
            "https://git.example.org/runbooks",
        ),
    ],
)
def test_every_alert_leads_to_its_page(helm: Path, given: tuple[str, ...], base: str) -> None:
    rendered = objects(render(helm, *sets(*GIVEN, "monitoring.prometheusRule.enabled=true", *given)))
    (made,) = (one for one in rendered if one["kind"] == "PrometheusRule")
    rules = [rule for group in made["spec"]["groups"] for rule in group["rules"]]
    assert len(rules) == 17
    for rule in rules:
        assert rule["annotations"]["runbook_url"] == f"{base}/{rule['alert']}.md"
        assert rule["annotations"].keys() == {"summary", "action", "runbook_url"}


def test_with_a_bucket_no_pod_mounts_a_claim_of_images_and_all_that_need_it_have_its_secret(
    helm: Path,
) -> None:
    rendered = render(helm, *with_values("bucket"))
    assert "aegate-blobs" not in {o["metadata"]["name"] for o in objects(rendered)}
    with_secret, told = set(), set()
    for whose, pod in pods(rendered):
        volumes = {v["name"]: v for v in pod["volumes"]} if "volumes" in pod else {}
        assert "aegate-blobs" not in json.dumps(list(volumes.values()))
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            names = {v["name"] for v in container.get("env", ())}
            if {"AEGATE_S3_BUCKET", "AEGATE_S3_ACCESS_KEY_ID"} <= names:
                told.add((whose, container["name"]))
            if any(m["mountPath"] == "/etc/aegate/bucket" for m in container.get("volumeMounts", ())):
                with_secret.add((whose, container["name"]))
                assert volumes["blobs"]["secret"]["secretName"] == "images"
    assert (
        with_secret
        == told
        == {
            ("Deployment aegate-worker", "worker"),
            ("CronJob aegate-retention", "retention"),
            ("Deployment aegate-pool-default", "indexer"),
        }
    )


def test_the_workers_client_certificate_is_mounted_by_them_alone(helm: Path) -> None:
    """With every part there is, and the one Secret nobody else has a reason to read."""
    rendered = render(helm, *with_values("everything"), *sets("worker.tlsSecret=our-client"))
    having = set()
    for whose, pod in pods(rendered):
        volumes = [v for v in pod.get("volumes", ()) if "our-client" in json.dumps(v)]
        names = {v["name"] for v in volumes}
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            mounted = [m for m in container.get("volumeMounts", ()) if m["name"] in names]
            assert all(m["readOnly"] for m in mounted)
            if mounted or "our-client" in json.dumps(container):
                having.add((whose, container["name"]))
        assert not volumes or whose == "Deployment aegate-worker"
    assert having == {("Deployment aegate-worker", "worker")}


EXAMPLES = CHART.parents[1] / "docs/operations/examples"


@pytest.mark.parametrize(
    ("file", "kind", "path"),
    [
        ("argocd/aegate.yaml", "Application", ("source", "helm", "valuesObject")),
        ("flux/aegate.yaml", "HelmRelease", ("values",)),
    ],
)
def test_values_of_the_examples_are_the_charts(
    helm: Path, tmp_path: Path, file: str, kind: str, path: tuple[str, ...]
) -> None:
    (values,) = (one["spec"] for one in objects((EXAMPLES / file).read_text()) if one["kind"] == kind)
    for step in path:
        values = values[step]
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    rendered = objects(render(helm, "--values", str(tmp_path / "values.yaml")))
    assert "Deployment" in {one["kind"] for one in rendered}


def test_the_operator_is_told_of_the_bucket(helm: Path) -> None:
    [told] = [
        o["data"]["installation.json"]
        for o in objects(render(helm, *with_values("bucket")))
        if o["kind"] == "ConfigMap" and "installation.json" in o["data"]
    ]
    bucket = ImageBucket("hospital-images", "images", "https://s3.example.org:9000", "us-east-1", "pacs")
    assert parse_installation(json.loads(told)).bucket == bucket
