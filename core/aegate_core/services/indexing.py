"""The indexing transaction: what a batch of parsed arrivals makes of patients, studies, series, instances, units and
queue.

The order of the steps is the order of the locks. All of it may be repeated: an arrival that is indexed already changes
nothing. What the device says of a person never changes a known one, unless its AE has `updateDatabaseFromDICOM`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from aegate_core.database import Database
from aegate_core.decisions.closing import due_at
from aegate_core.decisions.duplicates import ConflictKind, Content, Judgement, Outcome, came_back, judge
from aegate_core.decisions.route_matching import asked_keywords, image_elements
from aegate_core.decisions.routing import unit_levels
from aegate_core.dicom.header import Header, PatientIdentity, clean
from aegate_core.dicom.identifiers import ResourceKey, parse_resource_key
from aegate_core.dicom.text import name_text, search_text
from aegate_core.resources.values import ApplicationEntity, Level
from aegate_core.services import audit
from aegate_core.services.entities import Configuration
from aegate_core.services.senders import senders, source_of
from aegate_core.services.studies import NewImages, route_images
from aegate_core.stores.index import closing, receiving, releasing
from aegate_core.stores.index.found import settle_found
from aegate_core.stores.index.receiving import (
    InstanceKey,
    PatientKey,
    PatientRow,
    SeriesKey,
    StudyKey,
    StudyRow,
)
from aegate_core.stores.index.retention import remember_files
from aegate_core.stores.index.sent import sent_from
from aegate_core.stores.spool import SideRecord

NOT_A_DOCUMENT_TYPE = frozenset(("SR", "PR", "KO", "SEG", "REG", "DOC", "OT"))
"""Modalities that say nothing of what was examined: the study's document type is another one, if there is one."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An arrival whose blob is durable. Without ``header`` it goes to quarantine, for ``reason``."""

    side: SideRecord
    blob_key: str
    sha256: str
    header: Header | None
    reason: str = ""


@dataclass(slots=True)
class _Indexed:
    """A fresh arrival on its way through the steps."""

    side: SideRecord
    blob_key: str
    sha256: str
    header: Header
    entity: ApplicationEntity
    study: StudyRow
    series_id: int = 0
    judgement: Judgement = field(default_factory=lambda: Judgement(Outcome.NEW))
    is_routable: bool = True
    is_new_instance: bool = False
    is_current: bool = True
    is_other_patient: bool = False

    @property
    def instance_key(self) -> InstanceKey:
        return InstanceKey(self.series_id, self.header.sop_instance_uid)


async def write_batch(
    tx: Database, batch: Sequence[Prepared], configuration: Configuration, *, now: datetime
) -> Counter[Outcome]:
    """Write the rows of ``batch``; return how many arrivals of each outcome were new to the index."""
    known = await receiving.known_arrivals(tx, [p.side.arrival_id for p in batch])
    if known:  # something ended between commit and spool, and their blobs were just put again
        await remember_files(tx, {p.side.arrival_id: p.blob_key for p in batch if p.side.arrival_id in known})
    ordered = sorted((p for p in batch if p.side.arrival_id not in known), key=lambda p: p.side.arrival_id)
    if not ordered:
        return Counter()
    entities = await senders(tx, configuration, {p.side.ae for p in ordered})
    parsed = [(p, p.header) for p in ordered if p.header is not None]
    studies = await _lock_studies(tx, parsed, entities, configuration, now) if parsed else {}
    # Another indexer may have had the same arrivals: with the studies locked its work is done.
    known = await receiving.known_arrivals(tx, [p.side.arrival_id for p in ordered])
    fresh = [
        _Indexed(p.side, p.blob_key, p.sha256, header, entity, studies[_study_key(header, entity)])
        for p, header in parsed
        for entity in (entities[p.side.ae],)
        if p.side.arrival_id not in known
    ]
    if fresh:
        await _write_fresh(tx, fresh, configuration, now)
    broken = [p for p in ordered if p.header is None and p.side.arrival_id not in known]
    await _quarantine(tx, broken, now)
    reasons: dict[str, str] = {p.side.arrival_id: p.reason[:256] for p in broken}
    became = {i.side.arrival_id: "" for i in fresh} | reasons
    await settle_found(tx, became, now=now)
    await audit.record_released(tx, await releasing.settle(tx, became, now=now), now=now)
    return Counter([*(i.judgement.outcome for i in fresh), *(Outcome.QUARANTINED for _ in broken)])


