"""AEs that share listeners: what the pools are told, and when an AE in one is Ready."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from aegate_core.decisions.listener_config import entities_from_json
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.reference import ResourceRef
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, CONFIG_MAP, DEPLOYMENT, POD, SERVICE
from aegate_operator.installation import Pool, parse_installation
from aegate_operator.manifests.child import POOL_LABEL
from aegate_operator.pods import REVISION
from aegate_operator.pools import (
    ADDRESS_S,
    LARGEST_BYTES,
    file_of,
    share_of,
)
from aegate_operator.reports import Report, stand
from tests.unit.operator.ground import INSTALLATION, Ground

POOL = Pool("default", "aegate-pool-default.aegate-system.svc:11112", shares=4)
WITH_POOL = replace(INSTALLATION, pools={"default": POOL})
SHARED = {"listener": {"mode": "Shared"}}


@pytest.fixture
def ground() -> Ground:
    return Ground(installation=WITH_POOL)


def config_maps(ground: Ground) -> dict[str, str]:
    """File and text of each ConfigMap of the pool."""
    found = {}
    for (kind, key), manifest in ground.cluster.objects.items():
        if kind == CONFIG_MAP and key.name.startswith("aegate-entities-default-"):
            assert key.namespace == "aegate-system"
            found |= manifest["data"]
    return found


def told(ground: Ground) -> dict[str, str]:
    """Title of each AE that the pool is told of."""
    entities = (e for text in config_maps(ground).values() for e in entities_from_json(text))
    return {str(entity.ae): entity.title.value for entity in entities}


def revisions(ground: Ground) -> dict[str, str]:
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in config_maps(ground).items()}


async def settle(ground: Ground) -> None:
    await ground.settle()
    ground.clock.pass_(1)
    await ground.settle()


async def serve(ground: Ground, *pods: str) -> None:
    """Pods of the pool have in force what the ConfigMaps say."""
    for name in pods or ("pool-a",):
        labels = {POOL_LABEL: "default"}
        metadata = {"namespace": "aegate-system", "name": name, "labels": labels}
        ready = {"type": "Ready", "status": "True"}
        status = {"podIP": "10.0.0.9", "phase": "Running", "conditions": [ready]}
        ground.reader.said[name] = Report("of the chart", "ready", entities=revisions(ground))
        ground.cluster.put(POD, {"metadata": metadata, "status": status})
    await settle(ground)
    await ground.ask_pods()


async def added(ground: Ground, *names: str, **spec: Any) -> list[ResourceKey]:
    keys = [ground.add_ae(name, **{**SHARED, **spec}) for name in names]
    await settle(ground)
    return keys


async def test_entity_has_no_children_and_its_pool_is_told_of_it(ground: Ground) -> None:
    [key] = await added(ground, "ct1")
    assert told(ground) == {"radiology/ct1": "CT1"}
    assert ground.cluster.names(DEPLOYMENT) == []
    assert len(config_maps(ground)) == POOL.shares
    assert file_of(share_of(key, POOL)) in {n for n, text in config_maps(ground).items() if "ct1" in text}
    assert ground.conditions(key)["Ready"] == ("False", "ListenerNotReady")
    assert ground.message(key) == "Pool default has no pod that is ready."


async def test_entity_is_ready_when_every_pod_serves_its_line(ground: Ground) -> None:
    [key] = await added(ground, "ct1")
    await serve(ground, "pool-a", "pool-b")
    assert ground.conditions(key)["Ready"] == ("True", "Ready")
    status = ground.cluster.of(APPLICATION_ENTITY, key)["status"]["listener"]
    assert status == {"mode": "Shared", "endpoint": POOL.endpoint}

    ground.add_ae("ct1", comment="nobody's business")
    await settle(ground)
    assert ground.conditions(key)["Ready"] == ("True", "Ready"), "a listener is not told of comments"

    ground.add_ae("ct1", node="10.9.9.9")
    await settle(ground)
    assert ground.conditions(key)["Ready"] == ("False", "ListenerNotReady")
    annotations = ground.cluster.of(POD, ResourceKey("aegate-system", "pool-a"))["metadata"]["annotations"]
    assert annotations == {REVISION: stand("", revisions(ground))}, "kubelet is told to look at once"

    await serve(ground, "pool-a")
    assert ground.conditions(key)["Ready"] == ("False", "ListenerNotReady"), "pool-b has the old line"
    await serve(ground, "pool-b")
    assert ground.conditions(key)["Ready"] == ("True", "Ready")

    ground.add_ae("ct1", node="10.9.9.10")
    await settle(ground)
    await serve(ground, "pool-b")
    assert ground.conditions(key)["Ready"] == ("False", "ListenerNotReady"), "pool-a has the old line"


async def test_entity_whose_associations_may_outlast_its_pools_pods_is_told(ground: Ground) -> None:
    [short] = await added(ground, "ct1", listener={"mode": "Shared", "longestAssociationSeconds": 300})
    [long] = await added(ground, "ct2", listener={"mode": "Shared", "longestAssociationSeconds": 301})
    await serve(ground)
    assert ground.conditions(short)["Ready"] == ground.conditions(long)["Ready"] == ("True", "Ready")
    assert "pools.default.graceSeconds" not in ground.message(short)
    assert "unless pools.default.graceSeconds is raised" in ground.message(long)


async def test_edit_of_one_writes_one_config_map_and_makes_nobody_elses_condition_flicker(
    ground: Ground,
) -> None:
    keys = await added(ground, *(f"ct{i}" for i in range(20)))
    await serve(ground)
    ground.cluster.writes.clear()

    ground.add_ae("ct7", node="10.9.9.9")
    await settle(ground)

    writes = [(w.kind, w.name) for w in ground.cluster.writes]
    share = share_of(keys[7], POOL)
    assert sorted(set(writes)) == [
        ("ApplicationEntity", "ct7"),
        ("ConfigMap", f"aegate-entities-default-{share}"),
        ("Pod", "pool-a"),
    ]
    ready = {key.name: ground.conditions(key)["Ready"][0] for key in keys}
    assert [name for name, status in ready.items() if status != "True"] == ["ct7"]


async def test_a_second_look_and_a_restart_write_nothing(ground: Ground) -> None:
    await added(ground, *(f"ct{i}" for i in range(5)))
    await serve(ground)
    again = Ground(ground.cluster, WITH_POOL)
    again.reader.said = ground.reader.said
    ground.cluster.writes.clear()
    await settle(again)
    await again.ask_pods()
    await settle(again)
    assert again.cluster.writes == []


async def test_entity_that_goes_or_is_disabled_or_moves_leaves_the_pool(ground: Ground) -> None:
    keys = await added(ground, "ct1", "ct2", "ct3", "ct4")
    await serve(ground)
    ground.cluster.lose(APPLICATION_ENTITY, keys[0])
    ground.add_ae("ct2", enabled=False)
    ground.add_ae("ct3", listener={"mode": "Dedicated"})
    await settle(ground)
    assert told(ground) == {"radiology/ct4": "CT4"}
    assert ground.cluster.names(DEPLOYMENT) == ["radiology/ae-ct3"]


async def test_entity_deleted_while_the_operator_was_away_leaves_the_pool(ground: Ground) -> None:
    keys = await added(ground, "ct1", "ct2")
    ground.cluster.saw = lambda kind, event, manifest: None
    ground.cluster.lose(APPLICATION_ENTITY, keys[0])
    again = Ground(ground.cluster, WITH_POOL)
    await settle(again)
    assert told(again) == {"radiology/ct2": "CT2"}


async def test_title_has_one_owner_in_a_pool_too(ground: Ground) -> None:
    first = ground.add_ae("ct1", "radiology", **SHARED)
    await settle(ground)
    second = ground.add_ae("ct1", "cardiology", **SHARED)
    await settle(ground)
    assert told(ground) == {"radiology/ct1": "CT1"}
    assert ground.conditions(second)["Accepted"] == ("False", "TitleConflict")
    ground.cluster.lose(APPLICATION_ENTITY, first)
    await settle(ground)
    assert told(ground) == {"cardiology/ct1": "CT1"}


async def test_suspended_or_unreadable_entity_stays_as_the_pool_is_told_now(ground: Ground) -> None:
    await added(ground, "ct1", "ct2")
    before = config_maps(ground)
    ground.add_ae("ct1", suspend=True, node="10.9.9.9", enabled=False)
    ground.add_ae("ct2", node="not a node !")
    await settle(ground)
    assert config_maps(ground) == before
    again = Ground(ground.cluster, WITH_POOL)
    await settle(again)
    assert config_maps(again) == before, "also after a restart"


async def test_entity_whose_manifest_nobody_can_read_any_more_stays_in_its_pool(ground: Ground) -> None:
    [key] = await added(ground, "ct1")
    ground.cluster.saw = lambda kind, event, manifest: None
    live = ground.cluster.of(APPLICATION_ENTITY, key)
    ground.cluster.put(APPLICATION_ENTITY, {**live, "spec": {**live["spec"], "port": "many"}})
    again = Ground(ground.cluster, WITH_POOL)
    await settle(again)
    assert told(again) == {"radiology/ct1": "CT1"}


async def test_pod_that_comes_without_the_files_makes_nobody_served(ground: Ground) -> None:
    [key] = await added(ground, "ct1")
    await serve(ground, "pool-a")
    assert ground.conditions(key)["Ready"] == ("True", "Ready")
    await serve(ground, "pool-b")
    ground.reader.said["pool-b"] = Report("of the chart", "ready")
    ground.clock.pass_(120)
    await ground.ask_pods()
    await settle(ground)
    assert ground.conditions(key)["Ready"] == ("False", "ListenerNotReady")


async def test_unknown_pool_is_said(ground: Ground) -> None:
    [key] = await added(ground, "ct1", listener={"mode": "Shared", "pool": "big"})
    assert told(ground) == {}
    assert ground.conditions(key)["ResolvedRefs"] == ("False", "PoolNotFound")
    assert "got 'big' and there is default" in ground.message(key)


@pytest.mark.parametrize("reason", ["SecretNotFound", "CertificateExpired", "CertificateInvalid"])
@pytest.mark.parametrize("is_ready", [True, False])
async def test_what_is_wrong_with_a_pools_certificate_is_said_of_every_entity_in_it(
    ground: Ground, reason: str, is_ready: bool
) -> None:
    [key] = await added(ground, "ct1")
    await serve(ground, "pool-a")
    said = Report("of the chart", "ready", entities=revisions(ground), certificate_problem=reason,
                  certificate_message="It says so.")  # fmt: skip
    ground.reader.said["pool-a"] = said
    pod = ground.cluster.of(POD, ResourceKey("aegate-system", "pool-a"))
    ready = {"type": "Ready", "status": str(is_ready)}  # with its port closed a listener is not ready
    ground.cluster.put(POD, {**pod, "status": {**pod["status"], "conditions": [ready]}})
    ground.clock.pass_(120)
    await settle(ground)
    await ground.ask_pods()
    await settle(ground)
    assert ground.conditions(key)["ResolvedRefs"] == ("False", reason)
    assert ground.message(key, "ResolvedRefs") == "It says so."


async def test_full_pool_is_said_and_what_it_serves_stays(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first] = await added(ground, "ct1")
    await serve(ground)
    size = max(len(text) for text in config_maps(ground).values())
    monkeypatch.setattr("aegate_operator.pools.LARGEST_BYTES", size)
    share = share_of(first, POOL)
    names = (f"mr{i}" for i in range(100))
    other = next(n for n in names if share_of(ResourceKey("radiology", n), POOL) == share)
    [second] = await added(ground, other)
    assert "raise pools.default.shares" in ground.message(second)
    assert ground.conditions(first)["Ready"] == ("True", "Ready"), "it is served"
    assert told(ground) == {"radiology/ct1": "CT1"}
    assert LARGEST_BYTES < 1_000_000


async def test_config_map_edited_by_hand_is_put_right(ground: Ground) -> None:
    [key] = await added(ground, "ct1")
    await serve(ground)
    name = ResourceKey("aegate-system", f"aegate-entities-default-{share_of(key, POOL)}")
    live = ground.cluster.of(CONFIG_MAP, name)
    ground.cluster.put(CONFIG_MAP, {**live, "data": {file_of(share_of(key, POOL)): "[]"}})
    await settle(ground)
    assert told(ground) == {"radiology/ct1": "CT1"}


SERVICE_OF_POOL = ResourceKey("aegate-system", "aegate-pool-default")


def put_service(ground: Ground, type: str, *, addresses: list[dict[str, str]] | None = None) -> None:
    """The chart's Service of the pool, as the cluster has filled it in."""
    port = {"name": "dicom", "port": 11112, "nodePort": 30112}
    metadata = {"namespace": SERVICE_OF_POOL.namespace, "name": SERVICE_OF_POOL.name}
    status = {"loadBalancer": {"ingress": addresses} if addresses else {}}
    spec = {"type": type, "ports": [port]}
    ground.cluster.put(SERVICE, {"metadata": metadata, "spec": spec, "status": status})


