"""The whole operator over HTTP, kopf's watches included: what it does when the API server misbehaves."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aegate_core.database import open_database
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.services.entities import load_configuration
from aegate_core.stores.cluster.connection import ClusterConnection
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, CONFIG_MAP, DEPLOYMENT, POD, SERVICE, Kind
from aegate_operator.assembly import Operator, Times
from aegate_operator.cache import WATCHED
from aegate_operator.installation import Installation
from aegate_operator.manifests import revision
from aegate_operator.manifests.child import AE_LABEL
from aegate_operator.pods import Pod
from aegate_operator.projection import ProjectionTimes
from aegate_operator.reports import Report
from aegate_operator.resync import ResyncTimes
from aegate_operator.settings import OperatorSettings
from tests.integration.operator.api_server import ApiServer, api_server
from tests.integration.waiting import eventually_async
from tests.unit.operator.fake_cluster import Write

INSTALLATION = Installation(image="localhost/aegate:1", namespace="aegate-system")
TIMES = Times(
    ResyncTimes(interval_s=3600, spread_s=0.1, retry_s=0.1),
    ProjectionTimes(quiet_s=0.05, look_s=1.0, retry_s=0.1),
)
CHILDREN = ("configmaps", "networkpolicies", "services", "deployments", "persistentvolumeclaims")


class Listeners:
    """Every pod has in force what its ConfigMap says."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    async def read(self, pod: Pod) -> Report:
        name = ResourceKey(pod.key.namespace, f"ae-{pod.entity_label}")
        return Report(revision(self._server.cluster.of(CONFIG_MAP, name)), "ready")


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with api_server() as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, sqlite_template: Path) -> OperatorSettings:
    file = tmp_path / "aegate.sqlite3"
    shutil.copyfile(sqlite_template, file)
    return OperatorSettings(INSTALLATION, f"sqlite://{file}", "operator-0")


@asynccontextmanager
async def operating(
    server: ApiServer, settings: OperatorSettings, times: Times = TIMES
) -> AsyncIterator[Operator]:
    """An operator at work; whatever ends it fails the test."""
    stop = asyncio.Event()
    async with open_database(settings.database_url) as db:
        operator = Operator(settings, ClusterConnection(server.url), db, Listeners(server), times=times)
        running = asyncio.create_task(operator.run(stop))
        try:
            yield operator
            assert not running.done(), running
        finally:
            stop.set()
            await asyncio.wait_for(running, 30)


def add_ae(server: ApiServer, name: str = "ct1", namespace: str = "radiology", **spec: Any) -> ResourceKey:
    key = ResourceKey(namespace, name)
    known = server.cluster.objects.get((APPLICATION_ENTITY, key), {})
    filled = {"title": name.upper(), "node": "10.1.2.3", "port": 104, **known.get("spec", {}), **spec}
    metadata = {**known.get("metadata", {}), "namespace": namespace, "name": name}
    server.cluster.put(APPLICATION_ENTITY, {**known, "metadata": metadata, "spec": filled})
    return key


async def comes_up(server: ApiServer, key: ResourceKey) -> None:
    """Play controllers and kubelet for one AE once its Deployment is there; return when it is Ready."""
    name = ResourceKey(key.namespace, f"ae-{key.name}")
    await eventually_async(lambda: (DEPLOYMENT, name) in server.cluster.objects, deadline_s=30)
    server.cluster.roll_out(name)
    labels = {AE_LABEL: key.name, "app.kubernetes.io/managed-by": "aegate-operator"}
    ready = {"type": "Ready", "status": "True"}
    server.cluster.put(
        POD,
        {
            "metadata": {"namespace": key.namespace, "name": f"{key.name}-a", "labels": labels},
            "status": {"podIP": "10.0.0.1", "phase": "Running", "conditions": [ready]},
        },
    )
    await eventually_async(lambda: condition(server, key) == ("True", "Ready"), deadline_s=30)


def condition(server: ApiServer, key: ResourceKey, type: str = "Ready") -> tuple[str, str] | None:
    found = server.cluster.objects.get((APPLICATION_ENTITY, key), {}).get("status", {}).get("conditions", [])
    return next(((c["status"], c["reason"]) for c in found if c["type"] == type), None)


async def test_from_applied_to_ready_to_gone(server: ApiServer, settings: OperatorSettings) -> None:
    async with operating(server, settings) as operator:
        assert operator.trouble() is not None
        await eventually_async(lambda: operator.trouble() is None, deadline_s=30)
        key = add_ae(server)
        await comes_up(server, key)
        for plural in CHILDREN:
            assert server.requests["patch", plural] == 1
        server.cluster.lose(APPLICATION_ENTITY, key)
        await eventually_async(lambda: operator.informer.declared() == [], deadline_s=30)
    assert server.requests["patch", "deployments"] == 1
    assert server.requests["update", "deployments"] == 0


async def test_a_restart_writes_nothing(server: ApiServer, settings: OperatorSettings) -> None:
    keys = [add_ae(server, f"ct{n}", title=f"CT{n}") for n in range(20)]
    async with operating(server, settings):
        await asyncio.gather(*(comes_up(server, key) for key in keys))
    before = server.writes
    async with operating(server, settings) as operator:
        await eventually_async(lambda: operator.projection_is_current(), deadline_s=60)
    assert server.writes == before


