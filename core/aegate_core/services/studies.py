"""Studies on their way out: closing what is complete, routing it, and saying what every route made of it.

A close is one transaction: the unit's row is locked, the routes are asked, the deliveries enqueued, the close
written. Any number of workers may do it at once; who finds the row locked goes on to the next. Killed anywhere,
nothing has happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from aegate_core.database import Database
from aegate_core.decisions.closing import IndexerSeen, due_at, why_open
from aegate_core.decisions.duplicates import Outcome
from aegate_core.decisions.route_matching import Image, Source, asked_keywords, image_elements
from aegate_core.decisions.routing import Plan, Planned, RouteVerdict, Unit, level_of, plan
from aegate_core.dicom.elements import texts
from aegate_core.dicom.identifiers import ArrivalId, ResourceKey
from aegate_core.errors import NotFound
from aegate_core.events import UNIT_CLOSED, Log
from aegate_core.resources.values import Level, StudyTimes
from aegate_core.services.audit import RECEIVED, Area, Deed, record
from aegate_core.services.deliveries import NewDelivery, enqueue
from aegate_core.services.entities import Configuration, load_configuration
from aegate_core.services.senders import senders, source_of
from aegate_core.stores.index import closing as index
from aegate_core.stores.index.progress import read_progress
from aegate_core.stores.index.retention import any_here
from aegate_core.stores.index.sent import Queued, queued

MAX_OPEN_UNITS = 2_000
"""Looked at in one go, the first due first; by feel: a hospital of 100 devices has some tens."""

CLOCKS_DIFFER = timedelta(seconds=5)
"""Nothing arrives later than now by more than this, by the database's clock: unless that was set back since."""

log = Log("studies")


@dataclass(frozen=True, slots=True)
class Closed:
    """One close, and what it put into the queue."""

    unit_id: int
    study_id: int
    ae: ResourceKey
    level: Level
    outcome: str
    """ROUTED, NO_ROUTE, or STORED (the AE's route level is None, or there was nothing new)."""
    deliveries: int
    instances: int
    """New ones that the close covers, whether or not they are delivered."""


@dataclass(frozen=True, slots=True)
class OpenUnit:
    """A study or series that is not complete yet, and why."""

    unit_id: int
    study_id: int
    ae: ResourceKey
    series_uid: str
    due_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class SourceExplanation:
    """What every route makes of what one AE sent: ``destinations`` are what a close now would deliver to."""

    ae: ResourceKey
    level: Level
    routes: tuple[RouteVerdict, ...]
    destinations: tuple[Planned, ...]
    images: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """`explainRoute` of a study: one entry for each AE that sent some of it."""

    study_id: int
    sources: tuple[SourceExplanation, ...]


async def close_due(
    db: Database, *, now: datetime, limit: int = 50, configuration: Configuration | None = None
) -> list[Closed]:
    """Close units that are due and that nothing keeps open, at most ``limit``; return those closed by this call.

    The times in force are those of the AE now: a quiet period edited live holds for what is already waiting.
    """
    units = await index.open_units(db, limit=MAX_OPEN_UNITS)
    if not units:
        return []
    known = await load_configuration(db, configuration)
    indexers = await _indexers(db)
    entities = await senders(db, known, {u.ae for u in units})
    done: list[Closed] = []
    for unit in units:
        if unit.last_arrival_at - now > CLOCKS_DIFFER:
            times = entities[unit.ae].study
            await db.atomically(lambda tx, u=unit, t=times: _bring_back(tx, u, t, now))  # type: ignore[misc]
            continue
        due = due_at(
            unit.last_arrival_at, unit.first_uncovered_at or unit.last_arrival_at, entities[unit.ae].study
        )
        if why_open(str(unit.ae), due, indexers, now=now) is not None:
            continue
        closed = await db.atomically(lambda tx, u=unit: _close_if_unchanged(tx, u, known, now))  # type: ignore[misc]
        if closed is not None:
            _report(closed)
            done.append(closed)
        if len(done) >= limit:
            break
    return done


