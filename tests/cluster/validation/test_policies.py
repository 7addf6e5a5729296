"""The admission policies, tried allowed and denied: what is expected, what came, and what to do."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.cluster.validation.api_server import Answer, ApiServer
from tests.cluster.validation.installing import (
    READY_S,
    OldObjects,
    install_policies,
    make_namespace,
    remove_policies,
)
from tests.crd_cases.table import API_VERSION, Manifest
from tests.integration.waiting import eventually

NAMESPACE = "policies"
TLS: dict[str, object] = {"listener": {"tls": {"secretName": "s"}}, "push": {"tls": {}}}


def ae(name: str = "ct1", *, metadata: dict[str, object] | None = None, **spec: object) -> Manifest:
    """An AE of these tests' namespace."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ApplicationEntity",
        "metadata": {"name": name, "namespace": NAMESPACE, **(metadata or {})},
        "spec": {"title": name.upper(), "node": "10.1.2.3", "port": 104, **spec},
    }


def limits(name: str = "hospital", **spec: object) -> Manifest:
    """An AEPolicy."""
    return {"apiVersion": API_VERSION, "kind": "AEPolicy", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def policies(api: ApiServer, stored: OldObjects) -> Iterator[ApiServer]:
    """The admission policies in force, and no AEPolicy."""
    make_namespace(api, NAMESPACE)
    remove_policies(api)
    install_policies(api)
    yield api
    remove_policies(api)


@pytest.fixture
def server(policies: ApiServer) -> Iterator[ApiServer]:
    yield policies
    for name in ("ct1", "us1"):
        policies.delete(ae(name))
    for name in ("hospital", "second"):
        policies.delete(limits(name))
    probe = ae("us1", node="127.0.0.1")
    eventually(
        lambda: policies.create(probe, dryRun="All").is_accepted,
        deadline_s=READY_S,
        what="no AEPolicy in force",
    )


def limit(server: ApiServer, name: str = "hospital", **spec: object) -> None:
    """Put an AEPolicy in force. By itself it forbids loopback, and so it can be seen that it is."""
    assert server.create(limits(name, **spec)).is_accepted
    probe = ae(
        "us1",
        node="127.0.0.1",
        sourceRanges=["192.0.2.0/24"],
        ability="Print",
        listener={"serviceType": "NodePort"},
    )
    eventually(
        lambda: f"AEPolicy {name}" in server.create(probe, dryRun="All").message,
        deadline_s=READY_S,
        what=f"AEPolicy {name} in force",
    )


def assert_denied(answer: Answer, *words: str) -> None:
    """The answer denies, and says all of this."""
    assert answer.status == http.client.FORBIDDEN, answer.body
    assert [w for w in words if w not in answer.message] == [], answer.message


NETWORKS = {"allowedCIDRs": ["10.0.0.0/8", "2001:db8::/48"]}
DENIED: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], tuple[str, ...]]] = {
    "node elsewhere": (
        NETWORKS,
        {"node": "192.168.1.1"},
        (
            "spec.node must lie within 10.0.0.0/8, 2001:db8::/48 (AEPolicy hospital), got 192.168.1.1: ",
            "give the device an address there, or ask for its network to be allowed",
        ),
    ),
    "IPv6 node elsewhere": (NETWORKS, {"node": "2001:db8:1::1"}, ("got 2001:db8:1::1",)),
    "node by name": (
        NETWORKS,
        {"node": "ct1.example.org", "sourceRanges": ["10.1.0.0/16"]},
        ("must be an IP address within", "got the name ct1.example.org", "or ask for allowHostNames"),
    ),
    "a range beyond": (
        NETWORKS,
        {"sourceRanges": ["10.1.0.0/16", "8.0.0.0/6", "192.168.0.0/16"]},
        ("spec.sourceRanges must lie within", "got 8.0.0.0/6, 192.168.0.0/16: narrow the range"),
    ),
    "a range beyond, of an allowed name": (
        {**NETWORKS, "allowHostNames": True},
        {"node": "ct1.example.org", "sourceRanges": ["0.0.0.0/0"]},
        ("spec.sourceRanges must lie within", "got 0.0.0.0/0"),
    ),
    "loopback": (
        {},
        {"node": "127.0.0.2"},
        ("got 127.0.0.2, which is the pod itself", "or ask for allowLoopback"),
    ),
    "loopback in IPv6": ({}, {"node": "::1"}, ("got ::1, which is the pod itself",)),
    "loopback by name": ({}, {"node": "localhost", "networkPolicy": "Disabled"}, ("got localhost",)),
    "loopback by a longer name": (
        {},
        {"node": "a.localhost", "networkPolicy": "Disabled"},
        ("got a.localhost",),
    ),
    "no TLS in": (
        {"requireTLS": True},
        {"push": {"tls": {}}},
        ("spec.listener.tls must be set (AEPolicy hospital), got nothing", "spec.listener.tls.secretName"),
    ),
    "no TLS out": (
        {"requireTLS": True},
        {"listener": {"tls": {"secretName": "s"}}, "push": {"priority": 1}},
        ("spec.push.tls must be set (AEPolicy hospital), got nothing", "write spec.push.tls: {}"),
    ),
    "a printer": ({"requireTLS": True}, {"ability": "Print"}, ("got Print, and printing has no TLS",)),
    "service type": (
        {"allowedServiceTypes": ["ClusterIP", "LoadBalancer"]},
        {"listener": {"serviceType": "NodePort"}},
        ("must be one of ClusterIP, LoadBalancer (AEPolicy hospital), got NodePort: choose one of these",),
    ),
}
ALLOWED: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "node within": (NETWORKS, {"node": "10.255.255.255", "sourceRanges": ["10.1.0.0/16", "10.0.0.0/8"]}),
    "IPv6 node within": (NETWORKS, {"node": "2001:db8::1", "sourceRanges": ["2001:db8::/64"]}),
    "an allowed name": (
        {**NETWORKS, "allowHostNames": True},
        {"node": "ct1.example.org", "sourceRanges": ["10.1.0.0/16"]},
    ),
    "a name without networks": ({}, {"node": "ct1.example.org", "sourceRanges": ["0.0.0.0/0"]}),
    "TLS both ways": ({"requireTLS": True}, TLS),
    "TLS in a shared pool": ({"requireTLS": True}, {"listener": {"mode": "Shared"}, "push": {"tls": {}}}),
    "TLS and no listener": ({"requireTLS": True}, {"listener": {"mode": "None"}, "push": {"tls": {}}}),
    "service type": ({"allowedServiceTypes": ["NodePort"]}, {"listener": {"serviceType": "NodePort"}}),
    "the chart's service type": ({"allowedServiceTypes": ["NodePort"]}, {}),
    "disabled, whatever it says": (
        {**NETWORKS, "requireTLS": True},
        {"node": "127.0.0.1", "enabled": False},
    ),
}


