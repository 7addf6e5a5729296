"""Resources as they come to lie in a cluster: from before the rules, with a status by hand, held by others, long."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from tests.cluster.validation.api_server import GROUP, PLURALS, ApiServer, address
from tests.cluster.validation.installing import OldObjects, make_namespace
from tests.crd_cases.table import API_VERSION, Case, Manifest, load_cases

NAMESPACE = "stored"
BEFORE_THE_RULES = [case for case in load_cases() if case.is_old_unchecked]
CONDITION = {
    "type": "Accepted",
    "status": "False",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-01-31T12:00:00Z",
    "reason": "Invalid",
    "message": "spec.port must be at least 1, got 0: mend it",
}
STATUS: dict[str, object] = {"observedGeneration": 1, "conditions": [CONDITION]}
NOT_LOOKED_AT = {"observedGeneration": -1}
SPECS: dict[str, dict[str, object]] = {
    "ApplicationEntity": {"title": "CT1", "node": "10.1.2.3", "port": 104},
    "ImageRoute": {"to": ["pacs"]},
    "PatientPartition": {},
}


def resource(kind: str, **members: object) -> Manifest:
    """A resource of these tests' namespace."""
    metadata = {"name": "ct1", "namespace": NAMESPACE}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": SPECS[kind], **members}


@pytest.fixture(params=SPECS)
def kind(request: pytest.FixtureRequest, api: ApiServer, stored: OldObjects) -> Iterator[str]:
    """Each kind with a status in turn; nothing of it is there."""
    make_namespace(api, NAMESPACE)
    yield request.param
    api.delete(resource(request.param))


@pytest.mark.parametrize("case", BEFORE_THE_RULES, ids=lambda case: case.name)
def test_one_from_before_the_rules_can_be_read_and_reported(
    case: Case, api: ApiServer, stored: OldObjects
) -> None:
    with stored.update_of(case) as changed:
        read = api.get(changed)
        assert (read.status, read.body["kind"]) == (http.client.OK, case.kind)
        reported = api.merge(changed, {"status": STATUS}, "status", fieldValidation="Strict")
        assert reported.is_accepted, reported.message
        assert api.get(changed).body["status"] == STATUS
        held = {"metadata": {"finalizers": ["example.org/keep"]}}
        assert api.merge(changed, held).is_accepted
        listed = api.request("GET", f"{GROUP}/{PLURALS[case.kind]}").body["items"]
        assert changed["metadata"]["name"] in [i["metadata"]["name"] for i in listed]  # type: ignore[index,attr-defined] # objects


def test_a_status_by_hand_is_dropped_from_a_manifest(api: ApiServer, kind: str) -> None:
    made = api.create(resource(kind, status=STATUS))
    assert made.is_accepted, made.message
    assert made.body["status"] == NOT_LOOKED_AT
    replaced = {**made.body, "status": STATUS}
    assert api.replace(replaced).body["status"] == NOT_LOOKED_AT


def test_a_status_has_a_schema(api: ApiServer, kind: str) -> None:
    assert api.create(resource(kind)).is_accepted
    for wrong, place in (
        ({"observedGeneration": "1"}, "status.observedGeneration"),
        ({"conditions": [{**CONDITION, "status": "Yes"}]}, "status.conditions[0].status"),
        ({"conditions": [{**CONDITION, "reason": "not one word"}]}, "status.conditions[0].reason"),
        (
            {"conditions": [{k: v for k, v in CONDITION.items() if k != "reason"}]},
            "status.conditions[0].reason",
        ),
        ({"conditions": [CONDITION, CONDITION]}, "status.conditions[1]"),
        ({"colour": "red"}, "status.colour"),
    ):
        answer = api.merge(resource(kind), {"status": wrong}, "status", fieldValidation="Strict")
        assert [at for at, _ in answer.refused] == [place], answer.body
    assert api.get(resource(kind)).body["status"] == NOT_LOOKED_AT


def test_a_status_is_written_apart_from_the_spec(api: ApiServer, kind: str) -> None:
    made = api.create(resource(kind)).body
    both = {"spec": {"colour": "red"}, "status": STATUS}
    assert api.merge(resource(kind), both, "status").is_accepted
    now = api.get(resource(kind)).body
    assert (now["spec"], now["status"]) == (made["spec"], STATUS)
    assert now["metadata"]["generation"] == made["metadata"]["generation"] == 1  # type: ignore[index] # objects