def endpoint(ground: Ground, key: ResourceKey) -> str | None:
    status: dict[str, str] = ground.cluster.of(APPLICATION_ENTITY, key)["status"]["listener"]
    return status.get("endpoint")


@pytest.fixture
def outside() -> Ground:
    """A pool whose Service is reached from outside the cluster."""
    return Ground(
        installation=replace(INSTALLATION, pools={"default": replace(POOL, service=SERVICE_OF_POOL.name)})
    )


async def test_device_of_a_pool_on_node_ports_is_told_the_nodes_port(outside: Ground) -> None:
    put_service(outside, "NodePort")
    [key] = await added(outside, "ct1")
    assert endpoint(outside, key) == "*:30112"
    assert outside.outcomes.endpoints == {key: "*:30112"}


async def test_device_of_a_pool_behind_a_load_balancer_is_told_its_address_when_it_has_one(
    outside: Ground,
) -> None:
    [key] = await added(outside, "ct1")
    assert endpoint(outside, key) is None, "there is no Service yet"
    put_service(outside, "LoadBalancer")
    await settle(outside)
    assert endpoint(outside, key) is None

    put_service(outside, "LoadBalancer", addresses=[{"ip": "192.0.2.7"}])
    outside.clock.pass_(ADDRESS_S)
    await settle(outside)
    assert endpoint(outside, key) == "192.0.2.7:11112"


