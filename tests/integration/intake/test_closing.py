"""Studies close when they are quiet, route once, and late images follow alone. Time is an argument here."""

from __future__ import annotations

import asyncio

import pytest

from aegate_core.database import open_database
from aegate_core.errors import NotFound
from aegate_core.resources.values import (
    ApplicationEntity,
    ElementMatch,
    ElementOp,
    ImageRoute,
    Level,
    OnDuplicate,
    RouteFrom,
    StudyTimes,
)
from aegate_core.services.studies import (
    close_due,
    explain_header,
    explain_route,
    open_units_of,
    reroute,
)
from aegate_core.stores.index.progress import Progress, Waiting, write_progress
from tests import dicom
from tests.integration.intake.hospital import HOSPITAL, Place, at, entity, key, route


def with_entity(changed: ApplicationEntity) -> tuple[ApplicationEntity | ImageRoute, ...]:
    return (changed, *(r for r in HOSPITAL if r.key != changed.key))  # type: ignore[misc]


def with_routes(*routes: ImageRoute) -> tuple[ApplicationEntity | ImageRoute, ...]:
    return (*(r for r in HOSPITAL if isinstance(r, ApplicationEntity)), *routes)


async def close(place: Place, seconds: float) -> list[tuple[str, int, int]]:
    return [(c.outcome, c.deliveries, c.instances) for c in await close_due(place.db, now=at(seconds))]


async def test_study_closes_after_its_quiet_period_and_goes_out_once(place: Place) -> None:
    place.receive_all(dicom.ct_study("study 1", 3))
    place.receive(dicom.ct(dicom.Instance(number=4)), when=at(30))
    await place.index(at(31))

    assert await close(place, 89) == []
    assert await place.count("close_unit", "due_at IS NOT NULL") == 1
    assert await close(place, 90) == [("ROUTED", 1, 4)]
    assert await close(place, 91) == []
    (delivery,) = await place.deliveries()
    assert delivery["destination"] == "default/pacs"
    assert (delivery["level"], delivery["instances_total"], delivery["priority"]) == ("Study", 4, 70)
    assert (bool(delivery["supplementary"]), delivery["requested_by"]) == (False, "route:default/ct-to-pacs")
    assert await place.count("close_unit", "due_at IS NOT NULL") == 0


async def test_late_images_go_out_alone(place: Place) -> None:
    place.receive_all(dicom.ct_study("study 1", 3))
    await place.index(at(1))
    await close(place, 60)
    place.receive(dicom.ct(dicom.Instance(number=9)), when=at(100))
    await place.index(at(101))

    assert await close(place, 159) == []
    assert await close(place, 160) == [("ROUTED", 1, 1)]
    assert [(d["instances_total"], bool(d["supplementary"])) for d in await place.deliveries()] == [
        (3, False),
        (1, True),
    ]


async def test_steady_stream_closes_at_the_maximum_age(place: Place) -> None:
    for n in range(14):
        place.receive(dicom.ct(dicom.Instance(number=n)), when=at(n * 50))
        await place.index(at(n * 50 + 1))
        closed = await close(place, n * 50 + 2)
        assert closed == ([("ROUTED", 1, 13)] if n == 12 else []), n


async def test_clock_that_was_ahead_keeps_nothing_open(place: Place) -> None:
    place.receive(dicom.ct(), when=at(7200))
    await place.index(at(1))

    assert await close(place, 60) == []
    assert await close(place, 61) == [("ROUTED", 1, 1)]


async def test_quiet_period_edited_live_holds_for_what_waits(place: Place) -> None:
    place.receive(dicom.ct())
    await place.index(at(1))
    assert await close(place, 10) == []
    await place.apply(*with_entity(entity("ct1", study=StudyTimes(quiet_period_s=5, max_age_s=600))))

    assert await close(place, 10) == [("ROUTED", 1, 1)]