@pytest.mark.parametrize("kind", [DEPLOYMENT, SERVICE, CONFIG_MAP])
async def test_a_deleted_child_is_made_again(
    server: ApiServer, settings: OperatorSettings, kind: Kind
) -> None:
    async with operating(server, settings):
        key = add_ae(server)
        await comes_up(server, key)
        name = ResourceKey(key.namespace, "ae-ct1")
        await eventually_async(lambda: server.requests["watch", kind.plural] > 0, deadline_s=30)
        before = server.requests["patch", kind.plural]
        server.cluster.lose(kind, name)
        await eventually_async(lambda: (kind, name) in server.cluster.objects, deadline_s=30)
        assert server.requests["patch", kind.plural] == before + 1


async def test_an_api_server_that_goes_away_and_comes_back_with_a_compacted_history(
    server: ApiServer, settings: OperatorSettings
) -> None:
    async with operating(server, settings) as operator:
        kept, lost = add_ae(server, "ct1"), add_ae(server, "mr1")
        await comes_up(server, kept)
        await comes_up(server, lost)
        await server.stop()
        server.cluster.lose(APPLICATION_ENTITY, lost)
        new = add_ae(server, "us1")
        server.compact()
        await server.start()
        await comes_up(server, new)
        await eventually_async(lambda: len(operator.informer.declared()) == 2, deadline_s=60)
        assert operator.liveness.trouble() is None
        assert condition(server, kept) == ("True", "Ready")


async def test_a_deletion_that_a_relist_swallows_is_noticed(
    server: ApiServer, settings: OperatorSettings
) -> None:
    async with operating(server, settings) as operator:
        kept, lost = add_ae(server, "ct1"), add_ae(server, "mr1")
        await comes_up(server, kept)
        await comes_up(server, lost)
        await eventually_async(lambda: server.requests["watch", "applicationentities"] > 0, deadline_s=30)
        server.is_mute = True
        server.cluster.lose(APPLICATION_ENTITY, lost)
        server.compact()
        server.is_mute = False
        await eventually_async(lambda: len(operator.informer.declared()) == 1, deadline_s=60)
        assert operator.metrics.ghosts._value.get() == 1


async def test_bookmarks_keep_a_quiet_watch_young_and_silence_ages_it(
    server: ApiServer, settings: OperatorSettings
) -> None:
    async with operating(server, settings) as operator:
        await eventually_async(lambda: len(operator.liveness.silence_s()) == len(WATCHED), deadline_s=30)

        def oldest() -> float:
            operator.board.look()
            return max(operator.liveness.silence_s().values())

        await eventually_async(lambda: oldest() < 0.5, deadline_s=30)
        server.is_mute = True
        await eventually_async(lambda: oldest() > 1.0, deadline_s=30)
        server.is_mute = False
        await eventually_async(lambda: oldest() < 0.5, deadline_s=30)


async def test_namespaced_it_asks_for_nothing_else(server: ApiServer, settings: OperatorSettings) -> None:
    namespaced = replace(
        settings, installation=replace(INSTALLATION, watched_namespaces=("radiology", "cardiology"))
    )
    async with operating(server, namespaced) as operator:
        stranger = add_ae(server, "us1", "elsewhere")
        keys = [add_ae(server, "ct1", "radiology"), add_ae(server, "mr1", "cardiology")]
        await asyncio.gather(*(comes_up(server, key) for key in keys))
        assert condition(server, stranger) is None
        assert {ref.key for ref in operator.informer.declared()} == set(keys)


async def test_what_it_watches_no_longer_leaves_the_index(
    server: ApiServer, settings: OperatorSettings
) -> None:
    both = replace(
        settings, installation=replace(INSTALLATION, watched_namespaces=("radiology", "cardiology"))
    )
    keys = {add_ae(server, "ct1", "radiology"), add_ae(server, "mr1", "cardiology")}
    one = replace(settings, installation=replace(INSTALLATION, watched_namespaces=("radiology",)))
    async with open_database(settings.database_url) as db:
        async with operating(server, both) as operator:
            await eventually_async(operator.projection_is_current, deadline_s=30)
            assert set((await load_configuration(db)).entities) == keys
        async with operating(server, one) as operator:
            await eventually_async(operator.projection_is_current, deadline_s=30)
            assert set((await load_configuration(db)).entities) == {ResourceKey("radiology", "ct1")}


async def test_it_never_loops_hot_over_what_is_refused(server: ApiServer, settings: OperatorSettings) -> None:
    server.cluster.put(SERVICE, {"metadata": {"namespace": "radiology", "name": "ae-ct1"}, "spec": {}})
    async with operating(server, settings) as operator:
        key = add_ae(server)
        await eventually_async(lambda: condition(server, key) == ("False", "ListenerNotReady"), deadline_s=30)
        await eventually_async(lambda: server.requests["get", "services"] >= 3, deadline_s=30)
        assert operator.queue.failing == 1
        assert (
            server.requests["patch", "services"] <= server.requests["get", "services"] + 1
        )  # each is refused
        assert Write("apply", "Service", "ae-ct1") not in server.cluster.writes
        assert server.requests["patch", "applicationentities/status"] <= 2
    assert json.dumps(server.cluster.of(SERVICE, ResourceKey("radiology", "ae-ct1"))["spec"]) == "{}"
