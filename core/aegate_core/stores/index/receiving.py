"""The rows of received objects, a batch at a time: insert or do nothing, then lock, then read what is there.

All locks are taken in the order of their keys: patients, studies, then what lies below a study. Two indexers at once
wait for one another and never in a circle; the database's own deadlock detection is the second line
(`Database.atomically`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, NamedTuple, cast

import asyncpg

from aegate_core.database import Database, as_datetime, as_json
from aegate_core.stores.index.found import ONLY_FOUND
from aegate_core.stores.index.releasing import RELEASED

GIVES_WAY = f"({ONLY_FOUND} OR {RELEASED})"
"""SQL: the row ``a`` of an arrival is replaced by what indexing makes of it."""


class PatientKey(NamedTuple):
    """A person in a partition; unidentified ones belong to one study alone."""

    partition: str
    issuer: str
    patient_id: str
    unidentified_study_uid: str = ""


NOBODY = PatientKey("", "", "")


class StudyKey(NamedTuple):
    """A study in a partition."""

    partition: str
    uid: str


class SeriesKey(NamedTuple):
    """A series of a study row."""

    study_id: int
    uid: str


class InstanceKey(NamedTuple):
    """An instance of a series row."""

    series_id: int
    sop_instance_uid: str


@dataclass(slots=True)
class PatientRow:
    """What is known of a person."""

    name_alphabetic: str = ""
    name_ideographic: str = ""
    name_phonetic: str = ""
    birth_date: str = ""
    sex: str = ""
    search_text: str = ""


@dataclass(slots=True)
class StudyRow:
    """A study, locked; what an arrival adds is written back by `write_studies`."""

    id: int
    partition: str
    study_instance_uid: str
    patient_row_id: int
    source_ae: str
    first_arrival_at: datetime
    last_arrival_at: datetime
    accession_number: str = ""
    study_id: str = ""
    study_date: str = ""
    study_time: str = ""
    description: str = ""
    referring_physician: str = ""
    modalities: list[str] = field(default_factory=list)
    document_type: str = ""
    location_code: str | None = None
    series_count: int = 0
    instance_count: int = 0
    size_bytes: int = 0
    search_text: str = ""
    patient: PatientKey = NOBODY
    is_closed: bool = False
    """Some unit of it was closed: the document type stays."""


@dataclass(slots=True)
class InstanceRow:
    """An instance and its current arrival."""

    id: int
    arrival_id: str
    sha256: str
    transfer_syntax_uid: str
    is_removed: bool
    """Retention removed it: the next arrival is current, whatever it is."""


REFUSED = (
    *(asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError),
    *(sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeError),
)
"""What the database raises when a row's *values* are at fault: the object is, not the database."""

_IS_CLOSED = "EXISTS (SELECT 1 FROM close_unit u WHERE u.study_id = s.id AND u.closes > 0) AS is_closed "

_PATIENT = tuple(f.name for f in fields(PatientRow))
_STUDY_FACTS = (
    *("accession_number", "study_id", "study_date", "study_time", "description", "referring_physician"),
    *("document_type", "location_code", "first_arrival_at", "last_arrival_at"),
    *("series_count", "instance_count", "size_bytes", "search_text"),
)


async def ensure_patients(
    tx: Database, wished: Mapping[PatientKey, PatientRow], *, now: datetime
) -> dict[PatientKey, int]:
    """Make persons that are unknown; return the row ids of all. A known one stays as it is."""
    columns = ", ".join(_PATIENT)
    await tx.execute_many(
        "INSERT INTO patient (partition, issuer, patient_id, unidentified_study_uid, source, created_at, updated_at, "
        f"{columns}) VALUES ($1, $2, $3, $4, 'DICOM', $5, $5, $6, $7, $8, $9, $10, $11) "
        "ON CONFLICT (partition, issuer, patient_id, unidentified_study_uid) DO NOTHING",
        [(*key, now, *(getattr(wished[key], name) for name in _PATIENT)) for key in sorted(wished)],
    )
    rows = await tx.fetch(
        "SELECT id, partition, issuer, patient_id, unidentified_study_uid FROM patient "
        "WHERE patient_id = ANY($1) AND partition = ANY($2) AND unidentified_study_uid = ANY($3)",
        sorted({key.patient_id for key in wished}),
        sorted({key.partition for key in wished}),
        sorted({key.unidentified_study_uid for key in wished}),
    )
    found = {
        PatientKey(r["partition"], r["issuer"], r["patient_id"], r["unidentified_study_uid"]): int(r["id"])
        for r in rows
    }
    return {key: found[key] for key in wished}