async def test_unit_stays_open_while_the_spool_may_hold_more_of_it(place: Place) -> None:
    place.receive(dicom.ct())
    await place.index(at(1))
    (unit,) = await place.db.fetch("SELECT study_id FROM close_unit")

    await say(place, scanned=59)
    assert await close(place, 100) == []
    (open_unit,) = await open_units_of(place.db, [unit["study_id"]], now=at(100))
    assert open_unit.reason == "indexer i1 has not looked into the spool since it was due"
    await say(place, scanned=61, waiting={"default/ct1": Waiting(at(40), 3000)})
    assert await close(place, 100) == []
    await say(
        place, scanned=62, waiting={"default/ct1": Waiting(at(61), 3), "default/us1": Waiting(at(2), 9)}
    )
    assert await close(place, 100) == [("ROUTED", 1, 1)]


async def test_indexer_that_is_gone_for_good_keeps_nothing_open_for_ever(place: Place) -> None:
    place.receive(dicom.ct())
    await place.index(at(1))
    await say(place, scanned=5)

    assert await close(place, 60 + 900) == []
    assert await close(place, 60 + 901) == [("ROUTED", 1, 1)]


async def test_spool_full_after_an_outage_makes_one_delivery(place: Place) -> None:
    count = 600
    place.receive_all(dicom.ct_study("study 1", count))
    spooled = place.spooled()
    await say(place, scanned=4000, waiting={"default/ct1": Waiting(at(0), count)})
    for start in range(0, count, 200):
        await place.index_some(spooled[start : start + 200], at(4000))
        assert await close(place, 4000) == []
    await say(place, scanned=4010)

    assert await close(place, 4010) == [("ROUTED", 1, count)]
    assert [d["instances_total"] for d in await place.deliveries()] == [count]


async def say(place: Place, *, scanned: float, waiting: dict[str, Waiting] | None = None) -> None:
    async with place.db.transaction() as tx:
        await write_progress(tx, Progress("i1", at(scanned), waiting or {}))


async def test_what_no_route_takes_is_said_and_can_be_routed_again(place: Place) -> None:
    await place.apply(*with_routes())
    place.receive_all(dicom.ct_study("study 1", 2))
    await place.index(at(1))
    assert await close(place, 60) == [("NO_ROUTE", 0, 2)]
    unit_id = await place.db.fetch_value("SELECT id FROM close_unit WHERE outcome = 'NO_ROUTE'")
    await place.apply(*with_routes(route("mended", ["pacs", "ws1"])))

    async with place.db.transaction() as tx:
        closed = await reroute(tx, unit_id, actor="jo", now=at(70))
    assert (closed.outcome, closed.deliveries, closed.instances) == ("ROUTED", 2, 2)
    async with place.db.transaction() as tx:
        again = await reroute(tx, unit_id, actor="jo", now=at(71))
    assert (again.outcome, again.deliveries) == ("ROUTED", 0)
    assert {d["requested_by"] for d in await place.deliveries()} == {"person:jo"}
    async with place.db.transaction() as tx:
        with pytest.raises(NotFound):
            await reroute(tx, unit_id + 1000, actor="jo", now=at(72))


async def test_route_level_none_stores_only(place: Place) -> None:
    await place.apply(*with_entity(entity("ct1", Level.NONE)))
    place.receive(dicom.ct())
    await place.index(at(1))

    assert await close(place, 60) == [("STORED", 0, 1)]
    assert await place.deliveries() == []


async def test_series_level_closes_each_series_by_itself(place: Place) -> None:
    await place.apply(*with_entity(entity("ct1", Level.SERIES)))
    place.receive(dicom.ct(dicom.Instance(series="a")))
    place.receive(dicom.ct(dicom.Instance(series="b", number=2)), when=at(30))
    await place.index(at(31))

    assert await close(place, 60) == [("ROUTED", 1, 1)]
    assert await close(place, 90) == [("ROUTED", 1, 1)]
    assert [d["level"] for d in await place.deliveries()] == ["Series", "Series"]


async def test_override_sends_series_early_and_the_study_leaves_them_out_for_that_destination(
    place: Place,
) -> None:
    await place.apply(
        *with_routes(
            route("study", ["pacs"], RouteFrom(aes=("ct1",))),
            route("series", ["ws1"], RouteFrom(aes=("ct1",)), level=Level.SERIES, priority=90),
            route("both", ["ws1"], RouteFrom(aes=("ct1",))),
        )
    )
    place.receive(dicom.ct(dicom.Instance(series="a")))
    place.receive(dicom.ct(dicom.Instance(series="b", number=2)), when=at(30))
    await place.index(at(31))
    await close(place, 60)
    await close(place, 90)

    sent = sorted(
        (str(d["destination"]), str(d["level"]), d["instances_total"]) for d in await place.deliveries()
    )
    assert sent == [
        ("default/pacs", "Study", 2),
        ("default/ws1", "Series", 1),
        ("default/ws1", "Series", 1),
    ]
    assert await place.count("delivery_instance") == 4


