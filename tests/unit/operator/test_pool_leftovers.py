"""What a pool leaves that is none any more: emptied by a Job, and only then its claim and its ConfigMaps go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterRefused, ClusterUnavailable
from aegate_core.stores.cluster.kinds import CONFIG_MAP, DEPLOYMENT, JOB, POD, VOLUME_CLAIM, Kind
from aegate_operator.installation import Installation, Pool
from aegate_operator.manifests.child import DRAIN_APP, POOL_LABEL
from aegate_operator.pool_leftovers import AGAIN_S
from tests.unit.operator.fake_cluster import FakeCluster, Write
from tests.unit.operator.ground import INSTALLATION, Ground
from tests.unit.operator.test_pools import added, serve, settle

HOME = "aegate-system"
CLAIM = ResourceKey(HOME, "aegate-pool-default-spool")
DRAIN = ResourceKey(HOME, "aegate-pool-default-drain")
CHART_DEPLOYMENT = ResourceKey(HOME, "aegate-pool-default")
POOL_POD = ResourceKey(HOME, "pool-a")
POOL = Pool("default", "aegate-pool-default.aegate-system.svc:11112", shares=2)
WITH_POOL = replace(INSTALLATION, pools={"default": POOL})
WITHOUT_VOLUME = replace(INSTALLATION, pools={"default": replace(POOL, waits_for_index=True)})
BEGUN = [Write("apply", "Job", DRAIN.name), Write("apply", "NetworkPolicy", "drain-aegate-pool-default")]
GONE = [
    Write("delete", "PersistentVolumeClaim", CLAIM.name),
    Write("delete", "ConfigMap", "aegate-entities-default-0"),
    Write("delete", "ConfigMap", "aegate-entities-default-1"),
    Write("delete", "Job", DRAIN.name),
]


def put_chart(cluster: FakeCluster, *, phase: str = "Bound") -> None:
    """What the chart makes for the pool."""
    labels = {POOL_LABEL: "default"}
    claim: dict[str, Any] = {"namespace": HOME, "name": CLAIM.name, "labels": labels}
    cluster.put(VOLUME_CLAIM, {"metadata": claim, "spec": {}, "status": {"phase": phase}}, is_told=False)
    put_deployment(cluster)


def put_deployment(cluster: FakeCluster) -> None:
    labels = {POOL_LABEL: "default"}
    mounts = {"volumes": [{"name": "spool", "persistentVolumeClaim": {"claimName": CLAIM.name}}]}
    deployment = {"namespace": HOME, "name": CHART_DEPLOYMENT.name, "labels": labels}
    template = {"metadata": {"labels": labels}, "spec": mounts}
    cluster.put(DEPLOYMENT, {"metadata": deployment, "spec": {"template": template}}, is_told=False)


async def served() -> FakeCluster:
    """A cluster with a pool that serves an AE."""
    ground = Ground(installation=WITH_POOL)
    put_chart(ground.cluster)
    await added(ground, "ct1")
    await serve(ground)
    ground.cluster.writes.clear()
    return ground.cluster


def restarted(cluster: FakeCluster, installation: Installation = INSTALLATION) -> Ground:
    """An operator that begins anew, as told; its informer knows of no claim of the chart's."""
    return Ground(cluster, installation)


def pool_writes(ground: Ground) -> list[Write]:
    return [w for w in ground.cluster.writes if w.kind not in ("ApplicationEntity", "Pod")]


async def pass_(ground: Ground) -> None:
    ground.clock.pass_(AGAIN_S)
    await ground.settle()


async def complete(ground: Ground) -> None:
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    ground.cluster.put(JOB, {**ground.cluster.of(JOB, DRAIN), "status": done})
    await ground.settle()


async def removed(*, with_pods: bool = False) -> Ground:
    """The pool is out of the values: Helm has removed its Deployment, and its pods have ended."""
    cluster = await served()
    ground = restarted(cluster)
    cluster.lose(DEPLOYMENT, CHART_DEPLOYMENT, is_told=False)
    if not with_pods:
        cluster.lose(POD, POOL_POD)
    await settle(ground)
    return ground