async def update_patient(
    tx: Database, patient_id: int, values: Mapping[str, str], *, now: datetime
) -> PatientRow:
    """Write what a device with `updateDatabaseFromDICOM` says of a person; return the whole row."""
    names = [name for name in _PATIENT if name in values]
    if names:
        assigned = ", ".join(f"{name} = ${n}" for n, name in enumerate(names, start=3))
        await tx.execute(
            f"UPDATE patient SET updated_at = $2, source = 'DICOM', {assigned} WHERE id = $1",
            patient_id,
            now,
            *(values[name] for name in names),
        )
    row = await tx.fetch_one(f"SELECT {', '.join(_PATIENT)} FROM patient WHERE id = $1", patient_id)
    assert row is not None
    return PatientRow(**row)


async def read_patients(tx: Database, ids: Iterable[int]) -> dict[int, PatientRow]:
    """Return what is known of persons, by row id."""
    rows = await tx.fetch(
        f"SELECT id, {', '.join(_PATIENT)} FROM patient WHERE id = ANY($1)", sorted(set(ids))
    )
    return {int(r.pop("id")): PatientRow(**r) for r in rows}


async def study_patients(tx: Database, keys: Iterable[StudyKey]) -> dict[StudyKey, PatientKey]:
    """Return whose the studies are that are known already; without a lock."""
    wanted = sorted(set(keys))
    rows = await tx.fetch(
        "SELECT s.partition, s.study_instance_uid, p.issuer, p.patient_id, p.unidentified_study_uid "
        "FROM study s JOIN patient p ON p.id = s.patient_id "
        "WHERE s.study_instance_uid = ANY($1) AND s.partition = ANY($2)",
        [key.uid for key in wanted],
        sorted({key.partition for key in wanted}),
    )
    return {
        StudyKey(r["partition"], r["study_instance_uid"]): PatientKey(
            r["partition"], r["issuer"], r["patient_id"], r["unidentified_study_uid"]
        )
        for r in rows
    }


async def ensure_studies(tx: Database, wished: Sequence[StudyRow]) -> dict[StudyKey, StudyRow]:
    """Make studies that are unknown, empty; return all, locked until the end of the transaction."""
    await tx.execute_many(
        "INSERT INTO study (partition, study_instance_uid, patient_id, source_ae, location_code, first_arrival_at, "
        "last_arrival_at, accession_number, study_id, study_date, study_time, description, referring_physician, "
        "modalities, document_type, series_count, instance_count, size_bytes, search_text) "
        "SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), $3, $4, $5, $6, $7, '', '', '', '', '', '', '[]', '', 0, 0, 0, '' "
        # Not only by the conflict: the trigger of an insert locks the patient, also where nothing is inserted.
        "WHERE NOT EXISTS (SELECT 1 FROM study WHERE partition = CAST($1 AS TEXT) "
        "AND study_instance_uid = CAST($2 AS TEXT)) "
        "ON CONFLICT (partition, study_instance_uid) DO NOTHING",
        [
            (
                *(s.partition, s.study_instance_uid, s.patient_row_id, s.source_ae, s.location_code),
                *(s.first_arrival_at, s.last_arrival_at),
            )
            for s in sorted(wished, key=lambda s: (s.partition, s.study_instance_uid))
        ],
    )
    rows = await tx.fetch(
        f"SELECT s.*, p.issuer, p.patient_id AS pid, p.unidentified_study_uid, {_IS_CLOSED}"
        "FROM study s JOIN patient p ON p.id = s.patient_id "
        "WHERE s.study_instance_uid = ANY($1) AND s.partition = ANY($2) "
        "ORDER BY s.partition, s.study_instance_uid FOR UPDATE OF s",
        sorted({s.study_instance_uid for s in wished}),
        sorted({s.partition for s in wished}),
    )
    return {StudyKey(r["partition"], r["study_instance_uid"]): _study(r) for r in rows}