async def test_restart_says_no_other_endpoint_meanwhile(outside: Ground) -> None:
    put_service(outside, "NodePort")
    await added(outside, "ct1")
    await serve(outside)
    again = Ground(outside.cluster, outside.installation)
    again.reader.said = outside.reader.said
    outside.cluster.writes.clear()
    await settle(again)
    await again.ask_pods()
    await settle(again)
    assert again.cluster.writes == []


def test_installation_names_its_pools() -> None:
    values = {"image": "i:1", "namespace": "aegate-system", "pools": [
        {"name": "big", "endpoint": "pool.svc:104", "shares": 16, "graceSeconds": 60, "waitsForIndex": True}
    ]}  # fmt: skip
    assert parse_installation(json.loads(json.dumps(values))).pools == {
        "big": Pool("big", "pool.svc:104", shares=16, grace_s=60, waits_for_index=True)
    }


async def test_pool_that_holds_ten_thousand_is_written_in_a_few_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aegate_operator.declared.Declared.has_judged", lambda self, ref: True)
    pool = replace(POOL, shares=16)
    ground = Ground(installation=replace(INSTALLATION, pools={"default": pool}))
    for i in range(10_000):
        ground.add_ae(f"ct-{i:05}", title=f"CT{i:05}", **SHARED)
    ground.queue.add(ResourceRef("Pool", ResourceKey("aegate-system", "default")))
    looks = 0
    while (ref := ground.queue.take()) is not None and looks < 20_001:
        looks += 1
        if ref.kind == "Pool":
            await ground.reconciler.reconcile(ref)
        ground.queue.done(ref)
    sizes = [len(text) for text in config_maps(ground).values()]
    assert len(told(ground)) == 10_000
    assert max(sizes) < LARGEST_BYTES, sizes
    assert len([w for w in ground.cluster.writes if w.kind == "ConfigMap"]) == 16
