"""Everything is listed before anything is done; half a list is none."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterNotFound
from aegate_core.resources.reference import ResourceRef
from aegate_core.stores.cluster.client import ClusterClient, Listing, Manifest
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, PATIENT_PARTITION, POD, Kind
from aegate_operator.cache import CHILDREN, DECLARED, Cache
from aegate_operator.declared import Declared
from aegate_operator.informer import Informer
from aegate_operator.metrics import OperatorMetrics
from aegate_operator.resync import LABELS, PAGE, Resync, ResyncTimes, scopes
from tests.integration.waiting import eventually_async, pass_turns
from tests.unit.operator.ground import CRDS


class Lists:
    """An API server that lists AEs by name, and one kind that it may not have yet."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.missing: Kind | None = None
        self.version = 10
        self.asked: list[tuple[Kind, str, str]] = []

    async def list_kept(
        self, kind: Kind, *, keep: Any, namespace: str = "", labels: str = "", limit: int = 0
    ) -> Listing[bytes]:
        assert limit == PAGE
        self.asked.append((kind, namespace, labels))
        if kind == self.missing:
            raise ClusterNotFound(f"list {kind.plural}: the server could not find the requested resource")
        self.version += 1
        items = [keep(self._ae(name)) for name in self.names] if kind == APPLICATION_ENTITY else []
        return Listing(tuple(items), str(self.version))

    @staticmethod
    def _ae(name: str) -> Manifest:
        metadata = {"namespace": "radiology", "name": name, "uid": name, "resourceVersion": "5"}
        spec = {"title": name.upper(), "node": "10.1.2.3", "port": 104}
        return {
            "apiVersion": "aegate.dev/v1alpha1",
            "kind": "ApplicationEntity",
            "metadata": metadata,
            "spec": spec,
        }


def made(lists: Lists, *namespaces: str) -> tuple[Resync, Informer, OperatorMetrics]:
    informer = Informer(Cache(), Declared(CRDS), [].append)
    metrics = OperatorMetrics()
    resync = Resync(
        cast(ClusterClient, lists),
        informer,
        metrics,
        scopes(namespaces),
        ResyncTimes(retry_s=0.01, gather_s=0.05),
    )
    return resync, informer, metrics


def ae(name: str) -> ResourceRef:
    return ResourceRef("ApplicationEntity", ResourceKey("radiology", name))


async def test_children_are_listed_before_those_they_belong_to() -> None:
    lists = Lists("ct1")
    resync, informer, _ = made(lists)
    assert resync.trouble == "not everything has been listed yet"
    await resync.first()
    assert [kind for kind, _, _ in lists.asked] == [*CHILDREN, POD, *DECLARED]
    assert {labels for kind, _, labels in lists.asked if kind in DECLARED} == {""}
    assert {labels for kind, _, labels in lists.asked if kind not in DECLARED} == {LABELS}
    assert informer.everything() == [ae("ct1")]
    assert resync.trouble == ""


async def test_half_a_list_is_none() -> None:
    lists = Lists("ct1", "mr1")
    resync, informer, metrics = made(lists)
    await resync.first()
    lists.names, lists.missing = ["ct1"], PATIENT_PARTITION
    assert await resync._try() is False
    assert resync.trouble == "list patientpartitions: the server could not find the requested resource"
    assert informer.everything() == [ae("ct1"), ae("mr1")]
    lists.missing = None
    assert await resync._try() is True
    assert informer.everything() == [ae("ct1")]
    assert metrics.registry.get_sample_value("aegate_operator_resync_ghosts_total") == 1


async def test_each_namespace_is_asked_by_itself() -> None:
    lists = Lists()
    resync, _, _ = made(lists, "radiology", "cardiology")
    await resync.first()
    assert len(lists.asked) == 22
    assert {namespace for _, namespace, _ in lists.asked} == {"radiology", "cardiology"}


async def test_watches_that_begin_anew_one_after_the_other_share_a_list() -> None:
    lists = Lists("ct1")
    resync, _, _ = made(lists)
    rounds: list[int] = []
    running = asyncio.create_task(
        resync.run(enqueue=lambda ref, delay_s: None, done=lambda: rounds.append(len(lists.asked)))
    )
    for _ in range(5):
        resync.soon()
        await pass_turns(1)
    await eventually_async(lambda: rounds)
    running.cancel()
    assert rounds == [11]
    assert not resync._wanted.is_set()


@pytest.mark.parametrize(("jitter", "after_s"), [(0.0, 540.0), (0.5, 600.0), (1.0, 660.0)])
def test_it_is_done_every_ten_minutes_more_or_less(jitter: float, after_s: float) -> None:
    assert ResyncTimes(jitter=lambda: jitter).next_s() == pytest.approx(after_s)