async def _write_fresh(
    tx: Database, fresh: list[_Indexed], configuration: Configuration, now: datetime
) -> None:
    await _find_series(tx, fresh)
    await _judge(tx, fresh)
    ids = await _write_instances(tx, fresh)
    await _describe_studies(tx, fresh, configuration, now)
    stamp = await _move_units(tx, fresh, configuration, now)
    await receiving.insert_arrivals(tx, [_arrival(i, ids[i.instance_key], stamp) for i in fresh])
    await _write_conflicts(tx, fresh, now)
    await _route(tx, fresh, configuration, stamp, now)


# Patients and studies.


def _study_key(header: Header, entity: ApplicationEntity) -> StudyKey:
    return StudyKey(str(entity.partition), header.study_instance_uid)


async def _lock_studies(
    tx: Database,
    parsed: Sequence[tuple[Prepared, Header]],
    entities: Mapping[ResourceKey, ApplicationEntity],
    configuration: Configuration,
    now: datetime,
) -> dict[StudyKey, StudyRow]:
    """Make patients and studies that are unknown, and lock all studies of the batch."""
    keys = {_study_key(header, entities[p.side.ae]) for p, header in parsed}
    owners = await receiving.study_patients(tx, keys)
    people: dict[PatientKey, PatientRow] = {}
    first: dict[StudyKey, tuple[Prepared, PatientKey]] = {}
    for p, header in parsed:
        entity = entities[p.side.ae]
        key = _study_key(header, entity)
        person = _patient_key(header, key, owners.get(key), _issuer(configuration, entity))
        people.setdefault(person, _patient_row(header.patient))
        first.setdefault(key, (p, person))
    ids = await receiving.ensure_patients(tx, people, now=now)
    wished = [
        StudyRow(
            id=0,
            partition=key.partition,
            study_instance_uid=key.uid,
            patient_row_id=ids[person],
            source_ae=str(p.side.ae),
            first_arrival_at=p.side.received_at,
            last_arrival_at=p.side.received_at,
            location_code=entities[p.side.ae].location_code,
        )
        for key, (p, person) in first.items()
    ]
    return await receiving.ensure_studies(tx, wished)


def _issuer(configuration: Configuration, entity: ApplicationEntity) -> str:
    partition = configuration.partitions.get(entity.partition)
    return (partition.issuer_of_patient_id if partition else None) or ""


def _patient_key(header: Header, study: StudyKey, owner: PatientKey | None, issuer: str) -> PatientKey:
    """Return whose the object is. Without a patient id: an unidentified person of this study alone.

    Without an issuer it is the study's own person, if the id is the same; else the partition's issuer counts.
    """
    said = header.patient
    if not said.patient_id:
        return PatientKey(study.partition, "", "", study.uid)
    if owner is not None and owner.patient_id == said.patient_id and not said.issuer:
        return owner
    return PatientKey(study.partition, said.issuer or issuer, said.patient_id)


def _is_other_patient(i: _Indexed, issuer: str) -> bool:
    owner = i.study.patient
    key = StudyKey(i.study.partition, i.study.study_instance_uid)
    return _patient_key(i.header, key, owner, issuer) != owner


def _patient_row(said: PatientIdentity) -> PatientRow:
    row = PatientRow(
        said.name_alphabetic, said.name_ideographic, said.name_phonetic, said.birth_date, said.sex
    )
    row.search_text = name_search(row)
    return row


def name_search(row: PatientRow) -> str:
    """Return a person's search text."""
    return name_text(row.name_alphabetic, row.name_ideographic, row.name_phonetic)


async def _update_patients(tx: Database, fresh: Iterable[_Indexed], now: datetime) -> set[int]:
    """Let devices that are trusted with it change known persons; return the row ids of those changed."""
    said: dict[int, _Indexed] = {
        i.study.patient_row_id: i
        for i in fresh
        if i.entity.update_database_from_dicom and i.header.patient.patient_id and not i.is_other_patient
    }
    people = await receiving.read_patients(tx, said)
    changed = set()
    for row_id, i in sorted(said.items()):
        new, old = _patient_row(i.header.patient), people[row_id]
        names = ("name_alphabetic", "name_ideographic", "name_phonetic", "birth_date", "sex")
        values = {n: getattr(new, n) for n in names if getattr(new, n) and getattr(new, n) != getattr(old, n)}
        if values:
            for name, value in values.items():
                setattr(old, name, value)
            values["search_text"] = name_search(old)
            await receiving.update_patient(tx, row_id, values, now=now)
            changed.add(row_id)
    return changed


