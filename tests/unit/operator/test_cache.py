"""What the operator knows of the cluster: whose it is, and what it costs."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import pytest

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.stores.cluster.client import Manifest, key_of
from aegate_core.stores.cluster.kinds import CONFIG_MAP, DEPLOYMENT, SERVICE, Kind
from aegate_operator.cache import Cache
from aegate_operator.reconcile import family
from tests.proofs.fleet.fleet import children_of, entity_of
from tests.unit.operator.ground import INSTALLATION

MOST_BYTES = 20_000
"""Of memory for all children of an AE."""


@pytest.fixture
def tracing() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def made(number: int) -> list[tuple[Kind, Manifest]]:
    return children_of(entity_of("radiology", number, {}), INSTALLATION)


def filled(count: int) -> Cache:
    cache = Cache()
    for number in range(count):
        for kind, manifest in made(number):
            assert cache.put(kind, _of_cluster(manifest, number))
    return cache


def _of_cluster(manifest: Manifest, number: int) -> Manifest:
    metadata = manifest["metadata"]
    assert isinstance(metadata, dict)
    return {**manifest, "metadata": {**metadata, "uid": f"uid-{number}", "resourceVersion": str(number + 1)}}


def test_what_is_read_is_the_readers_own() -> None:
    cache = filled(1)
    key = key_of(next(manifest for kind, manifest in made(0) if kind == CONFIG_MAP))
    first = cache.get(CONFIG_MAP, key)
    assert first is not None
    first["data"] = {}
    assert cache.get(CONFIG_MAP, key) == _of_cluster(dict(made(0))[CONFIG_MAP], 0)


def test_children_are_given_by_kind() -> None:
    cache, of = filled(2), family(ResourceKey("radiology", "ae000001"))
    assert [kind for kind, _ in cache.children(of, SERVICE, DEPLOYMENT)] == [DEPLOYMENT, SERVICE]
    assert {kind for kind, _ in cache.children(of)} == {kind for kind, _ in made(1)}


def test_known_is_told_without_reading_it() -> None:
    cache = filled(1)
    assert cache.has(SERVICE, ResourceKey("radiology", "ae-ae000000"))
    assert not cache.has(SERVICE, ResourceKey("radiology", "ae-ae000001"))


def test_children_of_an_entity_take_little_memory(tracing: None) -> None:
    filled(1)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    cache = filled(100)
    gc.collect()
    bytes_each = (tracemalloc.get_traced_memory()[0] - before) / 100
    assert len(cache.keys(DEPLOYMENT)) == 100
    assert bytes_each < MOST_BYTES