async def test_spool_of_a_removed_pool_is_emptied_and_then_all_of_it_goes() -> None:
    ground = await removed(with_pods=True)
    assert pool_writes(ground) == [], "its pod still indexes"
    ground.cluster.lose(POD, POOL_POD)
    await ground.settle()
    assert pool_writes(ground) == BEGUN

    await complete(ground)

    assert pool_writes(ground)[2:] == GONE
    assert ground.cluster.names(CONFIG_MAP) == ground.cluster.names(VOLUME_CLAIM) == []
    ground.cluster.writes.clear()
    await pass_(ground)
    await settle(restarted(ground.cluster))
    assert pool_writes(ground) == []


async def test_job_speaks_for_the_pool_and_mounts_its_claim() -> None:
    ground = await removed()
    job = ground.cluster.of(JOB, DRAIN)
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert container["command"] == ["python3", "-m", "aegate_scp.indexer", "--until-empty"]
    assert env["AEGATE_INDEXER"] == "pool-default", "as the chart's pods say it"
    assert "AEGATE_AE" not in env
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": CLAIM.name}
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert (labels["app.kubernetes.io/name"], labels[POOL_LABEL]) == (DRAIN_APP, "default")
    [owner] = job["metadata"]["ownerReferences"]
    assert owner["uid"] == ground.cluster.of(VOLUME_CLAIM, CLAIM)["metadata"]["uid"]


async def test_nothing_is_touched_while_a_deployment_of_the_pool_is_there() -> None:
    cluster = await served()
    ground = restarted(cluster)
    cluster.lose(POD, POOL_POD)
    await settle(ground)
    assert pool_writes(ground) == [], "it may be another release's, or Helm has not come to it yet"

    cluster.lose(DEPLOYMENT, CHART_DEPLOYMENT, is_told=False)
    await pass_(ground)
    assert pool_writes(ground) == BEGUN


async def test_pool_that_comes_back_while_it_is_emptied_keeps_its_claim() -> None:
    ground = await removed()
    put_chart(ground.cluster)
    await complete(ground)
    assert ground.cluster.names(VOLUME_CLAIM) == [str(CLAIM)]

    again = restarted(ground.cluster, WITH_POOL)
    await settle(again)
    assert again.cluster.names(JOB) == [], "its word would count for what comes"
    assert again.cluster.names(VOLUME_CLAIM) == [str(CLAIM)]
    assert len(again.cluster.names(CONFIG_MAP)) == 2


async def test_word_of_a_job_that_had_ended_before_this_operator_began_does_not_count() -> None:
    ground = await removed()
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    ground.cluster.put(JOB, {**ground.cluster.of(JOB, DRAIN), "status": done}, is_told=False)
    old = ground.cluster.of(JOB, DRAIN)["metadata"]["uid"]

    again = restarted(ground.cluster)
    await settle(again)

    assert again.cluster.of(JOB, DRAIN)["metadata"]["uid"] != old, "a pool may have come and gone since"
    assert again.cluster.names(VOLUME_CLAIM) == [str(CLAIM)]
    await complete(again)
    assert again.cluster.names(VOLUME_CLAIM) == again.cluster.names(CONFIG_MAP) == []


async def test_job_at_work_goes_on_when_the_operator_begins_anew() -> None:
    ground = await removed()
    uid = ground.cluster.of(JOB, DRAIN)["metadata"]["uid"]
    again = restarted(ground.cluster)
    await settle(again)
    assert again.cluster.of(JOB, DRAIN)["metadata"]["uid"] == uid
    await complete(again)
    assert again.cluster.names(VOLUME_CLAIM) == again.cluster.names(CONFIG_MAP) == []


@pytest.mark.parametrize("phase", ["none", "Pending"])
async def test_pool_that_never_had_a_volume_has_its_word_taken_back(phase: str) -> None:
    cluster = await served()
    cluster.lose(DEPLOYMENT, CHART_DEPLOYMENT, is_told=False)
    cluster.lose(POD, POOL_POD)
    if phase == "none":
        cluster.lose(VOLUME_CLAIM, CLAIM, is_told=False)
    else:
        put = {**cluster.of(VOLUME_CLAIM, CLAIM), "status": {"phase": phase}}
        cluster.put(VOLUME_CLAIM, put, is_told=False)
    ground = restarted(cluster)
    await settle(ground)
    volume = ground.cluster.of(JOB, DRAIN)["spec"]["template"]["spec"]["volumes"][0]
    assert volume == {"name": "spool", "emptyDir": {"sizeLimit": "64Mi"}}
    await complete(ground)
    assert ground.cluster.names(JOB) == ground.cluster.names(VOLUME_CLAIM) == []
    assert ground.cluster.names(CONFIG_MAP) == []