def _study(row: Mapping[str, Any]) -> StudyRow:
    facts = {name: row[name] for name in _STUDY_FACTS}
    facts["first_arrival_at"], facts["last_arrival_at"] = (
        as_datetime(row["first_arrival_at"]),
        as_datetime(row["last_arrival_at"]),
    )
    return StudyRow(
        id=int(row["id"]),
        partition=row["partition"],
        study_instance_uid=row["study_instance_uid"],
        patient_row_id=int(row["patient_id"]),
        source_ae=row["source_ae"],
        modalities=list(cast("list[str]", as_json(row["modalities"]))),
        patient=PatientKey(row["partition"], row["issuer"], row["pid"], row["unidentified_study_uid"]),
        is_closed=bool(row["is_closed"]),
        **facts,
    )


async def write_studies(tx: Database, studies: Iterable[StudyRow]) -> None:
    """Write locked studies back."""
    assigned = ", ".join(f"{name} = ${n}" for n, name in enumerate(_STUDY_FACTS, start=3))
    await tx.execute_many(
        f"UPDATE study SET modalities = $2, {assigned} WHERE id = $1",
        [
            (s.id, json.dumps(s.modalities), *(getattr(s, name) for name in _STUDY_FACTS))
            for s in sorted(studies, key=lambda s: s.id)
        ],
    )


async def studies_of_patient(tx: Database, patient_row_id: int) -> list[StudyRow]:
    """Return all studies of a person, locked."""
    rows = await tx.fetch(
        f"SELECT s.*, p.issuer, p.patient_id AS pid, p.unidentified_study_uid, {_IS_CLOSED}"
        "FROM study s JOIN patient p ON p.id = s.patient_id WHERE s.patient_id = $1 ORDER BY s.id FOR UPDATE OF s",
        patient_row_id,
    )
    return [_study(r) for r in rows]


async def known_arrivals(tx: Database, ids: Sequence[str]) -> set[str]:
    """Return which arrivals are indexed already. One that was only found, or is released from quarantine, is not."""
    rows = await tx.fetch(
        f"SELECT a.id AS id FROM arrival a WHERE a.id = ANY($1) AND NOT {GIVES_WAY}", list(ids)
    )
    return {r["id"] for r in rows}


async def series_ids(tx: Database, keys: Iterable[SeriesKey]) -> dict[SeriesKey, int]:
    """Return the series that are there."""
    wanted = set(keys)
    rows = await tx.fetch(
        "SELECT id, study_id, series_instance_uid FROM series "
        "WHERE study_id = ANY($1) AND series_instance_uid = ANY($2)",
        sorted({k.study_id for k in wanted}),
        sorted({k.uid for k in wanted}),
    )
    found = {SeriesKey(int(r["study_id"]), r["series_instance_uid"]): int(r["id"]) for r in rows}
    return {k: v for k, v in found.items() if k in wanted}


async def insert_series(tx: Database, rows: Iterable[tuple[object, ...]]) -> None:
    """Insert (study id, UID, modality, number, description, body part, station name), empty."""
    await tx.execute_many(
        "INSERT INTO series (study_id, series_instance_uid, modality, series_number, description, body_part, "
        "station_name, instance_count, size_bytes) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0) "
        "ON CONFLICT (study_id, series_instance_uid) DO NOTHING",
        list(rows),
    )


