"""Which destinations images go to, as what, how urgently, and for every route the words why or why not.

What a unit (a study or a series from one AE, or a single image) is delivered as is the *route's own level*: its
override, else the AE's; None on the AE always wins. Several routes to one destination make one delivery of a unit,
with the highest priority. The surprise: a closing unit also serves routes of another level, where no other open unit
will: so a level that is edited while images are on their way loses none. The caller leaves out what the destination
already has in its queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aegate_core.decisions.route_matching import Image, Source, why_not_images, why_not_source
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.values import ApplicationEntity, ImageRoute, Level, OnDuplicate, Push


@dataclass(frozen=True, slots=True)
class Unit:
    """What is being routed now, and which other units of the same study and AE are still open."""

    level: Level
    open_series: frozenset[str] = frozenset()
    open_study: bool = False


@dataclass(frozen=True, slots=True)
class RouteVerdict:
    """What one route says. ``level``: the unit in which it delivers; None where it delivers nothing."""

    route: ResourceKey
    matches: bool
    reason: str
    level: Level | None = None
    to: tuple[ResourceKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """A delivery of the unit to one destination."""

    destination: ResourceKey
    priority: int
    routes: tuple[ResourceKey, ...]
    arrival_ids: tuple[str, ...]
    redeliver: frozenset[str] = frozenset()
    """Those of them that go out again even when the destination had the same before (`onDuplicate: Redeliver`)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to be delivered, and what every route said."""

    deliveries: tuple[Planned, ...]
    verdicts: tuple[RouteVerdict, ...]

    @property
    def is_matched(self) -> bool:
        """Whether any route took anything, also where another unit delivers it."""
        return any(v.matches for v in self.verdicts)


@dataclass(slots=True)
class _Gathered:
    priority: int = 0
    routes: list[ResourceKey] = field(default_factory=list)
    arrivals: dict[str, None] = field(default_factory=dict)
    redeliver: set[str] = field(default_factory=set)


def level_of(route: ImageRoute, source: Source) -> Level:
    """Return the unit in which ``route`` delivers what ``source`` sends; None on the AE wins."""
    return Level.NONE if source.level is Level.NONE else route.level or source.level


def unit_levels(source: Source, routes: Iterable[ImageRoute]) -> tuple[Level, ...]:
    """Return the levels (STUDY, SERIES) at which units of ``source`` are to be opened; the first is its own.

    An AE that stores only, or routes by image, has a study unit too: its close says that the study is complete, and
    whether any route took it.
    """
    own = Level.SERIES if source.level is Level.SERIES else Level.STUDY
    levels = {level_of(r, source) for r in routes if why_not_source(r, source) is None}
    return (own, *(level for level in (Level.STUDY, Level.SERIES) if level in levels and level is not own))


def plan(
    source: Source,
    images: Sequence[Image],
    routes: Iterable[ImageRoute],
    entities: Mapping[ResourceKey, ApplicationEntity],
    unit: Unit,
) -> Plan:
    """Return what to deliver of the new ones of ``images``; all of them decide whether a route matches."""
    gathered: dict[ResourceKey, _Gathered] = {}
    verdicts = []
    for route in sorted(routes, key=lambda r: r.key):
        verdict, taken = _judge(route, source, images, unit)
        verdicts.append(verdict)
        for name in route.to if taken else ():
            destination = ResourceKey(route.key.namespace, name)
            if destination != source.ae:
                _gather(
                    gathered.setdefault(destination, _Gathered()), route, taken, entities.get(destination)
                )
    return Plan(tuple(_planned(d, g) for d, g in sorted(gathered.items())), tuple(verdicts))


def _judge(
    route: ImageRoute, source: Source, images: Sequence[Image], unit: Unit
) -> tuple[RouteVerdict, tuple[str, ...]]:
    """Return the verdict of one route and the arrivals that this unit delivers for it."""
    if reason := why_not_source(route, source):
        return RouteVerdict(route.key, False, reason), ()
    level = level_of(route, source)
    reason, matched, taken = "there is no image", False, []
    for group in _groups(level, unit.level, images):
        refusal = why_not_images(route, group)
        if refusal:
            reason = refusal
            continue
        matched = True
        if not _is_left_to_another(level, unit, group[0].series_uid):
            taken += [i.arrival_id for i in group if i.is_new]
    if not matched:
        return RouteVerdict(route.key, False, reason), ()
    if level is Level.NONE:
        return RouteVerdict(route.key, True, "matches, but the AE's routeLevel is None: stored only"), ()
    to = tuple(ResourceKey(route.key.namespace, name) for name in route.to)
    return RouteVerdict(route.key, True, _why(route, source, to), level, to), tuple(taken)


def _groups(level: Level, unit: Level, images: Sequence[Image]) -> Iterator[Sequence[Image]]:
    """Yield what a route of ``level`` judges as one in a unit: finer routes judge its parts one by one."""
    if level is Level.SERIES and unit is Level.STUDY:
        by_series: dict[str, list[Image]] = {}
        for image in images:
            by_series.setdefault(image.series_uid, []).append(image)
        yield from by_series.values()
    elif level is Level.IMAGE and unit is not Level.IMAGE:
        yield from ([image] for image in images)
    elif images:
        yield images


def _is_left_to_another(level: Level, unit: Unit, series_uid: str) -> bool:
    """Say whether a unit of ``level`` is still open and will deliver these images at its own close."""
    if unit.level is Level.IMAGE:
        return level is not Level.IMAGE
    if level is Level.SERIES and unit.level is Level.STUDY:
        return series_uid in unit.open_series
    return level is Level.STUDY and unit.level is Level.SERIES and unit.open_study


def _why(route: ImageRoute, source: Source, to: tuple[ResourceKey, ...]) -> str:
    asked = route.source
    parts = {
        "aes": asked.aes,
        "selector": asked.match_labels,
        "partitions": asked.partitions,
        "locations": asked.locations,
        "documentTypes": asked.document_types,
        "modalities": asked.modalities,
        "elements": asked.elements,
    }
    named = [name for name, value in parts.items() if value]
    said = f"matches by {', '.join(named)}" if named else "matches everything"
    return said + (f"; nothing goes back to {source.ae.name}" if source.ae in to else "")


def _gather(
    into: _Gathered, route: ImageRoute, arrivals: Sequence[str], entity: ApplicationEntity | None
) -> None:
    default = entity.push.priority if entity else Push().priority
    priority = default if route.priority is None else route.priority
    into.priority = max(into.priority, priority) if into.routes else priority
    into.routes.append(route.key)
    into.arrivals.update(dict.fromkeys(arrivals))
    if route.on_duplicate is OnDuplicate.REDELIVER:
        into.redeliver.update(arrivals)


def _planned(destination: ResourceKey, gathered: _Gathered) -> Planned:
    return Planned(
        destination,
        gathered.priority,
        tuple(gathered.routes),
        tuple(gathered.arrivals),
        frozenset(gathered.redeliver),
    )
