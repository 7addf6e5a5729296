"""Plans beside a second reading of the rules, written from the documentation: image by image and destination by
destination, with none of the code under test but its values.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hypothesis import event, given
from hypothesis import strategies as st

from aegate_core.decisions.route_matching import Image, Source
from aegate_core.decisions.routing import Unit, plan, unit_levels
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

PACS = ResourceKey("default", "pacs")
ENTITIES = {PACS: ApplicationEntity(Metadata(PACS), AETitle("PACS"), "h", 104, push=Push(priority=70))}


@dataclass
class Wanted:
    """What the model says of one destination."""

    priority: int = -1
    routes: set[ResourceKey] = field(default_factory=set)
    arrivals: set[str] = field(default_factory=set)
    redeliver: set[str] = field(default_factory=set)


def model(
    source: Source, images: Sequence[Image], routes: Sequence[ImageRoute], unit: Unit
) -> dict[str, Wanted]:
    wanted: dict[str, Wanted] = {}
    for image in images:
        for route in routes:
            if not image.is_new or not delivers(route, source, image, images, unit):
                continue
            for name in route.to:
                if name == source.ae.name:
                    continue
                default = 70 if name == "pacs" else 50
                entry = wanted.setdefault(name, Wanted())
                entry.priority = max(entry.priority, default if route.priority is None else route.priority)
                entry.routes.add(route.key)
                entry.arrivals.add(image.arrival_id)
                if route.on_duplicate is OnDuplicate.REDELIVER:
                    entry.redeliver.add(image.arrival_id)
    return wanted


def delivers(route: ImageRoute, source: Source, image: Image, images: Sequence[Image], unit: Unit) -> bool:
    """Say whether the unit sends ``image`` for ``route``, by the route's level and the units that are open."""
    if source.level is Level.NONE or not comes_from(route, source):
        return False
    level = route.level or source.level
    if unit.level is Level.IMAGE:
        return level is Level.IMAGE and meets_all(route, image)
    if level is Level.IMAGE:
        return meets_all(route, image)
    if level is Level.SERIES:
        siblings = [i for i in images if unit.level is Level.SERIES or i.series_uid == image.series_uid]
        later = unit.level is Level.STUDY and image.series_uid in unit.open_series
        return not later and any(meets_all(route, i) for i in siblings)
    later = unit.level is Level.SERIES and unit.open_study
    return not later and any(meets_all(route, i) for i in images)


def comes_from(route: ImageRoute, source: Source) -> bool:
    asked = route.source
    return (
        route.enabled
        and route.key.namespace == source.ae.namespace
        and (not asked.aes or source.ae.name in asked.aes)
        and set(asked.match_labels.items()) <= set(source.labels.items())
        and (not asked.partitions or source.partition in asked.partitions)
        and (not asked.locations or source.location_code in asked.locations)
        and (not asked.document_types or source.document_type in asked.document_types)
    )


def meets_all(route: ImageRoute, image: Image) -> bool:
    modalities = route.source.modalities
    return (not modalities or image.modality in modalities) and all(
        meets(e, image.elements) for e in route.source.elements
    )


def meets(asked: ElementMatch, elements: Mapping[str, tuple[str, ...]]) -> bool:
    have = [v.lower() for v in elements.get(asked.keyword, ())]
    values = [v.lower() for v in asked.values]
    answers = {
        ElementOp.EXISTS: asked.keyword in elements,
        ElementOp.DOES_NOT_EXIST: asked.keyword not in elements,
        ElementOp.IN: bool(set(have) & set(values)),
        ElementOp.NOT_IN: not set(have) & set(values),
        ElementOp.STARTS_WITH: any(h[: len(v)] == v for h in have for v in values),
        ElementOp.CONTAINS: any(h.find(v) >= 0 for h in have for v in values),
        ElementOp.MATCHES: any(fnmatch.fnmatchcase(h, v) for h in have for v in values),
    }
    return answers[asked.op]


def some(*values: str, at_least: int = 0, at_most: int = 2) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), min_size=at_least, max_size=at_most, unique=True).map(tuple)


