"""What came of a change that was cut off is seen in the object, or said not to be known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterUnavailable
from aegate_core.resources.reference import ResourceRef
from aegate_core.resources.versions import spec_version
from aegate_core.services.audit import Area, Deed
from aegate_core.services.intents import MOST_AT_ONCE, OpenIntent, Place, begin, open_intents, settle, sweep
from aegate_core.services.manifests import Wish
from aegate_core.stores.index.projections import Projection, read_tombstone
from aegate_graphql_api.sweeping import Judge
from tests.integration.api.clients import API

LATER = timedelta(minutes=5)


@dataclass
class Kept:
    """Manifests of which only one is looked at."""

    is_local = False
    found: Projection | None = None
    is_away: bool = False

    async def read(self, ref: ResourceRef) -> Projection | None:
        if self.is_away:
            raise ClusterUnavailable("nobody answers")
        return self.found

    async def create(self, wish: Wish) -> Projection:
        raise AssertionError(wish)

    update = delete = create


async def test_each_cut_off_change_is_settled_once_from_what_is_there(empty_api: API) -> None:
    db, now = empty_api.db, datetime.now(UTC)
    row = await read_tombstone(db, "ApplicationEntity", ResourceKey("default", "ct1"))
    assert row is not None
    other = replace(row, spec={**row.spec, "port": 4242})
    before = {"before": {"version": spec_version(row.spec)}}
    table: list[tuple[str, dict[str, object], Projection | None, str]] = [
        ("updateApplicationEntity", {"spec": {"port": 104}, **before}, row, "DONE"),
        ("updateApplicationEntity", {"spec": {"port": 105}, **before}, row, "FAILED"),
        ("updateApplicationEntity", {"spec": {"port": 105}, **before}, other, "UNKNOWN"),
        ("updateApplicationEntity", {"spec": {"comment": None}, **before}, row, "DONE"),
        ("updateApplicationEntity", {"spec": {}, "labels": {"a": "b"}, **before}, row, "FAILED"),
        ("updateApplicationEntity", {"spec": {"port": 105}, **before}, None, "UNKNOWN"),
        ("createApplicationEntity", {"spec": {"port": 105}}, None, "FAILED"),
        ("createApplicationEntity", {"spec": {"port": 105}}, row, "UNKNOWN"),
        ("updateApplicationEntity", {"digest": {"bytes": 20_000}, **before}, row, "UNKNOWN"),
        ("createApplicationEntity", {"digest": {"bytes": 20_000}}, None, "FAILED"),
        ("deleteApplicationEntity", before, None, "DONE"),
        ("deleteApplicationEntity", before, row, "FAILED"),
        ("deleteApplicationEntity", before, other, "UNKNOWN"),
    ]
    for action, detail, found, outcome in table:
        deed = Deed("nurse", action, "ApplicationEntity:default/ct1", detail=detail, area=Area.ENTITIES)
        intent = await begin(db, deed, now=now)
        assert await sweep(db, Judge(Kept(found)), now=now) == 0, "it may still be under way"
        assert await sweep(db, Judge(Kept(is_away=True)), now=now + LATER) == 0
        assert await sweep(db, Judge(Kept(found)), now=now + LATER) == 1
        assert await sweep(db, Judge(Kept(found)), now=now + LATER) == 0
        await settle(db, intent, "DONE", now=now + LATER)  # late, by whoever began it
        rows = await db.fetch("SELECT outcome, actor FROM audit_event WHERE intent_id = $1", intent.id)
        assert rows == [{"outcome": outcome, "actor": "nurse"}], (action, detail)
    assert await open_intents(db, before=now + LATER) == []


async def test_what_cannot_be_judged_hides_nothing_behind_it(empty_api: API) -> None:
    db, now = empty_api.db, datetime.now(UTC)
    deed = Deed("nurse", "deleteApplicationEntity", "Unheard:of", area=Area.ENTITIES)
    old = [await begin(db, deed, now=now) for _ in range(MOST_AT_ONCE)]
    new = await begin(db, replace(deed, target="ApplicationEntity:default/gone"), now=now)
    judge, place = Judge(Kept(None)), Place()
    settled = [await sweep(db, judge, now=now + LATER, place=place) for _ in range(3)]
    assert (settled, place.after) == ([0, 1, 0], old[-1].id)
    rows = await db.fetch("SELECT intent_id, outcome FROM audit_event WHERE intent_id IS NOT NULL")
    assert rows == [{"intent_id": new.id, "outcome": "DONE"}]


async def test_a_fault_in_judging_one_is_not_met_again_at_once(empty_api: API) -> None:
    db, now = empty_api.db, datetime.now(UTC)
    deed = Deed("nurse", "deleteApplicationEntity", "ApplicationEntity:default/gone", area=Area.ENTITIES)
    broken, whole = [await begin(db, deed, now=now) for _ in range(2)]

    async def judge(intent: OpenIntent) -> str | None:
        if intent.id == broken.id:
            raise ValueError("a fault of ours")
        return "DONE"

    place = Place()
    with pytest.raises(ValueError, match="a fault of ours"):
        await sweep(db, judge, now=now + LATER, place=place)
    assert await sweep(db, judge, now=now + LATER, place=place) == 1
    assert [intent.id for intent in await open_intents(db, before=now + LATER)] == [broken.id]
    assert (place.after, whole.id > broken.id) == (0, True)