async def reroute(tx: Database, close_unit_id: int, *, actor: str, now: datetime) -> Closed:
    """Ask the routes again about all that a unit ever held; enqueue what they now want and nobody has yet.

    Raises NotFound. A unit that is still open is closed by it.
    """
    unit = await index.lock_unit(tx, close_unit_id)
    if unit is None:
        raise NotFound(f"there is no close unit {close_unit_id}: read the list again")
    if not await any_here(tx, unit.study_id, str(unit.ae)):
        raise NotFound(
            f"the images of close unit {close_unit_id} were removed by retention, nothing is left to route: "
            "let the device send them again"
        )
    configuration = await load_configuration(tx)
    return await _close(tx, replace(unit, closed_at=None), configuration, now=now, actor=f"person:{actor}")


async def explain_route(db: Database, study_id: int) -> Explanation:
    """Return what every route makes of a study as it lies there, as if all of it were new. Raises NotFound."""
    facts = await index.study_facts(db, study_id)
    if facts is None:
        raise NotFound(f"there is no study {study_id}")
    configuration = await load_configuration(db)
    units = await index.units_of(db, [study_id])
    entities = await senders(db, configuration, {u.ae for u in units})
    explained = []
    for ae, entity in sorted(entities.items()):
        source = source_of(entity, location_code=facts.location_code, document_type=facts.document_type)
        keywords = asked_keywords(configuration.routes.values())
        arrived = await index.arrived(db, study_id, ae, series_uid="", keywords=keywords)
        images = [_image(a, None) for a in _newest(arrived)]
        explained.append(_explained(source, images, configuration))
    return Explanation(study_id, tuple(explained))


async def explain_header(db: Database, ae: ResourceKey, header: Mapping[str, object]) -> SourceExplanation:
    """Return what every route would make of one image of ``ae`` with this header (DICOM JSON). Raises NotFound."""
    configuration = await load_configuration(db)
    entity = configuration.entities.get(ae)
    if entity is None:
        raise NotFound(f"there is no ApplicationEntity {ae}")
    modality = next(iter(texts(header, "Modality")), "")
    source = source_of(
        entity, location_code=entity.location_code, document_type=entity.document_type or modality
    )
    elements = image_elements(header, asked_keywords(configuration.routes.values()))
    return _explained(source, [Image("sample", "", "", modality, elements)], configuration)


async def open_dues(db: Database, ae: ResourceKey | None = None) -> list[datetime]:
    """Return when what is open of ``ae`` is due, in order; without ``ae`` at most one time, of anything at all."""
    units = await index.open_units(db, limit=MAX_OPEN_UNITS if ae else 1, ae=ae)
    return [unit.due_at for unit in units if unit.due_at is not None]


async def open_units_of(db: Database, study_ids: Sequence[int], *, now: datetime) -> list[OpenUnit]:
    """Return what is still open of some studies, each with the words why (WAITING_FOR_COMPLETE)."""
    indexers = await _indexers(db)
    return [
        OpenUnit(u.id, u.study_id, u.ae, u.series_uid, u.due_at, reason)
        for u in await index.units_of(db, study_ids)
        if u.due_at is not None
        and (
            reason := why_open(str(u.ae), u.due_at, indexers, now=now)
            or "is complete: a worker closes it next"
        )
    ]


@dataclass(frozen=True, slots=True)
class NewImages:
    """What one AE just sent of one study; ``elements`` of the images hold what `asked_keywords` names."""

    study_id: int
    source: Source
    arrived: tuple[index.Arrived, ...]


async def route_images(tx: Database, new: NewImages, configuration: Configuration, *, now: datetime) -> int:
    """Enqueue single images by the routes of level Image, in the transaction that indexes them; return how many."""
    routes, source = configuration.routes.values(), new.source
    if not any(level_of(route, source) is Level.IMAGE for route in routes):
        return 0
    facts = await index.study_facts(tx, new.study_id)
    assert facts is not None
    already = await queued(tx, new.study_id, [a.sha256 for a in new.arrived])
    deliveries: list[NewDelivery] = []
    for a in _newest(new.arrived):
        chosen = plan(source, [_image(a, None)], routes, configuration.entities, Unit(Level.IMAGE))
        origin = _Origin(source.ae, new.study_id, facts, Level.IMAGE, a.sop_instance_uid, f"image:{a.id}")
        deliveries += _new_deliveries(origin, chosen, {a.id: a}, already)
    return await enqueue(tx, deliveries, now=now)