TEXTS = ("Knee", "KNEE left", "head", "h")
ASKED_ELEMENTS = st.lists(
    st.builds(
        ElementMatch,
        st.sampled_from(["StudyDescription", "BodyPartExamined"]),
        st.sampled_from(list(ElementOp)),
        some("knee", "head", "k*", "*e?d", at_least=1),
    ),
    max_size=2,
).map(tuple)
ASKED = st.one_of(  # a part at a time, or hardly anything would match
    st.just(RouteFrom()),
    st.builds(RouteFrom, aes=some("ct1", "us1", at_least=1)),
    st.builds(RouteFrom, match_labels=st.fixed_dictionaries({"a": st.sampled_from("12")})),
    st.builds(RouteFrom, partitions=some("default", "north", at_least=1), locations=some("ER", "ICU")),
    st.builds(RouteFrom, document_types=some("CT", "US", at_least=1)),
    st.builds(RouteFrom, modalities=some("CT", "SR"), elements=ASKED_ELEMENTS),
)
ROUTES = st.lists(
    st.builds(
        ImageRoute,
        metadata=st.builds(
            Metadata,
            key=st.builds(
                ResourceKey,
                st.sampled_from(["default"] * 9 + ["other"]),
                st.text("ab", min_size=1, max_size=3),
            ),
        ),
        to=some("ct1", "pacs", "ws1", at_least=1, at_most=3),
        source=ASKED,
        level=st.sampled_from([None, None, Level.STUDY, Level.SERIES, Level.IMAGE]),
        priority=st.one_of(st.none(), st.integers(0, 100)),
        on_duplicate=st.sampled_from(list(OnDuplicate)),
        enabled=st.sampled_from([True, True, True, False]),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda r: r.key,
)
SOURCES = st.builds(
    Source,
    ae=st.sampled_from([ResourceKey("default", "ct1"), ResourceKey("default", "us1")]),
    level=st.sampled_from([*Level, Level.STUDY, Level.SERIES]),
    partition=st.sampled_from(["default", "north"]),
    labels=st.fixed_dictionaries({"a": st.sampled_from("12")}),
    location_code=st.sampled_from([None, "ER"]),
    document_type=st.sampled_from(["CT", "US"]),
)
ELEMENTS = st.dictionaries(
    st.sampled_from(["StudyDescription", "BodyPartExamined"]), some(*TEXTS), max_size=2
)


@st.composite
def units(draw: st.DrawFn) -> tuple[Unit, list[Image]]:
    """A unit with its images: a series holds images of one series, a single image is one."""
    level = draw(st.sampled_from([Level.STUDY, Level.SERIES, Level.IMAGE]))
    names = ["s1", "s2"] if level is Level.STUDY else ["s1"]
    count = draw(st.integers(1, 1 if level is Level.IMAGE else 6))
    images = [
        Image(
            f"a{n}",
            draw(st.sampled_from(names)),
            f"i{n}",
            draw(st.sampled_from(["CT", "SR"])),
            draw(ELEMENTS),
            is_new=level is Level.IMAGE or draw(st.sampled_from([True, True, False])),
        )
        for n in range(count)
    ]
    open_series = draw(st.frozensets(st.sampled_from(["s1", "s2"]))) if level is Level.STUDY else frozenset()
    return Unit(level, open_series, level is Level.SERIES and draw(st.booleans())), images


@given(SOURCES, units(), ROUTES)
def test_plan_is_what_the_rules_say_of_each_image_and_destination(
    source: Source, unit_and_images: tuple[Unit, list[Image]], routes: list[ImageRoute]
) -> None:
    unit, images = unit_and_images
    chosen = plan(source, images, routes, ENTITIES, unit)

    got = {
        d.destination.name: Wanted(d.priority, set(d.routes), set(d.arrival_ids), set(d.redeliver))
        for d in chosen.deliveries
        if d.arrival_ids
    }
    wanted = model(source, images, routes, unit)
    event(f"destinations: {len(wanted)}")
    assert got == wanted


@given(SOURCES, units(), ROUTES)
def test_every_level_that_delivers_has_a_unit_that_will_close(
    source: Source, unit_and_images: tuple[Unit, list[Image]], routes: list[ImageRoute]
) -> None:
    """With the units that indexing opens, each image goes to each destination once, whichever closes first."""
    images = [
        Image(i.arrival_id, i.series_uid, i.sop_instance_uid, i.modality, i.elements)
        for i in unit_and_images[1]
    ]
    levels = unit_levels(source, routes)
    all_series = frozenset(i.series_uid for i in images)
    sent: list[tuple[str, str]] = []
    for n, level in enumerate(sorted(levels)):
        rest = levels if n == 0 else (level,)
        for series in sorted(all_series) if level is Level.SERIES else [""]:
            part = [i for i in images if series in ("", i.series_uid)]
            unit = Unit(
                level,
                open_series=all_series if level is Level.STUDY and Level.SERIES in rest else frozenset(),
                open_study=level is Level.SERIES and Level.STUDY in rest,
            )
            for delivery in plan(source, part, routes, ENTITIES, unit).deliveries:
                pairs = [(delivery.destination.name, a) for a in delivery.arrival_ids]
                sent += [p for p in pairs if p not in sent]
    whole = model(source, images, routes, Unit(Level.STUDY))

    assert set(sent) == {(name, a) for name, entry in whole.items() for a in entry.arrivals}
