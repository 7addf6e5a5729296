"""What goes wrong between the operator and its API server: it heals by itself, and nothing is asked for hotly."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from aegate_core.database import open_database
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.services.entities import load_configuration
from aegate_core.stores.cluster import from_kubeconfig
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, DEPLOYMENT, NETWORK_POLICY, SERVICE
from aegate_operator.assembly import Operator
from aegate_operator.cache import WATCHED
from tests.cluster.lab.lab import KubectlFailed, Lab
from tests.cluster.operator.operating import DEADLINE_S, Ward, never_hot
from tests.cluster.operator.wire import Wire, wire_to
from tests.integration.waiting import eventually, eventually_async, pass_turns

AWAY_MINUTES = 2
TRIES_PER_MINUTE = 10
"""How often each watch may call an API server that is away, whatever the number of AEs."""


@asynccontextmanager
async def wired(ward: Ward) -> AsyncIterator[Wire]:
    async with wire_to(from_kubeconfig(ward.lab.kubeconfig).server) as wire:
        yield wire


async def test_away_and_back_with_a_compacted_etcd(ward: Ward, radiology: str) -> None:
    """What its watches stood at is gone (410): it lists anew, and what was deleted meanwhile is gone from the rows."""
    async with wired(ward) as wire, ward.operating(server=wire.url) as operator:
        kept, lost = await ward.add_ae(radiology, "ct1"), await ward.add_ae(radiology, "mr1")
        for key in (kept, lost):
            await ward.until(key, "Ready", "True", "Ready")
        wire.cut()
        await ward.remove(APPLICATION_ENTITY, lost)
        new = await ward.add_ae(radiology, "us1")
        ward.lab.compact()
        ward.lab.restart("kube-apiserver")
        listed = _lists(ward)
        async with never_hot(ward):
            wire.mend()
            await ward.until(new, "Ready", "True", "Ready")
            await eventually_async(lambda: _rows_are(ward, {kept, new}, without=lost), deadline_s=DEADLINE_S)
        assert _lists(ward) > listed
        assert operator.liveness.trouble() is None


@pytest.mark.full
async def test_away_for_two_minutes_and_back_with_a_compacted_etcd(ward: Ward, radiology: str) -> None:
    """The API server itself has ended; who waits for it neither ends nor calls all the time."""
    async with wired(ward) as wire, ward.operating(server=wire.url) as operator:
        kept, lost = await ward.add_ae(radiology, "ct1"), await ward.add_ae(radiology, "mr1")
        for key in (kept, lost):
            await ward.until(key, "Ready", "True", "Ready")
        before = await _told(ward, ResourceKey(radiology, "ae-ct1"))
        wire.cut()
        await ward.remove(APPLICATION_ENTITY, lost)
        new = await ward.add_ae(radiology, "us1")
        ward.lab.kill("kube-apiserver")
        tried = [await _tries(operator, wire) for _ in range(AWAY_MINUTES)]
        assert all(0 < count <= TRIES_PER_MINUTE * len(WATCHED) for count in tried), tried
        ward.lab.compact()
        ward.lab.restart("kube-apiserver")
        async with never_hot(ward):
            wire.mend()
            await ward.until(new, "Ready", "True", "Ready")
            await eventually_async(lambda: _rows_are(ward, {kept, new}, without=lost), deadline_s=DEADLINE_S)
        assert operator.liveness.trouble() is None
        assert await _told(ward, ResourceKey(radiology, "ae-ct1")) == before
        await ward.until(kept, "Ready", "True", "Ready")
    # The node was given up meanwhile; whoever is tested next needs it.
    ward.lab.kubectl("wait", "nodes", "--all", "--for=condition=Ready", "--timeout=120s")


async def _told(ward: Ward, key: ResourceKey) -> dict[str, Any]:
    """Return the metadata of a Deployment but for what follows from its status, which its controller writes."""
    live: Any = await ward.admin.get(DEPLOYMENT, key)
    entries = [entry for entry in live["metadata"]["managedFields"] if entry.get("subresource") != "status"]
    return {**live["metadata"], "managedFields": entries, "resourceVersion": ""}


@pytest.mark.full
async def test_connections_that_fall_silent(ward: Ward, radiology: str) -> None:
    """As a firewall does that forgets them: nothing says that they are dead. New ones go through."""
    async with wired(ward) as wire, ward.operating(server=wire.url) as operator:
        first = await ward.add_ae(radiology, "ct1")
        await ward.until(first, "Ready", "True", "Ready")
        assert wire.silence() > 0
        async with never_hot(ward):
            second = await ward.add_ae(radiology, "mr1")
            await ward.until(second, "Ready", "True", "Ready")
        assert operator.liveness.trouble() is None


async def test_a_slow_api_server(ward: Ward, radiology: str) -> None:
    async with wired(ward) as wire, ward.operating(server=wire.url):
        wire.delay_s = 0.5
        async with never_hot(ward):
            key = await ward.add_ae(radiology)
            await ward.until(key, "Ready", "True", "Ready")
            await ward.remove(SERVICE, ResourceKey(radiology, "ae-ct1"))

            async def is_there() -> bool:
                return await ward.find(SERVICE, ResourceKey(radiology, "ae-ct1")) is not None

            await eventually_async(is_there, deadline_s=DEADLINE_S)


async def test_somebody_who_writes_all_the_time(ward: Ward, radiology: str) -> None:
    """Each object of an AE changes under the operator's hands; it gets its way, without a fight."""
    async with ward.operating():
        key = await ward.add_ae(radiology)
        child = ResourceKey(radiology, "ae-ct1")
        await ward.until(key, "Ready", "True", "Ready")
        stop = asyncio.Event()
        busy = asyncio.create_task(_write_all_the_time(ward, key, child, stop))
        try:
            async with never_hot(ward):
                for comment in ("one", "two", "three"):
                    before = len(ward.writes(radiology))
                    await ward.add_ae(radiology, comment=comment, listener={"replicas": 2})
                    await _until_current(ward, key)
                    assert len(ward.writes(radiology)) - before <= 15
        finally:
            stop.set()
            assert await busy > 20
        assert (await ward.admin.get(DEPLOYMENT, child))["spec"]["replicas"] == 2  # type: ignore[index]


