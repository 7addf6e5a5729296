"""Over how many ConfigMaps the AEs of a pool are shared out: another number lets nobody out, and enough fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.values import ApplicationEntity, Listener, ListenerMode, Metadata
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, POD
from aegate_operator.pools import (
    LARGEST_BYTES,
    checked,
    config_map,
    file_of,
    line_of,
    placed,
    share_of,
)
from aegate_operator.reports import Report
from tests.unit.operator.ground import INSTALLATION, Ground
from tests.unit.operator.test_pools import POOL, added, config_maps, revisions, serve, settle


def files_of(ground: Ground, key: ResourceKey) -> list[str]:
    """The files in which an AE is."""
    return sorted(f for f, text in config_maps(ground).items() if f'"{key}"' in text)


def has_every_entity(ground: Ground, keys: list[ResourceKey], mounts: int) -> bool:
    """Whether a pod that mounts that many files as they are now admits all."""
    return all(any(int(f[:3]) < mounts for f in files_of(ground, key)) for key in keys)


def with_shares(shares: int) -> Any:
    return replace(INSTALLATION, pools={"default": replace(POOL, shares=shares)})


@pytest.mark.parametrize(("before", "after"), [(2, 7), (7, 2), (1, 64), (64, 1)])
async def test_another_number_of_shares_leaves_every_entity_in_what_pods_mount_and_nothing_over(
    before: int, after: int
) -> None:
    old = Ground(installation=with_shares(before))
    keys = await added(old, *(f"ct{i}" for i in range(30)))
    await serve(old, "pool-a", "pool-b")

    new = Ground(old.cluster, with_shares(after))
    new.reader.said = dict(old.reader.said)
    seen = list[bool]()
    saw = new.cluster.saw

    def look(*event: Any) -> None:
        seen.append(has_every_entity(new, keys, mounts=max(before, after)))
        saw(*event)

    new.cluster.saw = look
    await settle(new)
    moved = [
        key
        for key in keys
        if share_of(key, replace(POOL, shares=before)) != share_of(key, replace(POOL, shares=after))
    ]
    assert moved
    assert all(len(files_of(new, key)) == 2 for key in moved), "where it was, and where it belongs"

    await serve(new, "pool-a")
    assert all(len(files_of(new, key)) == 2 for key in moved), "pool-b has what was before"
    assert {new.conditions(key)["Ready"] for key in keys} == {("True", "Ready")}, (
        "nobody's condition flickers"
    )

    await serve(new, "pool-b")
    await settle(new)
    assert sorted(config_maps(new)) == [file_of(share) for share in range(after)]
    assert [files_of(new, key) for key in keys] == [
        [file_of(share_of(key, replace(POOL, shares=after)))] for key in keys
    ]
    await serve(new, "pool-a", "pool-b")
    assert {new.conditions(key)["Ready"] for key in keys} == {("True", "Ready")}
    assert set(seen) == {True}, "at no moment was an AE in no file"
    new.cluster.writes.clear()
    await settle(new)
    assert new.cluster.writes == []


async def test_pods_that_mount_only_the_older_files_keep_their_entities_until_they_are_gone() -> None:
    old = Ground(installation=with_shares(2))
    keys = await added(old, *(f"ct{i}" for i in range(30)))
    await serve(old, "pool-a")
    new = Ground(old.cluster, with_shares(8))
    files = {file_of(0), file_of(1)}

    await settle(new)
    new.reader.said["pool-a"] = Report(
        "of the chart", "ready", entities={f: r for f, r in revisions(new).items() if f in files}
    )
    new.clock.pass_(120)
    await new.ask_pods()
    await serve(new, "pool-b")
    assert has_every_entity(new, keys, mounts=2)

    live = new.cluster.of(POD, ResourceKey("aegate-system", "pool-a"))
    leaving = {**live["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    new.cluster.put(POD, {**live, "metadata": leaving})
    await settle(new)
    assert has_every_entity(new, keys, mounts=2), "it still lets in, until every node knows"

    new.cluster.lose(POD, ResourceKey("aegate-system", "pool-a"))
    await settle(new)
    assert all(len(files_of(new, key)) == 1 for key in keys)


async def test_edit_while_an_entity_moves_reaches_both_places() -> None:
    old = Ground(installation=with_shares(1))
    keys = await added(old, *(f"ct{i}" for i in range(9)))
    await serve(old, "pool-a")
    new = Ground(old.cluster, with_shares(4))
    await settle(new)
    key = next(key for key in keys if len(files_of(new, key)) == 2)

    new.add_ae(key.name, node="10.9.9.9")
    await settle(new)

    texts = config_maps(new)
    lines = [line for f in files_of(new, key) for line in texts[f].splitlines() if f'"{key}"' in line]
    assert len(lines) == 2 and all('"10.9.9.9"' in line for line in lines)
    new.cluster.lose(APPLICATION_ENTITY, key)
    await settle(new)
    assert files_of(new, key) == []


async def test_suspended_entity_moves_as_it_is_told_now() -> None:
    old = Ground(installation=with_shares(1))
    await added(old, *(f"ct{i}" for i in range(9)))
    old.add_ae("ct1", suspend=True, node="10.9.9.9")
    await settle(old)
    new = Ground(old.cluster, with_shares(5))
    await settle(new)
    await serve(new, "pool-a")
    await settle(new)
    key = ResourceKey("radiology", "ct1")
    assert files_of(new, key) == [file_of(share_of(key, replace(POOL, shares=5)))]
    assert "10.9.9.9" not in config_maps(new)[files_of(new, key)[0]]


def of_longest_names(number: int, **listener: Any) -> ApplicationEntity:
    """An AE of a pool whose namespace, name, title and host name are as long as they may be."""
    tail = f"{number:05}"
    key = ResourceKey(f"radiology-{'n' * 48}{tail}", f"ct-{'m' * 55}{tail}")
    node = ".".join(["d" * 63, "e" * 63, "f" * 63, "g" * 55 + tail])
    ranges = tuple(f"fd00:1111:2222:3333:4444:5555:{i:04x}:0000/112" for i in range(16))
    assert (len(key.namespace), len(key.name), len(node)) == (63, 63, 252)
    return ApplicationEntity(
        Metadata(key, uid=tail, generation=1),
        title=AETitle(f"{'T' * 11}{tail}"),
        node=node,
        port=104,
        source_ranges=ranges,
        listener=Listener(mode=ListenerMode.SHARED, called_title=AETitle("C" * 16), **listener),
    )


def test_ten_thousand_entities_of_the_longest_names_fit_into_a_pool() -> None:
    pool = replace(POOL, shares=64)
    entities = [of_longest_names(number) for number in range(10_000)]
    wished = {ae.key: line_of(ae, pool, INSTALLATION) for ae in entities}

    found = placed(wished, {}, pool, lambda key: True)

    sizes = [
        len(
            checked(pool, share, config_map(pool, share, lines, INSTALLATION))["data"][
                file_of(share)
            ].encode()
        )  # type: ignore[index]
        for share, lines in found.items()
    ]
    line = len(next(iter(wished.values())))
    print(f"{line} bytes a line; ConfigMaps of {min(sizes)} to {max(sizes)} bytes")
    assert sum(len(lines) for lines in found.values()) == 10_000
    assert max(sizes) < LARGEST_BYTES


def test_a_config_map_holds_as_many_ordinary_entities_as_the_chart_says() -> None:
    ae = replace(of_longest_names(1), node="ct-1.radiology.example.org", source_ranges=("10.20.0.0/16",))
    ae = replace(ae, metadata=Metadata(ResourceKey("radiology", "ct-1"), uid="1", generation=1))
    line = len(line_of(ae, POOL, INSTALLATION))
    print(f"{line} bytes a line")
    assert LARGEST_BYTES / (line + 2) > 800
