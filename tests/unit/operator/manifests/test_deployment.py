"""The listener's pods: what Pod Security *restricted* asks, how they start, are probed, end, and follow one another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aegate_core.decisions.listener_config import ListenerConfig
from aegate_core.resources.values import ListenerMode, ListenerTLS, Spool
from aegate_operator.installation import ImageBucket
from aegate_operator.manifests import children, remarks, revision
from tests.unit.operator.manifests.builders import (
    INSTALLATION,
    at,
    container,
    entity,
    installation,
    kinds,
    of_kind,
    pod_of,
)

ONE_NODE = Spool("PersistentVolumeClaim", "ReadWriteOnce", "fast", "1Gi")
EMPTY_DIR = Spool("EmptyDir")
BOTH = ["receiver", "indexer"]


def config(**values: Any) -> ListenerConfig:
    wanted = values.pop("wanted", INSTALLATION)
    text = at(of_kind("ConfigMap", entity(**values), wanted).manifest, "data", "listener.json")
    return ListenerConfig.from_json(text)


def test_pod_is_restricted() -> None:
    pod = pod_of(entity(listener={"tls": ListenerTLS("identity")}))

    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert {key for volume in pod["volumes"] for key in volume} - {"name"} == {
        "configMap",
        "persistentVolumeClaim",
        "secret",
        "emptyDir",
    }
    for c in [*pod["initContainers"], *pod["containers"]]:
        assert c["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_indexer_is_a_sidecar_that_ends_after_the_receiver() -> None:
    pod = pod_of(entity())

    assert [(c["name"], c["restartPolicy"]) for c in pod["initContainers"]] == [("indexer", "Always")]
    assert [(c["name"], "restartPolicy" in c) for c in pod["containers"]] == [("receiver", False)]
    assert [container(n, entity())["command"] for n in BOTH] == [
        ["python3", "-m", "aegate_scp"],
        ["python3", "-m", "aegate_scp.indexer"],
    ]
    assert {container(n, entity())["image"] for n in BOTH} == {"localhost/aegate-scp:1"}


def test_probes_ask_by_http_and_never_the_dicom_port() -> None:
    probes = {
        (name, kind): (probe["httpGet"]["path"], probe["httpGet"]["port"])
        for name in BOTH
        for kind, probe in container(name, entity()).items()
        if kind.endswith("Probe")
    }

    assert probes == {
        ("receiver", "startupProbe"): ("/healthz", 8080),
        ("receiver", "readinessProbe"): ("/readyz", 8080),
        ("receiver", "livenessProbe"): ("/healthz", 8080),
        ("indexer", "startupProbe"): ("/healthz", 8081),
        ("indexer", "livenessProbe"): ("/healthz", 8081),
    }


@pytest.mark.parametrize(("longest_s", "grace_s"), [(None, 300), (30, 30), (86400, 86400)])
def test_pod_ends_no_sooner_than_its_associations(longest_s: int | None, grace_s: int) -> None:
    listener = {"longest_association_s": longest_s}

    pod = pod_of(entity(listener=listener))

    assert config(listener=listener).grace_s == grace_s
    assert pod["terminationGracePeriodSeconds"] == 5 + grace_s + 10 + 15
    assert at(pod, "containers", 0, "lifecycle") == {"preStop": {"sleep": {"seconds": 5}}}


def test_pods_follow_one_another_without_a_gap() -> None:
    spec = at(of_kind("Deployment", entity()).manifest, "spec")

    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }
    assert (spec["replicas"], spec["minReadySeconds"]) == (1, 2)


def test_with_a_bucket_the_indexer_has_its_secret_and_nobody_has_a_claim_of_images() -> None:
    wanted = installation(bucket=ImageBucket("images", "keys", "https://s3:9000", "eu", "p/"))
    pod = pod_of(entity(), wanted)
    indexer, receiver = (container(name, entity(), wanted) for name in ("indexer", "receiver"))

    assert [v for v in pod["volumes"] if v["name"] == "blobs"] == [
        {"name": "blobs", "secret": {"secretName": "keys", "optional": True, "defaultMode": 0o440}}
    ]
    assert {"name": "blobs", "mountPath": "/etc/aegate/bucket", "readOnly": True} in indexer["volumeMounts"]
    assert [v for v in indexer["env"] if v["name"].startswith("AEGATE_S3")] == [
        {"name": "AEGATE_S3_BUCKET", "value": "images"},
        {"name": "AEGATE_S3_ENDPOINT", "value": "https://s3:9000"},
        {"name": "AEGATE_S3_REGION", "value": "eu"},
        {"name": "AEGATE_S3_PREFIX", "value": "p/"},
        {"name": "AEGATE_S3_SECRET", "value": "/etc/aegate/bucket"},
        {
            "name": "AEGATE_S3_ACCESS_KEY_ID",
            "valueFrom": {"secretKeyRef": {"name": "keys", "key": "access-key-id"}},
        },
    ]
    assert "blobs" not in {m["name"] for m in receiver["volumeMounts"]}
    assert not [v for v in receiver["env"] if "S3" in v["name"]]


def test_receiver_knows_neither_database_nor_blobs() -> None:
    mounts = {n: [(m["name"], m["mountPath"]) for m in container(n, entity())["volumeMounts"]] for n in BOTH}

    assert mounts == {
        "receiver": [
            ("config", "/etc/aegate/listener"),
            ("spool", "/var/lib/aegate/spool"),
            ("tmp", "/tmp"),
        ],
        "indexer": [
            ("spool", "/var/lib/aegate/spool"),
            ("blobs", "/var/lib/aegate/blobs"),
            ("database", "/etc/aegate/database"),
            ("tmp", "/tmp"),
        ],
    }


def test_settings_of_both() -> None:
    uid = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}}
    found = {
        n: {e["name"]: e.get("value", e.get("valueFrom")) for e in container(n, entity())["env"]}
        for n in BOTH
    }

    assert found == {
        "receiver": {
            "AEGATE_LISTENER_CONFIG": "/etc/aegate/listener/listener.json",
            "AEGATE_HEALTH_LISTEN": "0.0.0.0:8080",
            "AEGATE_LOG_FORMAT": "json",
            "AEGATE_SPOOL_PROCESS": uid,
        },
        "indexer": {
            "AEGATE_DATA": "/var/lib/aegate",
            "AEGATE_DATABASE_URL_FILE": "/etc/aegate/database/dsn",
            "AEGATE_DATABASE_CA": "/etc/aegate/database/ca.crt",
            "AEGATE_AE": "radiology/ct1",
            "AEGATE_HEALTH_LISTEN": "0.0.0.0:8081",
            "AEGATE_LOG_FORMAT": "json",
            "AEGATE_INDEXER": uid,
            "AEGATE_SPOOL_PROCESS": uid,
        },
    }


def test_identity_is_mounted_key_by_key_and_may_be_missing() -> None:
    ae = entity(listener={"tls": ListenerTLS("ct1-identity", ca_secret_name="hospital")})
    volumes = {v["name"]: v["secret"] for v in pod_of(ae)["volumes"] if "secret" in v}

    assert volumes == {
        "database": {
            "secretName": "aegate-database",
            "optional": True,
            "defaultMode": 0o440,
            "items": [{"key": "dsn", "path": "dsn"}, {"key": "ca.crt", "path": "ca.crt"}],
        },
        "tls": {
            "secretName": "ct1-identity",
            "optional": True,
            "defaultMode": 0o440,
            "items": [{"key": "tls.crt", "path": "tls.crt"}, {"key": "tls.key", "path": "tls.key"}],
        },
        "tls-ca": {
            "secretName": "hospital",
            "optional": True,
            "defaultMode": 0o440,
            "items": [{"key": "ca.crt", "path": "ca.crt"}],
        },
    }
    mounts = {m["name"]: m for m in container("receiver", ae)["volumeMounts"]}
    assert mounts["tls"] == {"name": "tls", "mountPath": "/etc/aegate/secrets/identity", "readOnly": True}
    assert mounts["tls-ca"] == {"name": "tls-ca", "mountPath": "/etc/aegate/secrets/ca", "readOnly": True}
    tls = config(listener={"tls": ListenerTLS("ct1-identity", ca_secret_name="hospital")}).tls
    assert tls is not None
    assert (tls.certificate, tls.key, tls.ca) == (
        "/etc/aegate/secrets/identity/tls.crt",
        "/etc/aegate/secrets/identity/tls.key",
        "/etc/aegate/secrets/ca/ca.crt",
    )


def test_spool_of_one_node_has_one_pod_at_a_time() -> None:
    ae = entity(listener={"spool": ONE_NODE, "replicas": 3})

    spec = at(of_kind("Deployment", ae).manifest, "spec")

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert "PodDisruptionBudget" not in kinds(ae)
    assert at(of_kind("PersistentVolumeClaim", ae).manifest, "spec") == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "fast",
    }
    first, second = remarks(ae, INSTALLATION)
    assert first.startswith("The spool is ReadWriteOnce: one replica,")
    assert second == "listener.replicas counts as 1: more need a ReadWriteMany spool."


@pytest.mark.parametrize("own", [True, False], ids=["the AE's", "the installation's"])
def test_spool_that_dies_with_its_pod_acknowledges_what_is_indexed(own: bool) -> None:
    wanted = INSTALLATION if own else installation(spool=EMPTY_DIR)
    listener: dict[str, Any] = {"replicas": 2} | ({"spool": EMPTY_DIR} if own else {})

    ((served),) = config(listener=listener, wanted=wanted).entities

    assert served.index_wait_s == 30
    assert "PersistentVolumeClaim" not in kinds(entity(listener=listener), wanted)
    spools = [v for v in pod_of(entity(listener=listener), wanted)["volumes"] if v["name"] == "spool"]
    assert [v.keys() for v in spools] == [{"name", "emptyDir"}]
    (remark,) = remarks(entity(listener=listener), wanted)
    assert "acknowledge Indexed" in remark


def test_durable_spool_needs_no_remark() -> None:
    assert remarks(entity(listener={"replicas": 2}), INSTALLATION) == ()
    assert config().entities[0].index_wait_s is None


def test_pod_is_merged_over_the_installations() -> None:
    wanted = installation(
        receiver_resources={"requests": {"cpu": "100m", "memory": "1024Mi"}},
        node_selector={"zone": "a", "disk": "hdd"},
        tolerations=({"key": "dicom", "operator": "Exists"},),
        priority_class_name="usual",
        image_pull_secrets=("registry",),
    )
    ae = entity(
        listener={
            "pod": {
                "resources": {"requests": {"cpu": "0.5"}, "limits": {"memory": "2048Mi"}},
                "nodeSelector": {"disk": "ssd"},
                "tolerations": [{"key": "ct", "operator": "Exists"}],
                "priorityClassName": "urgent",
            }
        }
    )

    pod = pod_of(ae, wanted)

    assert pod["nodeSelector"] == {"zone": "a", "disk": "ssd"}
    assert [t["key"] for t in pod["tolerations"]] == ["dicom", "ct"]
    assert pod["priorityClassName"] == "urgent"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert container("receiver", ae, wanted)["resources"] == {
        "requests": {"cpu": "500m", "memory": "1Gi"},
        "limits": {"memory": "2Gi"},
    }
    assert container("indexer", ae, wanted)["resources"] == {
        "requests": {"cpu": "25m", "memory": "128Mi"},
        "limits": {"memory": "768Mi"},
    }


def test_no_field_of_a_pod_passes_but_the_few() -> None:
    ae = entity(listener={"pod": {"hostNetwork": True, "containers": [], "serviceAccountName": "admin"}})

    assert pod_of(ae) == pod_of(entity())


def test_budget_is_for_two_and_more() -> None:
    budget = of_kind("PodDisruptionBudget", entity(listener={"replicas": 2})).manifest

    assert at(budget, "spec") == {
        "maxUnavailable": 1,
        "selector": {"matchLabels": {"app.kubernetes.io/name": "aegate-listener", "aegate.dev/ae": "ct1"}},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    assert "PodDisruptionBudget" not in kinds(entity())


def test_what_a_pod_needs_comes_before_it() -> None:
    assert kinds(entity(listener={"replicas": 2})) == [
        "PersistentVolumeClaim",
        "ConfigMap",
        "NetworkPolicy",
        "Service",
        "Deployment",
        "PodDisruptionBudget",
    ]


def test_disabled_entity_keeps_its_address_and_its_images() -> None:
    assert kinds(entity(enabled=False)) == ["PersistentVolumeClaim", "Service"]
    assert kinds(entity(enabled=False, listener={"spool": EMPTY_DIR})) == ["Service"]
    assert of_kind("Service", entity(enabled=False)) == of_kind("Service", entity())


@pytest.mark.parametrize("mode", ["None", "Shared"])
@pytest.mark.parametrize("enabled", [True, False])
def test_entity_without_a_listener_of_its_own_has_no_children(mode: str, enabled: bool) -> None:
    assert children(entity(enabled=enabled, listener={"mode": ListenerMode(mode)}), INSTALLATION) == ()


def test_revision_is_of_the_files_bytes() -> None:
    first = of_kind("ConfigMap", entity()).manifest
    second = of_kind("ConfigMap", entity(node="10.1.2.4")).manifest

    assert len(revision(first)) == 64
    assert revision(first) == revision(json.loads(json.dumps(first)))
    assert revision(first) != revision(second)


def test_pods_listen_on_both_families_where_the_installation_says_so() -> None:
    wanted = installation(host="::")

    variables = {e["name"]: e.get("value") for e in container("receiver", entity(), wanted)["env"]}

    assert variables["AEGATE_HEALTH_LISTEN"] == "[::]:8080"
    assert config(wanted=wanted).host == "::"


def test_nothing_names_the_release() -> None:
    ae = entity(listener={"replicas": 2})

    assert children(ae, installation(release="other")) == children(ae, INSTALLATION)