async def _indexers(db: Database) -> list[IndexerSeen]:
    return [
        IndexerSeen(
            p.process, p.scanned_at, {ae: w.oldest_received_at for ae, w in p.waiting.items()}, ae=p.ae
        )
        for p in await read_progress(db)
    ]


async def _bring_back(tx: Database, seen: index.Unit, times: StudyTimes, now: datetime) -> None:
    """Let the quiet period of a unit begin now, whose last image came by a clock that was ahead and was set right."""
    unit = await index.lock_open_unit(tx, seen)
    if unit is None or unit.last_arrival_at != seen.last_arrival_at:
        return
    first = min(unit.first_uncovered_at or now, now)
    await index.move(tx, [(unit.id, first, now, due_at(now, first, times))])


async def _close_if_unchanged(
    tx: Database, seen: index.Unit, configuration: Configuration, now: datetime
) -> Closed | None:
    """Close the unit unless another worker has it, or something arrived since it was looked at."""
    unit = await index.lock_open_unit(tx, seen)
    if unit is None or unit.last_arrival_at != seen.last_arrival_at or unit.due_at != seen.due_at:
        return None
    return await _close(tx, unit, configuration, now=now)


async def _close(
    tx: Database, unit: index.Unit, configuration: Configuration, *, now: datetime, actor: str | None = None
) -> Closed:
    """Route the new images of a locked unit, enqueue their deliveries, write the close."""
    facts = await index.study_facts(tx, unit.study_id)
    assert facts is not None
    entity = (await senders(tx, configuration, {unit.ae}))[unit.ae]
    source = source_of(entity, location_code=facts.location_code, document_type=facts.document_type)
    keywords = asked_keywords(configuration.routes.values())
    arrived = await index.arrived(tx, unit.study_id, unit.ae, series_uid=unit.series_uid, keywords=keywords)
    images = _images(arrived, unit.closed_at)
    others = [
        u
        for u in await index.units_of(tx, [unit.study_id])
        if u.ae == unit.ae and u.due_at and u.id != unit.id
    ]
    level = Level.SERIES if unit.series_uid else Level.STUDY
    scope = Unit(
        level,
        open_series=frozenset(u.series_uid for u in others if u.series_uid),
        open_study=any(not u.series_uid for u in others),
    )
    chosen = plan(source, images, configuration.routes.values(), configuration.entities, scope)
    by_id = {a.id: a for a in arrived}
    already = await queued(
        tx, unit.study_id, sorted({by_id[i.arrival_id].sha256 for i in images if i.is_new})
    )
    origin = _Origin(
        unit.ae,
        unit.study_id,
        facts,
        level,
        unit.series_uid or facts.uid,
        f"close:{unit.id}:{unit.closes + 1}",
        is_supplement=unit.closes > 0,
        actor=actor,
    )
    deliveries = await enqueue(tx, _new_deliveries(origin, chosen, by_id, already), now=now)
    outcome = _outcome(unit, source, images, chosen)
    await index.close(tx, unit, outcome=outcome, at=_close_time(unit, arrived, now))
    covered = sum(i.is_new for i in images)
    if covered:
        detail = {
            "study": unit.study_id,
            "ae": str(unit.ae),
            "images": covered,
            "series": unit.series_uid or None,
        }
        deed = Deed(
            actor or "close",
            RECEIVED,
            f"Study:{unit.study_id}",
            detail=detail,
            area=Area.IMAGES,
            partition=str(facts.partition),
        )
        await record(tx, deed, now=now)
    return Closed(unit.id, unit.study_id, unit.ae, level, outcome, deliveries, covered)


def _close_time(unit: index.Unit, arrived: Sequence[index.Arrived], now: datetime) -> datetime:
    """Return a time not before anything the close covers was indexed: other machines' clocks may be ahead."""
    return max([now, *(a.indexed_at for a in arrived), *([unit.closed_at] if unit.closed_at else [])])


def _outcome(unit: index.Unit, source: Source, images: Sequence[Image], chosen: Plan) -> str:
    if source.level is Level.NONE:
        return "STORED"
    if not any(i.is_new for i in images):
        return unit.outcome or "STORED"
    if chosen.is_matched:
        return "ROUTED"
    is_own_level = bool(unit.series_uid) == (source.level is Level.SERIES)
    return "NO_ROUTE" if is_own_level else "STORED"


