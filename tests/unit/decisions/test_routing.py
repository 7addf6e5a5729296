"""Routes: what matches, at which level, how urgently; and what must hold whatever the routes are."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegate_core.decisions.route_matching import (
    Image,
    Source,
    asked_keywords,
    glob,
    image_elements,
    meets,
    why_not_images,
    why_not_source,
)
from aegate_core.decisions.routing import Plan, Unit, level_of, plan, unit_levels
from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.values import (
    ApplicationEntity,
    ElementMatch,
    ElementOp,
    ImageRoute,
    Level,
    Metadata,
    OnDuplicate,
    Push,
    RouteFrom,
)


def key(name: str, namespace: str = "default") -> ResourceKey:
    return ResourceKey(namespace, name)


EVERYTHING = RouteFrom()
CT1 = Source(key("ct1"), Level.STUDY, "default", {"site": "north"}, "ER", "CT")
IMAGE = Image("a1", "s1", "i1", "CT", {"StudyDescription": ("Knee left",)})


def route(to: Sequence[str], asked: RouteFrom = EVERYTHING, name: str = "r", **values: object) -> ImageRoute:
    return ImageRoute(Metadata(key(name)), tuple(to), asked, **values)  # type: ignore[arg-type]  # by name


def pacs(priority: int) -> dict[ResourceKey, ApplicationEntity]:
    entity = ApplicationEntity(Metadata(key("pacs")), AETitle("PACS"), "h", 104, push=Push(priority=priority))
    return {entity.key: entity}


def planned(*routes: ImageRoute, source: Source = CT1, images: Sequence[Image] = (IMAGE,)) -> Plan:
    return plan(source, images, routes, pacs(70), Unit(Level.STUDY))


@pytest.mark.parametrize(
    ("asked", "why_not"),
    [
        (RouteFrom(), None),
        (RouteFrom(aes=("ct1", "ct2")), None),
        (RouteFrom(aes=("ct2",)), "ct1 is not among from.aes"),
        (RouteFrom(match_labels={"site": "north"}), None),
        (RouteFrom(match_labels={"site": "south"}), "ct1 has no label site=south"),
        (RouteFrom(partitions=("default",)), None),
        (RouteFrom(partitions=("other",)), "partition default is not among from.partitions"),
        (RouteFrom(locations=("ER",)), None),
        (RouteFrom(locations=("ICU",)), "location ER is not among from.locations"),
        (RouteFrom(document_types=("CT",)), None),
        (RouteFrom(document_types=("US",)), "document type CT is not among from.documentTypes"),
    ],
)
def test_every_part_of_from_counts(asked: RouteFrom, why_not: str | None) -> None:
    assert why_not_source(route(["pacs"], asked), CT1) == why_not


def test_route_of_another_namespace_or_switched_off_takes_nothing() -> None:
    other = ImageRoute(Metadata(key("r", "other")), ("pacs",))

    assert why_not_source(other, CT1) == "the route is of namespace other, the AE of default"
    assert why_not_source(route(["pacs"], enabled=False), CT1) == "the route is not enabled"
    assert planned(other, route(["pacs"], enabled=False)).deliveries == ()


@pytest.mark.parametrize(
    ("op", "values", "found", "expected"),
    [
        (ElementOp.IN, ("KNEE",), ("Knee",), True),
        (ElementOp.IN, ("KNEE",), ("Knee left",), False),
        (ElementOp.IN, ("hip", "knee"), ("a", "KNEE"), True),
        (ElementOp.IN, ("KNEE",), None, False),
        (ElementOp.NOT_IN, ("KNEE",), ("HIP",), True),
        (ElementOp.NOT_IN, ("KNEE",), ("HIP", "knee"), False),
        (ElementOp.NOT_IN, ("KNEE",), None, True),
        (ElementOp.STARTS_WITH, ("kn",), ("KNEE",), True),
        (ElementOp.STARTS_WITH, ("nee",), ("KNEE",), False),
        (ElementOp.CONTAINS, ("NEE",), ("a knee",), True),
        (ElementOp.CONTAINS, ("x",), ("a knee",), False),
        (ElementOp.MATCHES, ("k?ee*",), ("KNEE left",), True),
        (ElementOp.MATCHES, ("k?e",), ("KNEE",), False),
        (ElementOp.EXISTS, (), ("x",), True),
        (ElementOp.EXISTS, (), (), True),
        (ElementOp.EXISTS, (), None, False),
        (ElementOp.DOES_NOT_EXIST, (), None, True),
        (ElementOp.DOES_NOT_EXIST, (), ("x",), False),
    ],
)
def test_conditions_on_elements(
    op: ElementOp, values: tuple[str, ...], found: tuple[str, ...] | None, expected: bool
) -> None:
    assert meets(ElementMatch("BodyPartExamined", op, values), found) is expected


def test_one_image_must_meet_all_that_is_asked_of_an_image() -> None:
    knee = ElementMatch("StudyDescription", ElementOp.CONTAINS, ("knee",))
    asked = route(["pacs"], RouteFrom(modalities=("MR",), elements=(knee,)))
    mr = Image("a2", "s2", "i2", "MR", {"StudyDescription": ("Head",)})

    assert why_not_images(asked, [IMAGE]) == "no image is of modality MR"
    assert (
        why_not_images(asked, [IMAGE, mr])
        == "no image that meets the rest meets StudyDescription Contains knee"
    )
    assert why_not_images(route(["pacs"], RouteFrom(elements=(knee,))), [mr, IMAGE]) is None
    assert why_not_images(asked, []) == "there is no image"


def test_elements_are_read_from_the_header_by_keyword() -> None:
    header = {
        "00080060": {"vr": "CS", "Value": ["CT"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^B", "Ideographic": "C"}]},
        "00081030": {"vr": "LO"},
        "00400275": {"vr": "SQ", "Value": [{}]},
        "00280010": {"vr": "US", "Value": [512]},
    }
    keywords = [
        "Modality",
        "PatientName",
        "StudyDescription",
        "RequestAttributesSequence",
        "Rows",
        "NoSuchThing",
    ]

    assert image_elements(header, keywords) == {
        "Modality": ("CT",),
        "PatientName": ("A^B", "C"),
        "RequestAttributesSequence": (),
        "Rows": ("512",),
    }


def test_only_enabled_routes_ask_for_keywords() -> None:
    asked = RouteFrom(elements=(ElementMatch("Rows", ElementOp.EXISTS),))

    assert asked_keywords([route(["pacs"], asked)]) == {"Rows"}
    assert asked_keywords([route(["pacs"], asked, enabled=False)]) == frozenset()


def test_several_routes_to_one_destination_make_one_delivery_of_the_highest_priority() -> None:
    chosen = planned(
        route(["pacs"], name="a"),
        route(["pacs", "ws1"], name="b", priority=90, on_duplicate=OnDuplicate.REDELIVER),
        route(["pacs"], name="c", priority=10),
    )

    assert [(d.destination.name, d.priority, [r.name for r in d.routes]) for d in chosen.deliveries] == [
        ("pacs", 90, ["a", "b", "c"]),
        ("ws1", 90, ["b"]),
    ]
    assert chosen.deliveries[0].redeliver == {"a1"}


@pytest.mark.parametrize(("override", "priority"), [(None, 70), (0, 0), (100, 100)])
def test_priority_is_the_routes_else_the_destinations(override: int | None, priority: int) -> None:
    assert planned(route(["pacs"], priority=override)).deliveries[0].priority == priority


def test_destination_that_is_not_known_yet_is_planned_for() -> None:
    assert planned(route(["later"])).deliveries[0].priority == 50


def test_none_on_the_device_wins_over_a_routes_level() -> None:
    source = Source(key("ct1"), Level.NONE, "default")
    chosen = planned(route(["pacs"], level=Level.IMAGE), source=source)

    assert chosen.deliveries == ()
    assert chosen.verdicts[0].reason == "matches, but the AE's routeLevel is None: stored only"
    assert chosen.is_matched


def test_image_unit_serves_image_routes_alone() -> None:
    routes = [route(["pacs"], level=Level.IMAGE, name="i"), route(["ws1"], name="s")]
    chosen = plan(CT1, [IMAGE], routes, {}, Unit(Level.IMAGE))

    assert [d.destination.name for d in chosen.deliveries] == ["pacs"]


def test_units_are_opened_for_the_devices_level_and_for_overrides_that_can_match() -> None:
    series = route(["pacs"], level=Level.SERIES)
    elsewhere = route(["pacs"], RouteFrom(aes=("us1",)), level=Level.SERIES)

    assert unit_levels(CT1, [elsewhere]) == (Level.STUDY,)
    assert unit_levels(CT1, [series, elsewhere]) == (Level.STUDY, Level.SERIES)
    assert unit_levels(Source(key("ct1"), Level.IMAGE, "default"), []) == (Level.STUDY,)
    assert unit_levels(Source(key("ct1"), Level.SERIES, "default"), []) == (Level.SERIES,)
    assert unit_levels(Source(key("ct1"), Level.NONE, "default"), [series]) == (Level.STUDY,)


def test_study_leaves_to_open_series_what_they_will_deliver() -> None:
    images = [Image("a1", "s1", "i1", "CT"), Image("a2", "s2", "i2", "CT")]
    series = route(["pacs"], level=Level.SERIES)

    both_closed = plan(CT1, images, [series], {}, Unit(Level.STUDY))
    one_open = plan(CT1, images, [series], {}, Unit(Level.STUDY, open_series=frozenset({"s2"})))

    assert both_closed.deliveries[0].arrival_ids == ("a1", "a2")
    assert one_open.deliveries[0].arrival_ids == ("a1",)


# What must hold whatever the routes are.

NAMES = st.sampled_from(["ct1", "us1", "pacs", "ws1"])
LEVELS = st.sampled_from(list(Level))
ASKED = st.builds(
    RouteFrom,
    aes=st.lists(NAMES, max_size=2, unique=True).map(tuple),
    modalities=st.lists(st.sampled_from(["CT", "MR"]), max_size=2, unique=True).map(tuple),
)
ROUTES = st.lists(
    st.builds(
        ImageRoute,
        metadata=st.builds(Metadata, key=st.builds(key, st.text("abc", min_size=1, max_size=3))),
        to=st.lists(NAMES, min_size=1, max_size=3, unique=True).map(tuple),
        source=ASKED,
        level=st.one_of(st.none(), st.sampled_from([Level.STUDY, Level.SERIES, Level.IMAGE])),
        priority=st.one_of(st.none(), st.integers(0, 100)),
        on_duplicate=st.sampled_from(list(OnDuplicate)),
        enabled=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda r: r.key,
)
IMAGES = st.lists(
    st.builds(
        Image,
        arrival_id=st.integers(0, 99).map(str),
        series_uid=st.sampled_from(["s1", "s2"]),
        sop_instance_uid=st.just("i"),
        modality=st.sampled_from(["CT", "MR"]),
        is_new=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda i: i.arrival_id,
)
SOURCES = st.builds(lambda name, level: Source(key(name), level, "default"), NAMES, LEVELS)


@given(SOURCES, IMAGES, ROUTES, st.sampled_from([Level.STUDY, Level.SERIES, Level.IMAGE]))
def test_plans_are_sound(source: Source, images: list[Image], routes: list[ImageRoute], level: Level) -> None:
    chosen = plan(source, images, routes, pacs(70), Unit(level))
    destinations = [d.destination for d in chosen.deliveries]

    assert len(set(destinations)) == len(destinations)
    assert source.ae not in destinations
    assert len(chosen.verdicts) == len(routes)
    assert plan(source, images, routes[::-1], pacs(70), Unit(level)) == chosen
    for delivery in chosen.deliveries:
        assert 0 <= delivery.priority <= 100
        assert delivery.redeliver <= set(delivery.arrival_ids)
        assert len(set(delivery.arrival_ids)) == len(delivery.arrival_ids)
        assert set(delivery.arrival_ids) <= {i.arrival_id for i in images if i.is_new}
    if source.level is Level.NONE:
        assert chosen.deliveries == ()


@given(SOURCES, IMAGES, ROUTES)
def test_closed_study_has_delivered_everything_that_any_of_its_units_would(
    source: Source, images: list[Image], routes: list[ImageRoute]
) -> None:
    """Nothing falls between two levels: what images and series alone would get is in the plan of the study."""

    def pairs(units: list[tuple[list[Image], Level]]) -> set[tuple[str, str]]:
        found = set()
        for part, level in units:
            served = [r for r in routes if level_of(r, source) is level]
            for delivery in plan(source, part, served, {}, Unit(level)).deliveries:
                found |= {(delivery.destination.name, a) for a in delivery.arrival_ids}
        return found

    alone = [([i], Level.IMAGE) for i in images]
    series = [([i for i in images if i.series_uid == s], Level.SERIES) for s in ("s1", "s2")]
    whole = plan(source, images, routes, {}, Unit(Level.STUDY))

    got = {(d.destination.name, a) for d in whole.deliveries for a in d.arrival_ids}
    assert got == pairs([*alone, *series, (images, Level.STUDY)])


@given(st.text("ab*?c", max_size=12), st.text("ab*?", max_size=8))
def test_glob_is_what_a_regular_expression_says(text: str, pattern: str) -> None:
    expression = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern)

    assert glob(text, pattern) is (re.fullmatch(expression, text, re.DOTALL) is not None)
    assert glob("abc", "a*") is fnmatch.fnmatchcase("abc", "a*")


def test_glob_of_many_stars_on_a_long_text_ends_soon() -> None:
    assert glob("a" * 3000, "*a" * 100 + "b") is False