async def _describe_studies(
    tx: Database, fresh: Sequence[_Indexed], configuration: Configuration, now: datetime
) -> None:
    """Write what the arrivals add to their studies: facts, counts, document type, search text."""
    for i in fresh:
        i.is_other_patient = _is_other_patient(i, _issuer(configuration, i.entity))
        _describe(i)
    changed = await _update_patients(tx, fresh, now)
    studies = {i.study.id: i.study for i in fresh}
    for row_id in sorted(changed):
        for study in await receiving.studies_of_patient(tx, row_id):
            studies.setdefault(study.id, study)
    people = await receiving.read_patients(tx, {s.patient_row_id for s in studies.values()})
    sources = await senders(tx, configuration, {parse_resource_key(s.source_ae) for s in studies.values()})
    for study in studies.values():
        source = sources[parse_resource_key(study.source_ae)]
        if not study.is_closed or not study.document_type:
            study.document_type = _document_type(study, source)
        study.search_text = study_search(study, people[study.patient_row_id], source)
    await receiving.write_studies(tx, studies.values())


def _describe(i: _Indexed) -> None:
    study, header = i.study, i.header
    study.first_arrival_at = min(study.first_arrival_at, i.side.received_at)
    study.last_arrival_at = max(study.last_arrival_at, i.side.received_at)
    if i.is_new_instance:
        study.instance_count += 1
        study.size_bytes += i.side.size_bytes
    if i.is_other_patient:
        return
    study.accession_number = study.accession_number or header.accession_number
    study.study_id = study.study_id or header.study_id
    study.study_date = study.study_date or header.study_date
    study.study_time = study.study_time or header.study_time
    study.description = study.description or header.study_description
    study.referring_physician = study.referring_physician or header.referring_physician
    if header.modality and header.modality not in study.modalities:
        study.modalities.append(header.modality)


def _document_type(study: StudyRow, source: ApplicationEntity) -> str:
    """Return the AE's, else the first modality that says what was examined, else the first."""
    telling = [m for m in study.modalities if m not in NOT_A_DOCUMENT_TYPE]
    return source.document_type or next(iter(telling or study.modalities), "")


def study_search(study: StudyRow, person: PatientRow, source: ApplicationEntity) -> str:
    """Return a study's search text."""
    return search_text(
        *(study.patient.patient_id, person.name_alphabetic, person.name_ideographic, person.name_phonetic),
        *(study.accession_number, study.study_id, study.description, study.referring_physician),
        *(*study.modalities, study.document_type, study.location_code),
        *(source.title.value, source.key.name),
    )


# Series, instances, conflicts.


async def _find_series(tx: Database, fresh: Sequence[_Indexed]) -> None:
    """Give every arrival its series row, made where it is unknown; count new ones into their studies."""
    first = {SeriesKey(i.study.id, i.header.series_instance_uid): i for i in reversed(fresh)}
    before = await receiving.series_ids(tx, first)
    unknown = sorted(key for key in first if key not in before)
    await receiving.insert_series(tx, [_series(key, first[key].header) for key in unknown])
    ids = await receiving.series_ids(tx, first)
    for key in unknown:
        first[key].study.series_count += 1
    for i in fresh:
        i.series_id = ids[SeriesKey(i.study.id, i.header.series_instance_uid)]


def _series(key: SeriesKey, header: Header) -> tuple[object, ...]:
    description = (header.modality, header.series_number, header.series_description)
    return (*key, *description, header.body_part, header.station_name)