async def test_word_of_a_job_does_not_count_for_what_came_in_a_second_life_of_its_pool() -> None:
    """The same operator all the time: it saw the Job at work, and the pool is back when it has ended."""
    ground = await removed()
    cluster = ground.cluster
    first = cluster.of(JOB, DRAIN)["metadata"]["uid"]
    put_chart(cluster)
    await complete(ground)
    assert cluster.names(JOB) == [], "the pool is there"
    cluster.lose(DEPLOYMENT, CHART_DEPLOYMENT, is_told=False)
    await settle(ground)
    await pass_(ground)
    assert cluster.names(VOLUME_CLAIM) == [str(CLAIM)]
    assert cluster.of(JOB, DRAIN)["metadata"]["uid"] != first


async def test_pool_that_comes_back_while_its_claim_is_about_to_go_keeps_it() -> None:
    ground = await removed()
    cluster = ground.cluster

    def come_back(verb: str, kind: Kind, key: ResourceKey) -> None:
        if (verb, kind) == ("get", JOB):  # the last question before all goes
            put_deployment(cluster)

    cluster.refuse = come_back
    await complete(ground)
    assert cluster.names(VOLUME_CLAIM) == [str(CLAIM)]
    assert len(cluster.names(CONFIG_MAP)) == 2


async def test_job_that_is_refused_keeps_no_entity_out_of_its_pool() -> None:
    cluster = await served()
    ground = restarted(cluster, WITHOUT_VOLUME)
    cluster.lose(POD, POOL_POD)
    deployment = cluster.of(DEPLOYMENT, CHART_DEPLOYMENT)
    cluster.put(DEPLOYMENT, {**deployment, "spec": {"template": {"spec": {}}}}, is_told=False)
    cluster.refuse = lambda verb, kind, key: (
        ClusterRefused("exceeded quota") if (verb, kind) == ("apply", JOB) else None
    )
    await settle(ground)
    await added(ground, "mr1")
    await ground.settle()
    told = [str(cluster.of(CONFIG_MAP, ResourceKey(HOME, f"aegate-entities-default-{n}"))) for n in (0, 1)]
    assert "mr1" in "".join(told)
    assert "exceeded quota" in ground.errors.values()


async def test_pool_of_another_namespace_is_another_releases() -> None:
    cluster = await served()
    cluster.lose(DEPLOYMENT, CHART_DEPLOYMENT, is_told=False)
    cluster.lose(POD, POOL_POD)
    other = restarted(cluster, replace(INSTALLATION, namespace="other-system"))
    await settle(other)
    assert pool_writes(other) == []


async def test_api_server_that_is_away_leaves_all_as_it_is() -> None:
    cluster = await served()
    cluster.lose(DEPLOYMENT, CHART_DEPLOYMENT, is_told=False)
    cluster.lose(POD, POOL_POD)
    cluster.refuse = lambda verb, kind, key: (
        ClusterUnavailable("away") if (verb, kind) == ("get", VOLUME_CLAIM) else None
    )
    ground = restarted(cluster)
    await settle(ground)
    assert pool_writes(ground) == []
    assert set(ground.errors.values()) == {"away"}


async def test_claim_that_a_pool_had_before_it_lived_without_one_is_emptied_when_no_pod_has_it() -> None:
    cluster = await served()
    ground = restarted(cluster, WITHOUT_VOLUME)
    pod = cluster.of(POD, POOL_POD)
    mounts = {"volumes": [{"name": "spool", "persistentVolumeClaim": {"claimName": CLAIM.name}}]}
    cluster.put(POD, {**pod, "spec": mounts})
    deployment = cluster.of(DEPLOYMENT, CHART_DEPLOYMENT)
    cluster.put(DEPLOYMENT, {**deployment, "spec": {"template": {"spec": {}}}}, is_told=False)
    await settle(ground)
    assert cluster.names(JOB) == [], "its old pod still indexes"

    cluster.lose(POD, POOL_POD)
    await settle(ground)
    env = cluster.of(JOB, DRAIN)["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "AEGATE_INDEXER", "value": "pool-default.left"} in env, "the pool speaks for itself"
    await complete(ground)
    assert cluster.names(VOLUME_CLAIM) == cluster.names(JOB) == []
    assert len(cluster.names(CONFIG_MAP)) == 2, "the pool is there"
    cluster.writes.clear()
    await settle(ground)
    await pass_(ground)
    assert pool_writes(ground) == []
