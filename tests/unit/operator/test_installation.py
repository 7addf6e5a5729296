"""The chart's words to the operator: read whole, or refused by field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aegate_core.dicom.ae_title import AETitle
from aegate_core.errors import InvalidInput, InvalidResource
from aegate_core.resources.values import Spool
from aegate_operator.installation import (
    ImageBucket,
    Installation,
    ListenerTemplate,
    parse_installation,
    read_installation,
)

LEAST = {"image": "localhost/aegate-scp:1", "namespace": "aegate-system"}

WHOLE = {
    "image": "registry.example/aegate-scp@sha256:00",
    "namespace": "aegate-system",
    "release": "gate",
    "watchedNamespaces": ["radiology", "cardiology"],
    "title": "GATE",
    "imagePullPolicy": "Never",
    "imagePullSecrets": ["registry"],
    "databaseSecret": "db",
    "blobClaim": "blobs",
    "bucket": {
        "name": "images",
        "secret": "keys",
        "endpoint": "https://s3:9000",
        "region": "eu",
        "prefix": "p/",
    },
    "operatorLabels": {"app": "operator"},
    "metricsFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
    "maxConcurrentRollouts": 3,
    "listener": {
        "serviceType": "NodePort",
        "replicas": 2,
        "port": 4242,
        "spool": {
            "type": "PersistentVolumeClaim",
            "accessMode": "ReadWriteOnce",
            "storageClassName": "fast",
            "size": "5Gi",
        },
        "graceSeconds": 60,
        "preStopSeconds": 2,
        "indexWaitSeconds": 10,
        "host": "::",
        "receiverResources": {"requests": {"cpu": "1"}},
        "indexerResources": {"requests": {"cpu": "2"}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dicom"}],
        "priorityClassName": "urgent",
    },
}


def test_least_is_image_and_namespace() -> None:
    assert parse_installation(LEAST) == Installation(
        image="localhost/aegate-scp:1", namespace="aegate-system"
    )


def test_every_field_is_read(tmp_path: Path) -> None:
    file = tmp_path / "installation.json"
    file.write_text(json.dumps(WHOLE))

    assert read_installation({"AEGATE_INSTALLATION": str(file)}) == Installation(
        image="registry.example/aegate-scp@sha256:00",
        namespace="aegate-system",
        release="gate",
        watched_namespaces=("radiology", "cardiology"),
        title=AETitle("GATE"),
        image_pull_policy="Never",
        image_pull_secrets=("registry",),
        database_secret="db",
        blob_claim="blobs",
        bucket=ImageBucket("images", "keys", "https://s3:9000", "eu", "p/"),
        operator_labels={"app": "operator"},
        metrics_from=({"podSelector": {"matchLabels": {"app": "prometheus"}}},),
        max_concurrent_rollouts=3,
        listener=ListenerTemplate(
            service_type="NodePort",
            replicas=2,
            port=4242,
            spool=Spool("PersistentVolumeClaim", "ReadWriteOnce", "fast", "5Gi"),
            grace_s=60,
            pre_stop_s=2,
            index_wait_s=10,
            host="::",
            receiver_resources={"requests": {"cpu": "1"}},
            indexer_resources={"requests": {"cpu": "2"}},
            node_selector={"disk": "ssd"},
            tolerations=({"key": "dicom"},),
            priority_class_name="urgent",
        ),
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"image": None}, "image"),
        ({"namespace": None}, "namespace"),
        ({"imagePullPolcy": "Never"}, "imagePullPolcy"),
        ({"title": "SEVENTEEN_LETTERS"}, "title"),
        ({"bucket": {"name": "images"}}, "secret"),
        ({"bucket": {"name": "images", "secret": "keys", "region_": "eu"}}, "region_"),
        ({"listener": {"replica": 2}}, "replica"),
        ({"listener": {"replicas": "2"}}, "replicas"),
        ({"listener": {"spool": {"type": "NFS"}}}, "NFS"),
        ({"listener": {"spool": {"accessMode": "ReadOnlyMany"}}}, "ReadOnlyMany"),
        ({"listener": {"spool": {"size": "big"}}}, "size"),
        ({"listener": {"tolerations": ["x"]}}, "tolerations"),
        ({"metricsFrom": {"podSelector": {}}}, "metricsFrom"),
    ],
)
def test_what_a_person_gets_wrong_is_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        parse_installation(LEAST | change)


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        (
            {"listener": {"receiverResources": {"limits": {"memory": "512MB"}}}},
            "listener.receiverResources.limits.memory",
            "must be a quantity such as 250m or 256Mi (got '512MB')",
        ),
        (
            {"listener": {"indexerResources": {"requests": {"cpu": -1}}}},
            "listener.indexerResources.requests.cpu",
            "must be a quantity such as 250m or 256Mi (got '-1')",
        ),
        (
            {"listener": {"indexerResources": {"limit": {"cpu": "1"}}}},
            "listener.indexerResources.limit",
            "expected a field of the schema, got the unknown field 'limit': did you mean limits?",
        ),
        (
            {"listener": {"receiverResources": {"requests": {"cpu": 2}, "limits": {"cpu": "1"}}}},
            "listener.receiverResources",
            "requests may not be above limits",
        ),
        (
            {"listener": {"nodeSelector": {"zone": "a b"}}},
            "listener.nodeSelector",
            "labels must be such as topology.kubernetes.io/zone: a",
        ),
        (
            {"listener": {"tolerations": [{"operater": "Exists"}]}},
            "listener.tolerations[0].operater",
            "expected a field of the schema, got the unknown field 'operater': did you mean operator?",
        ),
        (
            {"listener": {"priorityClassName": "High Prio"}},
            "listener.priorityClassName",
            "must be the name of a PriorityClass, in lower case (got 'High Prio')",
        ),
        (
            {"listener": {"spool": {"storageClassName": "Fast Disk"}}},
            "listener.spool.storageClassName",
            "must be the name of a StorageClass, in lower case (got 'Fast Disk')",
        ),
        (
            {"listener": {"spool": {"size": "20GB"}}},
            "listener.spool.size",
            "must be a quantity such as 20Gi (got '20GB')",
        ),
        (
            {"metricsFrom": [{"podSelektor": {}}]},
            "metricsFrom[0].podSelektor",
            "expected a field of the schema, got the unknown field 'podSelektor': did you mean podSelector?",
        ),
        (
            {"metricsFrom": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]},
            "metricsFrom[0]",
            "must be an ipBlock alone, or a podSelector, a namespaceSelector or both",
        ),
        (
            {"metricsFrom": [{}]},
            "metricsFrom[0]",
            "must be an ipBlock alone, or a podSelector, a namespaceSelector or both",
        ),
        (
            {"metricsFrom": [{"ipBlock": {"cidr": "10.0.0.0/99"}}]},
            "metricsFrom[0].ipBlock.cidr",
            "must be a CIDR such as 10.0.0.0/8 (got '10.0.0.0/99')",
        ),
        (
            {"metricsFrom": [{"podSelector": {"matchLabels": {"app": "a b"}}}]},
            "metricsFrom[0].podSelector.matchLabels",
            "labels must be such as app.kubernetes.io/name: prometheus",
        ),
        (
            {"metricsFrom": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "In"}]}}]},
            "metricsFrom[0].podSelector.matchExpressions[0]",
            "values are needed with operator In and NotIn, and go with no other",
        ),
    ],
)
def test_what_an_api_server_would_refuse_of_every_listener_is_refused_once(
    change: dict[str, object], field: str, words: str
) -> None:
    with pytest.raises(InvalidResource) as refused:
        parse_installation(LEAST | change)
    assert (refused.value.field, refused.value.message) == (
        f"installation.{field}",
        f"installation.{field}: {words}",
    )


@pytest.mark.parametrize("quantity", [0, 1, 0.5, "0", "1.5Gi", "500m", "1e3", "+1"])
def test_quantities_of_every_form_are_taken_as_they_stand(quantity: object) -> None:
    resources = {"limits": {"memory": quantity}}
    read = parse_installation(LEAST | {"listener": {"receiverResources": resources}})
    assert read.listener.receiver_resources == resources


def test_peers_of_every_form_are_taken_as_they_stand() -> None:
    peers = (
        {"namespaceSelector": {}},
        {
            "podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
            "namespaceSelector": {},
        },
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
    )
    assert parse_installation(LEAST | {"metricsFrom": list(peers)}).metrics_from == peers


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_file_that_is_no_installation_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "installation.json"
    file.write_text(text)

    with pytest.raises(InvalidInput):
        read_installation({"AEGATE_INSTALLATION": str(file)})


def test_variable_that_is_missing_is_named() -> None:
    with pytest.raises(InvalidInput, match="AEGATE_INSTALLATION"):
        read_installation({})
