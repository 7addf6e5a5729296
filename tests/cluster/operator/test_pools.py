"""Pools on a real API server: AEs that move between ConfigMaps, and what a pool leaves; Jobs really run here."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aegate_core.database import open_database
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.stores.cluster.client import Manifest, key_of
from aegate_core.stores.cluster.kinds import (
    APPLICATION_ENTITY,
    CONFIG_MAP,
    DEPLOYMENT,
    JOB,
    POD,
    VOLUME_CLAIM,
)
from aegate_core.stores.index.progress import Progress, read_progress, write_progress
from aegate_core.stores.spool import SpoolFolder
from aegate_operator.installation import Installation, Pool
from aegate_operator.manifests.child import POOL_LABEL
from aegate_operator.manifests.placement import PLACEMENT_ANNOTATION
from aegate_operator.pods import Pod
from aegate_operator.pools import share_in
from aegate_operator.reports import Report
from aegate_operator.rights import RULES
from tests.cluster.lab.lab import Lab
from tests.cluster.operator.operating import (
    DEADLINE_S,
    HOME,
    INSTALLATION,
    Listeners,
    Ward,
    apply_all,
    store,
)
from tests.dicom import ct_study
from tests.integration.intake.hospital import Place
from tests.integration.waiting import eventually_async

pytestmark = pytest.mark.timeout(300)
COUNT = 20
SHARED: dict[str, Any] = {"listener": {"mode": "Shared"}}


@dataclass
class PoolListeners(Listeners):
    """Pods of a pool have in force what its ConfigMaps say."""

    async def read(self, pod: Pod) -> Report:
        if not pod.pool:
            return await super().read(pod)
        live = await config_maps(self.admin, pod.pool)
        texts = {name: text for m in live for name, text in m["data"].items()}
        told = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
        return Report("of the chart", "ready", entities=told)


async def config_maps(admin: Any, pool: str) -> list[Any]:
    """The ConfigMaps of a pool, by name."""
    listing = await admin.list(CONFIG_MAP, namespace=HOME, labels=f"{POOL_LABEL}={pool}")
    return sorted(listing.items, key=key_of)


def with_pool(shares: int = 4) -> Installation:
    pool = Pool("default", f"aegate-pool-default.{HOME}.svc:11112", shares=shares)
    return replace(INSTALLATION, pools={"default": pool})


def volume(name: str, folder: Path, claim: ResourceKey) -> Manifest:
    """A volume that is a folder of this machine, kept for a claim."""
    spec = {
        "capacity": {"storage": "20Gi"},
        "accessModes": ["ReadWriteMany"],
        "hostPath": {"path": str(folder)},
        "claimRef": {"namespace": claim.namespace, "name": claim.name},
        "storageClassName": "",
        "persistentVolumeReclaimPolicy": "Retain",
    }
    metadata = {"name": name, "labels": {"test": "pools"}}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}


@dataclass
class Chart:
    """What the chart makes for the pool, as tests take it away again."""

    lab: Lab
    folder: Path
    claim = ResourceKey(HOME, "aegate-pool-default-spool")
    job = ResourceKey(HOME, "aegate-pool-default-drain")

    def apply(self) -> None:
        labels = {POOL_LABEL: "default", "app.kubernetes.io/name": "aegate-pool"}
        pod_labels = labels | {"app.kubernetes.io/managed-by": "aegate-operator"}
        mounted = [{"name": "spool", "persistentVolumeClaim": {"claimName": self.claim.name}}]
        template = {
            "metadata": {"labels": pod_labels},
            "spec": {"containers": [{"name": "receiver", "image": "localhost/none"}], "volumes": mounted},
        }
        claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "20Gi"}}}
        apply_all(
            self.lab,
            [
                volume("pool-spool", self.folder / "spool", self.claim),
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"namespace": HOME, "name": self.claim.name, "labels": labels},
                    "spec": {**claim, "storageClassName": ""},
                },
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "metadata": {"namespace": HOME, "name": "aegate-pool-default", "labels": labels},
                    "spec": {"selector": {"matchLabels": labels}, "template": template},
                },
            ],
        )

    def take_out(self) -> None:
        """Helm removes the Deployment; it keeps the claim."""
        self.lab.kubectl("delete", f"--namespace={HOME}", "deployment/aegate-pool-default", "--timeout=60s")


@pytest.fixture
async def chart(ward: Ward, tmp_path: Path) -> AsyncIterator[Chart]:
    """A pool, and the stores of its namespace: images and database are of this machine."""
    ward.listeners = PoolListeners(ward.admin)
    found = Chart(ward.lab, tmp_path)
    blobs, spool = tmp_path / "blobs", tmp_path / "spool"
    for folder in (blobs, spool):
        folder.mkdir()
    volume_of_blobs, claim, secret = store(HOME)
    volume_of_blobs["spec"]["hostPath"]["path"] = str(blobs)
    secret["stringData"]["dsn"] = f"sqlite://{ward.database}"
    apply_all(ward.lab, [volume_of_blobs, claim, secret])
    found.apply()
    for name in ("aegate-blobs", found.claim.name):
        wanted = "--for=jsonpath={.status.phase}=Bound"
        ward.lab.kubectl("wait", f"--namespace={HOME}", f"pvc/{name}", wanted, "--timeout=60s")
    yield found
    namespace = f"--namespace={HOME}"
    for what in ("deployments", "jobs", "persistentvolumeclaims", "configmaps", "secrets"):
        ward.lab.kubectl("delete", namespace, what, "--all", "--timeout=60s")
    ward.lab.kubectl("delete", "persistentvolume", "--selector=test=pools", "--timeout=60s")
    ward.lab.kubectl("delete", "persistentvolume", f"blobs-{HOME}", "--timeout=60s")


async def numbers(ward: Ward) -> list[int]:
    """Which ConfigMaps of the pool there are."""
    pool = Pool("default", "")
    return sorted(share_in(key_of(m).name, pool) or 0 for m in await config_maps(ward.admin, "default"))


async def within_rights(ward: Ward) -> None:
    """Nothing was asked that the operator's role does not have."""
    allowed = {(rule.group, rule.resource, verb) for rule in RULES for verb in rule.verbs}
    assert {(r.group, r.resource, r.verb) for r in ward.requests() if r.resource} - allowed == set()
    assert [r for r in ward.requests() if r.is_forbidden] == []