async def count_into_series(tx: Database, added: Mapping[int, tuple[int, int]]) -> None:
    """Add (instances, bytes) to series, by id."""
    await tx.execute_many(
        "UPDATE series SET instance_count = instance_count + $2, size_bytes = size_bytes + $3 WHERE id = $1",
        [(key, *added[key]) for key in sorted(added)],
    )


async def instances(tx: Database, keys: Iterable[InstanceKey]) -> dict[InstanceKey, InstanceRow]:
    """Return the instances that are there, with their current arrival."""
    wanted = set(keys)
    rows = await tx.fetch(
        "SELECT i.id, i.series_id, i.sop_instance_uid, a.id AS arrival_id, a.sha256, a.transfer_syntax_uid, "
        "a.removed_at FROM instance i JOIN arrival a ON a.id = i.current_arrival_id "
        "WHERE i.series_id = ANY($1) AND i.sop_instance_uid = ANY($2)",
        sorted({k.series_id for k in wanted}),
        sorted({k.sop_instance_uid for k in wanted}),
    )
    return {
        InstanceKey(int(r["series_id"]), r["sop_instance_uid"]): InstanceRow(
            int(r["id"]), r["arrival_id"], r["sha256"], r["transfer_syntax_uid"], r["removed_at"] is not None
        )
        for r in rows
    }


async def elsewhere(tx: Database, uids: Sequence[str]) -> list[tuple[str, str, int, str]]:
    """Return (partition, SOP Instance UID, series row, current arrival) wherever these UIDs stand."""
    rows = await tx.fetch(
        "SELECT st.partition, i.sop_instance_uid, i.series_id, i.current_arrival_id FROM instance i "
        "JOIN series se ON se.id = i.series_id JOIN study st ON st.id = se.study_id "
        "WHERE i.sop_instance_uid = ANY($1) ORDER BY i.id",
        list(uids),
    )
    return [
        (r["partition"], r["sop_instance_uid"], int(r["series_id"]), r["current_arrival_id"]) for r in rows
    ]


class Place(NamedTuple):
    """One of several instances under the same SOP Instance UID."""

    partition: str
    sop_instance_uid: str
    study_id: int
    current_arrival_id: str
    is_raised: bool
    """A SAME_UID_OTHER_STUDY conflict names it."""


async def shared_uids(db: Database, uids: Sequence[str]) -> list[Place]:
    """Return the instances whose UID another instance has, too, in the order in which they were made."""
    rows = await db.fetch(
        "SELECT st.partition, i.sop_instance_uid, st.id AS study_id, i.current_arrival_id, "
        "EXISTS (SELECT 1 FROM conflict c JOIN arrival a ON a.id = c.arrival_id WHERE a.instance_id = i.id "
        "AND a.sop_instance_uid = i.sop_instance_uid AND c.kind = 'SAME_UID_OTHER_STUDY') AS is_raised "
        "FROM instance i JOIN series se ON se.id = i.series_id JOIN study st ON st.id = se.study_id "
        "WHERE i.sop_instance_uid IN (SELECT sop_instance_uid FROM instance WHERE sop_instance_uid = ANY($1) "
        "GROUP BY sop_instance_uid HAVING count(*) > 1) ORDER BY i.id",
        list(uids),
    )
    return [Place(**row | {"is_raised": bool(row["is_raised"])}) for row in rows]


async def mark_conflicting(tx: Database, arrival_ids: Iterable[str]) -> None:
    """Write that arrivals that looked new are in conflict."""
    await tx.execute(
        "UPDATE arrival SET outcome = 'CONFLICT' WHERE id = ANY($1) AND outcome = 'NEW'", sorted(arrival_ids)
    )


async def insert_instances(tx: Database, rows: Iterable[tuple[object, ...]]) -> None:
    """Insert (series id, SOP Instance UID, SOP Class UID, number, frames, current arrival)."""
    await tx.execute_many(
        "INSERT INTO instance (series_id, sop_instance_uid, sop_class_uid, instance_number, number_of_frames, "
        "current_arrival_id) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (series_id, sop_instance_uid) DO NOTHING",
        list(rows),
    )