@pytest.mark.parametrize(
    ("before", "after"),
    [(Level.STUDY, Level.SERIES), (Level.STUDY, Level.IMAGE), (Level.SERIES, Level.STUDY)],
)
async def test_level_edited_while_images_wait_loses_none(place: Place, before: Level, after: Level) -> None:
    await place.apply(*with_entity(entity("ct1", before)))
    place.receive(dicom.ct(dicom.Instance(number=1)))
    await place.index(at(1))
    await place.apply(*with_entity(entity("ct1", after)))
    place.receive(dicom.ct(dicom.Instance(number=2)), when=at(2))
    await place.index(at(3))
    await close(place, 1000)

    delivered = await place.db.fetch(
        "SELECT arrival_id, count(*) AS n FROM delivery_instance GROUP BY arrival_id"
    )
    assert [r["n"] for r in delivered] == [1, 1]


@pytest.mark.parametrize(
    ("on_duplicate", "deliveries"), [(OnDuplicate.IGNORE, 1), (OnDuplicate.REDELIVER, 2)]
)
async def test_duplicates_go_out_again_only_where_a_route_says_so(
    place: Place, on_duplicate: OnDuplicate, deliveries: int
) -> None:
    await place.apply(*with_routes(route("r", ["pacs"], on_duplicate=on_duplicate)))
    place.receive(dicom.ct())
    await place.index(at(1))
    await close(place, 60)
    place.receive(dicom.ct(), when=at(100))
    await place.index(at(101))
    assert (await close(place, 160))[0][0] == "ROUTED"

    assert len(await place.deliveries()) == deliveries


async def test_duplicate_of_what_never_went_out_is_sent(place: Place) -> None:
    await place.apply(*with_routes())
    place.receive(dicom.ct())
    await place.index(at(1))
    await close(place, 60)
    await place.apply(*with_routes(route("r", ["pacs"])))
    place.receive(dicom.ct(), when=at(100))
    await place.index(at(101))

    assert await close(place, 160) == [("ROUTED", 1, 1)]


async def test_newest_of_two_contents_is_routed(place: Place) -> None:
    other = dicom.ct()
    other.ImageComments = "other"
    place.receive(dicom.ct())
    newest = place.receive(other)
    await place.index(at(1))

    assert await close(place, 60) == [("ROUTED", 1, 1)]
    assert await place.db.fetch("SELECT arrival_id FROM delivery_instance") == [{"arrival_id": newest}]


async def test_deliveries_of_a_patient_mismatch_are_held(place: Place) -> None:
    place.receive(dicom.ct())
    place.receive(dicom.ct(dicom.Instance(number=2, patient_id="ZZSENT-OTHER")))
    await place.index(at(1))
    await close(place, 60)

    (delivery,) = await place.deliveries()
    assert (delivery["state"], delivery["hold_code"]) == ("HELD", "PATIENT_MISMATCH")


async def test_nothing_goes_back_to_where_it_came_from(place: Place) -> None:
    await place.apply(*with_routes(route("all", ["pacs", "ws1"])))
    place.receive(dicom.ct(), "pacs")
    await place.index(at(1))
    await close(place, 60)

    assert [d["destination"] for d in await place.deliveries()] == ["default/ws1"]


async def test_closing_one_devices_unit_leaves_the_others_open(place: Place) -> None:
    place.receive(dicom.ct())
    place.receive(dicom.ct(dicom.Instance(number=2)), "ws1", when=at(50))
    await place.index(at(51))

    assert [c.ae for c in await close_due(place.db, now=at(60))] == [key("ct1")]
    assert await place.count("close_unit", "due_at IS NOT NULL") == 1