@pytest.mark.parametrize("case", DENIED)
def test_denied_on_creation_and_on_change(server: ApiServer, case: str) -> None:
    spec, wrong, words = DENIED[case]
    before = server.create(ae()).body
    limit(server, **spec)
    assert_denied(server.create(ae("us1", **wrong)), "aegate-aepolicy", *words)
    assert_denied(server.merge(ae(), {"spec": wrong}), "aegate-aepolicy", *words)
    assert server.get(ae("us1")).status == http.client.NOT_FOUND
    assert server.get(ae()).body == before


@pytest.mark.parametrize("case", ALLOWED)
def test_allowed_on_creation_and_on_change(server: ApiServer, case: str) -> None:
    spec, right = ALLOWED[case]
    assert server.create(ae()).is_accepted
    limit(server, **spec)
    assert server.create(ae("us1", **right), dryRun="All").is_accepted
    assert server.merge(ae(), {"spec": right}).is_accepted


def test_every_policy_holds(server: ApiServer) -> None:
    limit(server, allowedCIDRs=["10.0.0.0/8"])
    limit(server, "second", allowedCIDRs=["10.1.0.0/16"])
    assert server.create(ae(), dryRun="All").is_accepted
    assert_denied(server.create(ae(node="10.2.0.1")), "within 10.1.0.0/16 (AEPolicy second)")
    assert_denied(server.create(ae(node="192.168.0.1")), "(AEPolicy ")


def test_one_from_before_a_policy_can_be_labelled_disabled_reported_and_deleted(server: ApiServer) -> None:
    keep: Manifest = {"finalizers": ["example.org/keep"]}
    assert server.create(ae(node="192.168.1.1", metadata=keep)).is_accepted
    limit(server, allowedCIDRs=["10.0.0.0/8"])
    assert_denied(server.merge(ae(), {"spec": {"comment": "known"}}), "got 192.168.1.1")
    assert server.merge(ae(), {"metadata": {"labels": {"a": "b"}}}).is_accepted
    assert server.merge(ae(), {"status": {"observedGeneration": 1}}, "status").is_accepted
    assert server.merge(ae(), {"spec": {"enabled": False}}).is_accepted
    assert server.request(
        "DELETE", f"/apis/aegate.dev/v1alpha1/namespaces/{NAMESPACE}/applicationentities/ct1"
    ).is_accepted
    assert server.merge(ae(), {"metadata": {"finalizers": None}}).is_accepted
    assert server.get(ae()).status == http.client.NOT_FOUND