def _images(arrived: Sequence[index.Arrived], closed_at: datetime | None) -> list[Image]:
    """Return the images that a close judges: of each instance the newest one that no close covers, and all older
    ones.
    """
    fresh = [a for a in arrived if closed_at is None or a.indexed_at > closed_at]
    chosen = {a.id for a in _newest(fresh)}
    old = {a.id for a in arrived} - {a.id for a in fresh}
    return [_image(a, old) for a in arrived if a.id in chosen or a.id in old]


def _image(arrived: index.Arrived, old: set[str] | None) -> Image:
    return Image(
        arrived.id,
        arrived.series_uid,
        arrived.sop_instance_uid,
        arrived.modality,
        arrived.elements,
        is_new=old is None or arrived.id not in old,
    )


def _newest(arrived: Sequence[index.Arrived]) -> list[index.Arrived]:
    """Return one arrival for each instance: the newest content, or the newest duplicate where all are duplicates.

    What is still here comes before what retention removed.
    """
    chosen: dict[tuple[str, str], index.Arrived] = {}
    for a in arrived:
        key = (a.series_uid, a.sop_instance_uid)
        other = chosen.get(key)
        if (
            other is None
            or other.is_removed
            or a.outcome != Outcome.DUPLICATE
            or other.outcome == Outcome.DUPLICATE
        ):
            chosen[key] = a
    return list(chosen.values())


@dataclass(frozen=True, slots=True)
class _Origin:
    """What all deliveries of one unit share."""

    ae: ResourceKey
    study_id: int
    facts: index.StudyFacts
    level: Level
    unit_uid: str
    key: str
    is_supplement: bool = False
    actor: str | None = None


def _new_deliveries(
    origin: _Origin, chosen: Plan, arrived: Mapping[str, index.Arrived], already: Queued
) -> list[NewDelivery]:
    """Return the deliveries of a plan without what the destination has in its queue already."""
    new = []
    for planned in chosen.deliveries:
        ids = tuple(i for i in planned.arrival_ids if not _has(planned, arrived[i], already))
        if ids:
            new.append(_new_delivery(origin, planned, ids, sum(arrived[i].size_bytes for i in ids)))
    return new


def _has(planned: Planned, a: index.Arrived, already: Queued) -> bool:
    """Say whether the destination was given this before, or cannot be given it any more.

    A duplicate counts as given unless the route redelivers.
    """
    destination = str(planned.destination)
    if a.is_removed or (destination, a.id) in already.arrivals:
        return True
    is_repeat = a.outcome == Outcome.DUPLICATE and a.id not in planned.redeliver
    return is_repeat and (destination, a.sop_instance_uid, a.sha256) in already.contents


def _new_delivery(origin: _Origin, planned: Planned, ids: Sequence[str], size_bytes: int) -> NewDelivery:
    facts = origin.facts
    return NewDelivery(
        destination=planned.destination,
        level=origin.level,
        study_id=origin.study_id,
        unit_uid=origin.unit_uid,
        source_ae=origin.ae,
        partition=facts.partition,
        arrival_ids=tuple(ArrivalId(i) for i in ids),
        requested_by=origin.actor or f"route:{planned.routes[0]}",
        dedup_key=f"{origin.key}:{planned.destination}",
        size_bytes=size_bytes,
        location_code=facts.location_code,
        priority=planned.priority,
        supplementary=origin.is_supplement,
        hold_code="PATIENT_MISMATCH" if facts.has_patient_mismatch else None,
        hold_reason="the study arrived under another patient id: resolve the conflict, then resume"
        if facts.has_patient_mismatch
        else None,
    )


def _explained(source: Source, images: Sequence[Image], configuration: Configuration) -> SourceExplanation:
    level = source.level if source.level in (Level.SERIES, Level.IMAGE) else Level.STUDY
    unit = Unit(Level.STUDY if level is Level.IMAGE and len(images) > 1 else level)
    chosen = plan(source, images, configuration.routes.values(), configuration.entities, unit)
    return SourceExplanation(source.ae, source.level, chosen.verdicts, chosen.deliveries, len(images))


def _report(closed: Closed) -> None:
    log(
        UNIT_CLOSED,
        unit=closed.unit_id,
        ae=str(closed.ae),
        outcome=closed.outcome,
        deliveries=closed.deliveries,
        instances=closed.instances,
    )