async def instance_ids(tx: Database, keys: Iterable[InstanceKey]) -> dict[InstanceKey, int]:
    """Return the row ids of instances."""
    wanted = set(keys)
    rows = await tx.fetch(
        "SELECT id, series_id, sop_instance_uid FROM instance WHERE series_id = ANY($1) AND sop_instance_uid = ANY($2)",
        sorted({k.series_id for k in wanted}),
        sorted({k.sop_instance_uid for k in wanted}),
    )
    return {InstanceKey(int(r["series_id"]), r["sop_instance_uid"]): int(r["id"]) for r in rows}


async def make_current(tx: Database, current: Mapping[int, tuple[str, datetime]]) -> None:
    """Point instances (by row id) at newer arrivals: (id, received at); an older one that comes late does not count.

    By when they came: their ids are made by the listener's clock, which may be set back between two.
    """
    await tx.execute_many(
        "UPDATE instance SET current_arrival_id = $2 WHERE id = $1 AND EXISTS (SELECT 1 FROM arrival a "
        "WHERE a.id = current_arrival_id AND (a.received_at < $3 OR a.received_at = $3 AND a.id < $2))",
        [(i, *current[i]) for i in sorted(current)],
    )


_ARRIVAL = (
    *("id", "instance_id", "study_id", "ae", "calling_title", "called_title", "peer_address"),
    *("received_at", "indexed_at", "transfer_syntax_uid", "sop_class_uid", "sop_instance_uid"),
    *("size_bytes", "sha256", "blob_key", "header", "outcome", "routable"),
)


async def insert_arrivals(tx: Database, rows: Iterable[Mapping[str, object]]) -> None:
    """Insert arrivals by column name; one that is there already stays, unless it gives way."""
    places = ", ".join(f"${n}" for n in range(1, len(_ARRIVAL) + 1))
    replaced = ", ".join(f"{name} = excluded.{name}" for name in _ARRIVAL if name != "id")
    await tx.execute_many(
        f"INSERT INTO arrival AS a ({', '.join(_ARRIVAL)}) VALUES ({places}) "
        f"ON CONFLICT (id) DO UPDATE SET {replaced} WHERE {GIVES_WAY}",
        [tuple(row[name] for name in _ARRIVAL) for row in rows],
    )


async def open_mismatches(tx: Database, study_ids: Iterable[int]) -> set[int]:
    """Return the studies that have an unresolved PATIENT_MISMATCH already: one for a study is enough."""
    rows = await tx.fetch(
        "SELECT DISTINCT study_id FROM conflict WHERE kind = 'PATIENT_MISMATCH' AND resolved_at IS NULL "
        "AND study_id = ANY($1)",
        sorted(set(study_ids)),
    )
    return {int(r["study_id"]) for r in rows}


async def insert_conflicts(tx: Database, rows: Iterable[tuple[object, ...]]) -> None:
    """Insert (kind, arrival, other arrival, study id, created at)."""
    await tx.execute_many(
        "INSERT INTO conflict (kind, arrival_id, other_arrival_id, study_id, created_at) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (kind, arrival_id) DO NOTHING",
        list(rows),
    )


async def insert_quarantined(tx: Database, rows: Iterable[tuple[object, ...]]) -> None:
    """List (arrival, AE, reason, bytes, received at, created at), where the arrival's row says that it is quarantined.

    Another process may have indexed it in the meantime.
    """
    await tx.execute_many(
        "INSERT INTO quarantined_object (arrival_id, ae, reason, size_bytes, received_at, created_at) "
        "SELECT a.id, a.ae, CAST($3 AS varchar), CAST($4 AS bigint), $5::timestamptz, $6::timestamptz "
        "FROM arrival a WHERE a.id = $1 AND a.ae = $2 AND a.outcome = 'QUARANTINED' "
        "ON CONFLICT (arrival_id) DO NOTHING",
        list(rows),
    )