async def _judge(tx: Database, fresh: Sequence[_Indexed]) -> None:
    """Decide what each arrival is, in their order: the second of two in one batch sees the first."""
    rows = await receiving.instances(tx, {i.instance_key for i in fresh})
    current = {key: Content(r.arrival_id, r.sha256, r.transfer_syntax_uid) for key, r in rows.items()}
    removed = {key for key, r in rows.items() if r.is_removed}
    places: dict[tuple[str, str], dict[int, str]] = {}
    for partition, uid, series_id, arrival_id in await receiving.elsewhere(
        tx, sorted({i.header.sop_instance_uid for i in fresh})
    ):
        places.setdefault((partition, uid), {})[series_id] = arrival_id
    sent = await sent_from(tx, sorted({i.sha256 for i in fresh}))
    for i in fresh:
        known = places.setdefault((i.study.partition, i.header.sop_instance_uid), {})
        other = next((arrival for series, arrival in sorted(known.items()) if series != i.series_id), None)
        content = Content(i.side.arrival_id, i.sha256, i.header.transfer_syntax_uid)
        i.judgement = judge(content, current.get(i.instance_key), other)
        i.is_new_instance = i.instance_key not in current
        i.is_routable = not came_back(str(i.side.ae), i.header.modifying_systems, sent.get(i.sha256, ()))
        i.is_current = i.judgement.outcome is not Outcome.DUPLICATE or i.instance_key in removed
        if i.is_current:
            removed.discard(i.instance_key)
            current[i.instance_key] = content
            known[i.series_id] = i.side.arrival_id


async def _write_instances(tx: Database, fresh: Sequence[_Indexed]) -> dict[InstanceKey, int]:
    """Make new instances, point all at their newest arrival, count into the series; return the row ids."""
    newest = {i.instance_key: i for i in fresh if i.is_current}
    new = {i.instance_key: i for i in fresh if i.is_new_instance}
    await receiving.insert_instances(tx, [_instance(key, newest[key]) for key in sorted(new)])
    ids = await receiving.instance_ids(tx, {i.instance_key for i in fresh})
    again = {ids[key]: (i.side.arrival_id, i.side.received_at) for key, i in newest.items() if key not in new}
    await receiving.make_current(tx, again)
    added: dict[int, tuple[int, int]] = {}
    for i in new.values():
        count, size = added.get(i.series_id, (0, 0))
        added[i.series_id] = (count + 1, size + i.side.size_bytes)
    await receiving.count_into_series(tx, added)
    return ids


def _instance(key: InstanceKey, i: _Indexed) -> tuple[object, ...]:
    header = i.header
    return (*key, header.sop_class_uid, header.instance_number, header.number_of_frames, i.side.arrival_id)


def _arrival(i: _Indexed, instance_id: int, stamp: datetime) -> dict[str, object]:
    return _side_columns(i.side) | {
        "instance_id": instance_id,
        "study_id": i.study.id,
        "indexed_at": stamp,
        "transfer_syntax_uid": i.header.transfer_syntax_uid,
        "sop_class_uid": i.header.sop_class_uid,
        "sop_instance_uid": i.header.sop_instance_uid,
        "sha256": i.sha256,
        "blob_key": i.blob_key,
        "header": i.header.elements,
        "outcome": i.judgement.outcome.value,
        "routable": i.is_routable,
    }


def _side_columns(side: SideRecord) -> dict[str, object]:
    return {
        "id": side.arrival_id,
        "ae": str(side.ae),
        "calling_title": clean(side.calling_title, 16),
        "called_title": clean(side.called_title, 16),
        "peer_address": clean(side.peer_address, 64),
        "received_at": side.received_at,
        "size_bytes": side.size_bytes,
    }


async def _write_conflicts(tx: Database, fresh: Sequence[_Indexed], now: datetime) -> None:
    rows = [
        (i.judgement.conflict.value, i.side.arrival_id, i.judgement.other_arrival_id, i.study.id, now)
        for i in fresh
        if i.judgement.conflict is not None
    ]
    other = {i.study.id: i for i in reversed(fresh) if i.is_other_patient}
    for study_id in await receiving.open_mismatches(tx, other):
        del other[study_id]
    kind = ConflictKind.PATIENT_MISMATCH.value
    rows += [(kind, i.side.arrival_id, "", i.study.id, now) for i in other.values()]
    await receiving.insert_conflicts(tx, rows)