def test_a_finalizer_of_others_holds_it_and_lets_it_be_reported(api: ApiServer, kind: str) -> None:
    held = resource(kind)
    held["metadata"] = {**held["metadata"], "finalizers": ["example.org/keep"]}  # type: ignore[dict-item] # an object
    assert api.create(held).is_accepted
    assert api.request("DELETE", address(held)).is_accepted
    assert api.get(held).body["metadata"]["deletionTimestamp"]  # type: ignore[index] # an object
    assert api.merge(held, {"status": STATUS}, "status").is_accepted
    assert api.merge(held, {"metadata": {"finalizers": None}}).is_accepted
    assert api.get(held).status == http.client.NOT_FOUND


LONGEST: dict[str, dict[str, object]] = {
    "ApplicationEntity": {
        "title": "#" * 16,
        "node": "n.abcdefgh" * 25 + "abc",
        "port": 65535,
        "sourceRanges": [f"2001:db8:aaaa:bbbb:cccc:dddd:{n:x}:0/112" for n in range(16)],
        "locationCode": "Ж" * 64,
        "patientPartition": "p" * 63,
        "documentType": "Ж" * 64,
        "comment": "Ж" * 1024,
        "push": {"callingTitle": "#" * 16, "tls": {"serverName": "s.abcdefgh" * 25 + "abc"}},
        "listener": {
            "serviceType": "LoadBalancer",
            "loadBalancerClass": "p.abcdefgh" * 18 + "abc/" + "c" * 63,
            "serviceAnnotations": {f"{'p.abcdefgh' * 20}.org/{n:063}": "v" * 1024 for n in range(32)},
            "calledTitle": "#" * 16,
            "extraSOPClasses": [f"1.2.{n:02}{'9' * 57}".replace(".0", ".9")[:64] for n in range(10, 74)],
            "spool": {
                "type": "PersistentVolumeClaim",
                "storageClassName": "s" * 253,
                "size": "1" * 18 + "Gi",
            },
            "tls": {"secretName": "s" * 253, "caSecretName": "c" * 253},
            "pod": {
                "priorityClassName": "p" * 253,
                "nodeSelector": {f"{'p.abcdefgh' * 20}.org/{n:063}": "v" * 63 for n in range(16)},
                "tolerations": [
                    {"key": "k" * 63, "value": "v" * 63, "effect": "NoExecute", "tolerationSeconds": 2**62}
                ]
                * 16,
                "resources": {
                    part: {f"{'p.abcdefgh' * 20}.org/{n:063}": "9" * 18 + "Gi" for n in range(8)}
                    for part in ("requests", "limits")
                },
            },
        },
    },
    "ImageRoute": {
        "from": {
            "aes": [f"{n:0253}" for n in range(64)],
            "selector": {"matchLabels": {f"{'p.abcdefgh' * 20}.org/{n:063}": "v" * 63 for n in range(16)}},
            "partitions": [f"{n:063}" for n in range(64)],
            "locations": [f"{n:064}" for n in range(64)],
            "documentTypes": [f"{n:064}" for n in range(64)],
            "modalities": [f"{n:016}" for n in range(64)],
            "elements": [{"keyword": "K" * 64, "op": "In", "values": ["Ж" * 256] * 32}] * 16,
        },
        "to": [f"{n:0252}x" for n in range(16)],
        "comment": "Ж" * 1024,
    },
    "PatientPartition": {"displayName": "Ж" * 128, "issuerOfPatientID": "Ж" * 64},
}


def test_all_at_their_lengths(api: ApiServer, kind: str) -> None:
    """Nothing is too long together: the rules over the largest objects stay within what a server spends on them."""
    longest = "n" * (63 if kind == "PatientPartition" else 253)
    metadata = {
        "name": longest,
        "namespace": NAMESPACE,
        "labels": {f"{'p.abcdefgh' * 25}abc/{n:063}": "v" * 63 for n in range(50)},
        "annotations": {f"{'p.abcdefgh' * 25}abc/{'k' * 63}": "v" * 200_000},
    }
    largest = {**resource(kind), "metadata": metadata, "spec": LONGEST[kind]}
    made = api.create(largest)
    assert made.is_accepted, made.message
    spec = api.get(largest).body["spec"]
    assert isinstance(spec, dict)
    assert {name: spec[name] for name in LONGEST[kind] if name not in ("listener", "push")} == {
        name: value for name, value in LONGEST[kind].items() if name not in ("listener", "push")
    }
    assert api.merge(
        largest, {"spec": {"comment": "c"} if kind != "PatientPartition" else {"displayName": "c"}}
    ).is_accepted
    assert api.merge(largest, {"status": STATUS}, "status").is_accepted
    api.delete(largest)