async def test_four_workers_close_each_unit_once(place: Place) -> None:
    for n in range(12):
        place.receive(dicom.ct(dicom.Instance(study=f"study {n}")))
    await place.index(at(1))
    async with open_database(place.db.url) as two, open_database(place.db.url) as three:
        closed = await asyncio.gather(*(close_due(db, now=at(60)) for db in (place.db, two, three, place.db)))

    assert sum(len(c) for c in closed) == 12
    assert len(await place.deliveries()) == 12
    assert await place.db.fetch_value("SELECT max(closes) FROM close_unit") == 1


async def test_arrivals_indexed_while_others_close_are_never_lost(place: Place) -> None:
    count = 30
    place.receive_all(dicom.ct_study("study 1", count))
    spooled = place.spooled()

    async def index() -> None:
        async with open_database(place.db.url) as db:
            for arrival in spooled:
                await place.index_some([arrival], at(1), db=db)

    indexing = asyncio.create_task(index())
    while not indexing.done():
        await close_due(place.db, now=at(1000))
    await indexing
    await close_due(place.db, now=at(1000))

    delivered = await place.db.fetch(
        "SELECT arrival_id, count(*) AS n FROM delivery_instance GROUP BY arrival_id"
    )
    assert [r["n"] for r in delivered] == [1] * count


async def test_routes_explain_themselves(place: Place) -> None:
    condition = ElementMatch("BodyPartExamined", ElementOp.IN, ("KNEE", "HIP"))
    await place.apply(
        *with_routes(
            route("all", ["pacs"]),
            route("knee", ["ws1"], RouteFrom(elements=(condition,))),
            route("mr", ["ws1"], RouteFrom(modalities=("MR",))),
            route("off", ["ws1"], enabled=False),
            route("us", ["ws1"], RouteFrom(aes=("us1",))),
        )
    )
    place.receive_all(dicom.ct_study("study 1", 2))
    await place.index(at(1))
    study_id = await place.db.fetch_value("SELECT id FROM study")

    (explained,) = (await explain_route(place.db, study_id)).sources
    assert {v.route.name: (v.matches, v.reason) for v in explained.routes} == {
        "all": (True, "matches everything"),
        "knee": (False, "no image meets BodyPartExamined In KNEE | HIP"),
        "mr": (False, "no image is of modality MR"),
        "off": (False, "the route is not enabled"),
        "us": (False, "ct1 is not among from.aes"),
    }
    assert [(d.destination, len(d.arrival_ids)) for d in explained.destinations] == [(key("pacs"), 2)]
    header = {
        "00080060": {"vr": "CS", "Value": ["MR"]},
        "00180015": {"vr": "CS", "Value": ["Knee"]},
    }
    sample = await explain_header(place.db, key("ct1"), header)
    assert [v.route.name for v in sample.routes if v.matches] == ["all", "knee", "mr"]
    assert [d.destination for d in sample.destinations] == [key("pacs"), key("ws1")]


async def test_elements_of_the_header_choose_the_destination(place: Place) -> None:
    await place.apply(
        *with_routes(
            route(
                "knee",
                ["ws1"],
                RouteFrom(elements=(ElementMatch("StudyDescription", ElementOp.CONTAINS, ("KNEE",)),)),
            )
        )
    )
    place.receive(dicom.ct())
    await place.index(at(1))

    assert await close(place, 60) == [("ROUTED", 1, 1)]


async def test_clock_that_was_set_back_lets_a_study_close_after_its_quiet_period(place: Place) -> None:
    place.receive_all(dicom.ct_study("study 1", 2), when=at(3600))
    await place.index(at(3600))

    assert await close(place, 10) == []
    assert await close(place, 69) == []
    place.receive(dicom.ct(dicom.Instance(number=9)), when=at(69))
    await place.index(at(69))
    assert await close(place, 128) == []
    assert await close(place, 129) == [("ROUTED", 1, 3)]


async def test_newest_content_goes_out_though_its_id_is_older(place: Place) -> None:
    place._count = 10
    older = place.receive(dicom.ct(dicom.Instance(rows=16)), when=at(-1))
    await place.index(at(1))
    place._count = 0
    newer = place.receive(dicom.ct(dicom.Instance(rows=32)), when=at(0))
    await place.index(at(2))
    assert newer < older

    assert await close(place, 60) == [("ROUTED", 1, 1)]
    (sent,) = await place.db.fetch("SELECT arrival_id FROM delivery_instance")
    assert sent["arrival_id"] == newer
    assert await place.count("conflict") == 1