async def _quarantine(tx: Database, broken: Sequence[Prepared], now: datetime) -> None:
    """Keep what cannot be parsed, visible and whole."""
    await receiving.insert_arrivals(
        tx,
        [
            _side_columns(p.side)
            | {
                "instance_id": None,
                "study_id": None,
                "indexed_at": now,
                "transfer_syntax_uid": clean(p.side.transfer_syntax, 64),
                "sop_class_uid": clean(p.side.sop_class_uid, 64),
                "sop_instance_uid": clean(p.side.sop_instance_uid, 64),
                "sha256": p.sha256,
                "blob_key": p.blob_key,
                "header": {},
                "outcome": Outcome.QUARANTINED.value,
                "routable": False,
            }
            for p in broken
        ],
    )
    await receiving.insert_quarantined(
        tx,
        [
            (p.side.arrival_id, str(p.side.ae), p.reason[:256], p.side.size_bytes, p.side.received_at, now)
            for p in broken
        ],
    )


# Close units and routing by image.


async def _move_units(
    tx: Database, fresh: Sequence[_Indexed], configuration: Configuration, now: datetime
) -> datetime:
    """Open or move on the close units of what may be routed; return the time at which the arrivals count as indexed.

    That time lies after every close of these units: the rows are locked, so no close can come between.
    """
    times: dict[tuple[int, str, str], list[_Indexed]] = {}
    for i in fresh:
        for series_uid in _unit_series(i, configuration) if i.is_routable else ():
            times.setdefault((i.study.id, series_uid, str(i.side.ae)), []).append(i)
    came = {i.side.arrival_id: _came(i, now) for i in fresh}
    last = {key: max(came[i.side.arrival_id] for i in items) for key, items in times.items()}
    await closing.ensure_units(tx, [(*key, at) for key, at in last.items()])
    stamp, moved = now, []
    for unit in await closing.lock_units(tx, sorted({key[0] for key in times})):
        items = times.get((unit.study_id, unit.series_uid, str(unit.ae)))
        if items is None:
            continue
        if unit.closed_at is not None:
            stamp = max(stamp, unit.closed_at + timedelta(microseconds=1))
        first = min([*(came[i.side.arrival_id] for i in items), *_still_uncovered(unit)])
        newest = max(unit.last_arrival_at, *(came[i.side.arrival_id] for i in items))
        moved.append((unit.id, first, newest, due_at(newest, first, items[0].entity.study)))
    await closing.move(tx, moved)
    return stamp


def _came(i: _Indexed, now: datetime) -> datetime:
    """Return when it counts as received: a clock that was ahead then must not keep its unit open until then."""
    return min(i.side.received_at, now)


def _still_uncovered(unit: closing.Unit) -> list[datetime]:
    return (
        [unit.first_uncovered_at] if unit.due_at is not None and unit.first_uncovered_at is not None else []
    )


def _unit_series(i: _Indexed, configuration: Configuration) -> list[str]:
    """Return the series UIDs ('' for the study) of the units that the arrival belongs to."""
    study = i.study
    source = source_of(i.entity, location_code=study.location_code, document_type=study.document_type)
    levels = unit_levels(source, configuration.routes.values())
    return [i.header.series_instance_uid if level is Level.SERIES else "" for level in levels]


async def _route(
    tx: Database, fresh: Sequence[_Indexed], configuration: Configuration, stamp: datetime, now: datetime
) -> None:
    """Enqueue what routes of level Image take, one delivery an image."""
    keywords = asked_keywords(configuration.routes.values())
    groups: dict[tuple[int, ResourceKey], list[_Indexed]] = {}
    for i in fresh:
        if i.is_routable:
            groups.setdefault((i.study.id, i.side.ae), []).append(i)
    for (study_id, _), items in sorted(groups.items()):
        study, entity = items[0].study, items[0].entity
        source = source_of(entity, location_code=study.location_code, document_type=study.document_type)
        arrived = tuple(_arrived(i, keywords, stamp) for i in items)
        await route_images(tx, NewImages(study_id, source, arrived), configuration, now=now)


def _arrived(i: _Indexed, keywords: Iterable[str], stamp: datetime) -> closing.Arrived:
    return closing.Arrived(
        id=i.side.arrival_id,
        indexed_at=stamp,
        outcome=i.judgement.outcome.value,
        size_bytes=i.side.size_bytes,
        sha256=i.sha256,
        sop_instance_uid=i.header.sop_instance_uid,
        series_uid=i.header.series_instance_uid,
        modality=i.header.modality,
        is_removed=False,
        elements=image_elements(i.header.elements, keywords),
    )