@pytest.mark.parametrize(("before", "after"), [(2, 7), (7, 2)])
async def test_another_number_of_shares_lets_nobody_out_and_leaves_nothing_over(
    ward: Ward, chart: Chart, radiology: str, before: int, after: int
) -> None:
    async with ward.operating(with_pool(before)):
        keys = [await ward.add_ae(radiology, f"ct{n}", **SHARED) for n in range(12)]
        for key in keys:
            await ward.until(key, "Ready", "True", "Ready")
        assert await numbers(ward) == list(range(before))
    lines = [line for m in await config_maps(ward.admin, "default") for line in lines_of(m)]

    async with ward.operating(with_pool(after)):

        async def is_settled() -> bool:
            live = await config_maps(ward.admin, "default")
            there = [line for m in live for line in lines_of(m)]
            assert set(there) == set(lines), "no AE is let out"
            return await numbers(ward) == list(range(after)) and sorted(there) == sorted(lines)

        await eventually_async(is_settled, deadline_s=DEADLINE_S)
        for key in keys:
            assert (await ward.conditions(key))["Ready"] == ("True", "Ready")
    await within_rights(ward)


def lines_of(manifest: Any) -> list[str]:
    [text] = manifest["data"].values()
    return [line.rstrip(",") for line in text.splitlines() if line.startswith("{")]


async def test_removed_pool_is_indexed_and_leaves_nothing(ward: Ward, chart: Chart, radiology: str) -> None:
    async with ward.operating(with_pool()):
        key = await ward.add_ae(radiology, **SHARED)
        await ward.until(key, "Ready", "True", "Ready")
    async with open_database(f"sqlite://{ward.database}") as db:
        with contextlib.closing(SpoolFolder(chart.folder / "spool", "pod-1")) as spool:
            place = Place(db, chart.folder, spool)
            place.receive_all(ct_study("left in a pool", COUNT), when=datetime.now(UTC))
        async with db.transaction() as tx:
            await write_progress(tx, Progress("pool-default", datetime.now(UTC), {}))

        async with ward.operating():
            await ward.until(key, "ResolvedRefs", "False", "PoolNotFound")
            assert await ward.find(JOB, chart.job) is None, "its Deployment is there"
            chart.take_out()
            await ward.until_gone(VOLUME_CLAIM, chart.claim)
            await ward.until_gone(JOB, chart.job)
            assert await config_maps(ward.admin, "default") == []
        assert await place.count("arrival") == COUNT
        assert await read_progress(db) == []
        assert place.spooled() == []
    listing = await ward.admin.list(POD, namespace=HOME, labels=f"{POOL_LABEL}=default")
    assert [m for m in listing.items if not m["metadata"].get("deletionTimestamp")] == []  # type: ignore[attr-defined]
    await within_rights(ward)


async def test_job_of_a_deleted_entity_goes_where_its_pods_were_let(
    ward: Ward, chart: Chart, radiology: str
) -> None:
    tolerations = [{"key": "storage", "operator": "Exists"}]
    listener = {"spool": {"type": "PersistentVolumeClaim"}, "pod": {"tolerations": tolerations}}
    claim = ResourceKey(radiology, "ae-ct1-spool")

    async def placement() -> str | None:
        live: Any = await ward.find(VOLUME_CLAIM, claim) or {"metadata": {}}
        found: str | None = live["metadata"].get("annotations", {}).get(PLACEMENT_ANNOTATION)
        return found

    async with ward.operating():
        key = await ward.add_ae(radiology, listener={"spool": listener["spool"]})
        await eventually_async(
            lambda: ward.find(DEPLOYMENT, ResourceKey(radiology, "ae-ct1")), deadline_s=DEADLINE_S
        )
        assert await placement() is None
        await ward.add_ae(radiology, listener=listener)
        await eventually_async(placement, deadline_s=DEADLINE_S)
        await ward.add_ae(radiology, listener={"spool": listener["spool"]})

        async def is_forgotten() -> bool:
            return await placement() is None

        await eventually_async(is_forgotten, deadline_s=DEADLINE_S)
        await ward.add_ae(radiology, listener=listener)
        await eventually_async(placement, deadline_s=DEADLINE_S)
        apply_all(ward.lab, [volume(f"spool-{radiology}", chart.folder / "ae-spool", claim)])

        async def is_bound() -> bool:
            live: Any = await ward.admin.get(VOLUME_CLAIM, claim)
            return bool(live["status"].get("phase") == "Bound")

        await eventually_async(is_bound, deadline_s=DEADLINE_S)
        await ward.remove(APPLICATION_ENTITY, key)
        gone = ("--ignore-not-found", "--timeout=60s")
        ward.lab.kubectl("delete", f"--namespace={radiology}", "deployment/ae-ct1", *gone)
        seen: list[Any] = []

        async def has_begun() -> bool:
            job = await ward.find(JOB, ResourceKey(radiology, "ae-ct1-drain"))
            seen.extend([job] if job else [])
            return bool(seen)

        await eventually_async(has_begun, deadline_s=DEADLINE_S)
        assert seen[0]["spec"]["template"]["spec"]["tolerations"] == tolerations