async def test_a_child_that_admission_denies(ward: Ward, radiology: str) -> None:
    async with ward.operating():
        with _denied(ward.lab, radiology):
            async with never_hot(ward):
                key = await ward.add_ae(radiology)

                async def is_said() -> bool:
                    message = await ward.message(key)
                    return "apply NetworkPolicy" in message and "no policies of yours here" in message

                await eventually_async(is_said, deadline_s=DEADLINE_S)
                assert (await ward.conditions(key))["Ready"] == ("False", "ListenerNotReady")
                assert await ward.find(SERVICE, ResourceKey(radiology, "ae-ct1")) is not None
                tries = ward.writes(radiology).count(("patch", "networkpolicies"))
                await eventually_async(
                    lambda: ward.writes(radiology).count(("patch", "networkpolicies")) > tries + 1,
                    deadline_s=60,
                )
        await ward.until(key, "Ready", "True", "Ready")
        assert await ward.find(NETWORK_POLICY, ResourceKey(radiology, "ae-ct1")) is not None


async def _tries(operator: Operator, wire: Wire) -> int:
    """Let a minute pass in which the API server is away; return how often it was called."""
    before, end = wire.taken, time.monotonic() + 60

    def is_over() -> bool:
        assert operator.liveness.trouble() is None, "an API server that is away is no fault of the operator's"
        return time.monotonic() > end

    await eventually_async(is_over, deadline_s=120)
    return wire.taken - before


async def _rows_are(ward: Ward, there: set[ResourceKey], *, without: ResourceKey) -> bool:
    """Whether the index has these AEs, and not that one."""
    async with open_database(f"sqlite://{ward.database}") as db:
        return there == set((await load_configuration(db)).entities) & {*there, without}


def _lists(ward: Ward) -> int:
    return sum((r.verb, r.resource) == ("list", "applicationentities") for r in ward.requests())


async def _until_current(ward: Ward, key: ResourceKey) -> None:
    async def is_served() -> bool:
        live: Any = await ward.admin.get(APPLICATION_ENTITY, key)
        ready = next(c for c in live["status"]["conditions"] if c["type"] == "Ready")
        is_current: bool = ready["observedGeneration"] == live["metadata"]["generation"]
        return is_current and ready["status"] == "True"

    await eventually_async(is_served, deadline_s=DEADLINE_S)


async def _write_all_the_time(
    ward: Ward, entity: ResourceKey, child: ResourceKey, stop: asyncio.Event
) -> int:
    """Annotate the AE and two of its children in turn; return how often."""
    count = 0
    while not stop.is_set():
        for kind, key in ((APPLICATION_ENTITY, entity), (DEPLOYMENT, child), (SERVICE, child)):
            await ward.admin.merge(kind, key, {"metadata": {"annotations": {"example.com/n": str(count)}}})
            count += 1
        await pass_turns(1)
    return count


@contextmanager
def _denied(lab: Lab, namespace: str) -> Iterator[None]:
    """Deny NetworkPolicies of this namespace, once the API server does so."""
    name = f"none-in-{namespace}"
    rule = {"apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "resources": ["networkpolicies"]}
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    policy = {
        "matchConstraints": {
            "resourceRules": [{**rule, "operations": ["CREATE", "UPDATE"]}],
            "namespaceSelector": here,
        },
        "validations": [{"expression": "false", "message": "no policies of yours here"}],
    }
    kinds = (
        ("ValidatingAdmissionPolicy", policy),
        (
            "ValidatingAdmissionPolicyBinding",
            {"policyName": name, "validationActions": ["Deny"]},
        ),
    )
    for kind, spec in kinds:
        made = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}}
        lab.apply(json.dumps(made | {"spec": spec}))
    eventually(lambda: _is_denied(lab, namespace), deadline_s=DEADLINE_S, what="the policy is in force")
    try:
        yield
    finally:
        lab.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", name)


def _is_denied(lab: Lab, namespace: str) -> bool:
    probe = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "probe"}}
    try:
        lab.kubectl(
            "create",
            f"--namespace={namespace}",
            "--dry-run=server",
            "--filename=-",
            stdin=json.dumps(probe | {"spec": {"podSelector": {}}}),
        )
    except KubectlFailed as error:
        return "no policies of yours here" in str(error)
    return False
