"""Edits that the API server takes on terms of its own: the size of a spool, the class of a load balancer.

What it refuses is said in a condition, in its words; the listener goes on as it is.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.stores.cluster.kinds import (
    APPLICATION_ENTITY,
    DEPLOYMENT,
    SERVICE,
    VOLUME_CLAIM,
    Kind,
)
from tests.cluster.operator.operating import DEADLINE_S, Ward, apply_all
from tests.integration.waiting import eventually_async

CLASS = "expands"


@pytest.fixture
def spool(ward: Ward, radiology: str) -> ResourceKey:
    """The claim of ct1's spool; a volume of 20Gi waits for it, of a class that expands."""
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS},
        "provisioner": "kubernetes.io/no-provisioner",
        "allowVolumeExpansion": True,
    }
    ward.lab.apply(json.dumps(storage_class))
    claim = ResourceKey(radiology, "ae-ct1-spool")
    spec = {
        "capacity": {"storage": "20Gi"},
        "accessModes": ["ReadWriteMany"],
        "hostPath": {"path": f"/srv/{radiology}"},
        "storageClassName": CLASS,
        "claimRef": {"namespace": claim.namespace, "name": claim.name},
    }
    metadata = {"name": f"spool-{radiology}"}
    apply_all(
        ward.lab, [{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}]
    )
    return claim


async def found(ward: Ward, kind: Kind, key: ResourceKey) -> dict[str, Any]:
    live: Any = await ward.admin.get(kind, key)
    return dict(live)


async def until_served(ward: Ward, key: ResourceKey) -> None:
    """Wait until the conditions speak of the newest spec, and well."""

    async def is_served() -> bool:
        live = await found(ward, APPLICATION_ENTITY, key)
        now = {"status": "True", "observedGeneration": live["metadata"]["generation"]}
        return any(
            c["type"] == "Ready" and now.items() <= c.items() for c in live["status"].get("conditions", [])
        )

    await eventually_async(is_served, deadline_s=DEADLINE_S)


def durable(size: str) -> dict[str, Any]:
    return {"spool": {"type": "PersistentVolumeClaim", "storageClassName": CLASS, "size": size}}


async def test_a_spool_grows_and_the_listener_is_left_alone(
    ward: Ward, radiology: str, spool: ResourceKey
) -> None:
    child = ResourceKey(radiology, "ae-ct1")
    async with ward.operating():
        key = await ward.add_ae(radiology, listener=durable("10Gi"))
        await until_served(ward, key)
        deployment = (await found(ward, DEPLOYMENT, child))["metadata"]
        uid = (await found(ward, VOLUME_CLAIM, spool))["metadata"]["uid"]

        await ward.add_ae(radiology, listener=durable("15Gi"))
        await until_served(ward, key)
        claim = await found(ward, VOLUME_CLAIM, spool)
        assert claim["spec"]["resources"]["requests"] == {"storage": "15Gi"}
        assert claim["metadata"]["uid"] == uid
        assert (await found(ward, DEPLOYMENT, child))["metadata"]["generation"] == deployment["generation"]


async def test_a_spool_that_should_shrink_is_said_and_kept(
    ward: Ward, radiology: str, spool: ResourceKey
) -> None:
    child = ResourceKey(radiology, "ae-ct1")
    async with ward.operating():
        key = await ward.add_ae(radiology, listener=durable("15Gi"))
        await until_served(ward, key)
        deployment = (await found(ward, DEPLOYMENT, child))["metadata"]

        await ward.add_ae(radiology, listener=durable("5Gi"))
        await ward.until(key, "Ready", "False", "ListenerNotReady")
        message = await ward.message(key)
        assert "PersistentVolumeClaim" in message and "field can not be less than" in message, message
        claim = await found(ward, VOLUME_CLAIM, spool)
        assert claim["spec"]["resources"]["requests"] == {"storage": "15Gi"}
        assert (await found(ward, DEPLOYMENT, child))["metadata"]["generation"] == deployment["generation"]

        await ward.add_ae(radiology, listener=durable("15Gi"))
        await until_served(ward, key)


async def test_another_class_of_load_balancer_is_said_and_comes_by_way_of_another_type(
    ward: Ward, radiology: str
) -> None:
    child = ResourceKey(radiology, "ae-ct1")

    def balanced(name: str) -> dict[str, str]:
        return {"serviceType": "LoadBalancer", "loadBalancerClass": f"example.org/{name}"}

    async with ward.operating():
        key = await ward.add_ae(radiology, listener=balanced("internal"))
        await ward.until(key, "Ready", "True", "Ready")
        service = await found(ward, SERVICE, child)
        deployment = (await found(ward, DEPLOYMENT, child))["metadata"]
        assert service["spec"]["loadBalancerClass"] == "example.org/internal"

        await ward.add_ae(radiology, listener=balanced("other"))
        await ward.until(key, "Ready", "False", "ListenerNotReady")
        message = await ward.message(key)
        assert "spec.loadBalancerClass" in message and "may not change once set" in message, message
        assert (await found(ward, SERVICE, child))["spec"] == service["spec"]

        await ward.add_ae(radiology, listener={"serviceType": "ClusterIP"})
        await until_served(ward, key)
        await ward.add_ae(radiology, listener=balanced("other"))
        await until_served(ward, key)
        after = await found(ward, SERVICE, child)
        assert after["spec"]["loadBalancerClass"] == "example.org/other"
        assert after["metadata"]["uid"] == service["metadata"]["uid"]
        assert after["spec"]["clusterIP"] == service["spec"]["clusterIP"]
        assert (await found(ward, DEPLOYMENT, child))["metadata"]["generation"] == deployment["generation"]
