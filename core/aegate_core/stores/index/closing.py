"""Close units, how far the indexers are, and the images that a close covers.

An image is *new* for a unit when it was indexed after the unit's last close. That comparison needs no clock to be
right: indexer and closer both hold the unit's row locked, and each writes a time later than any that it sees there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aegate_core.database import Database, as_datetime, as_json
from aegate_core.dicom.elements import tag_of, texts_of_entry
from aegate_core.dicom.identifiers import ResourceKey, parse_resource_key
from aegate_core.stores.index.retention import lock_studies


@dataclass(frozen=True, slots=True)
class Unit:
    """A close unit; ``series_uid`` '' is the whole study."""

    id: int
    study_id: int
    series_uid: str
    ae: ResourceKey
    first_uncovered_at: datetime | None
    last_arrival_at: datetime
    due_at: datetime | None
    closed_at: datetime | None
    outcome: str | None
    closes: int


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What a close must know of the study."""

    uid: str
    partition: ResourceKey
    location_code: str | None
    document_type: str
    has_patient_mismatch: bool


@dataclass(frozen=True, slots=True)
class Arrived:
    """One arrival of a unit; ``elements`` holds the asked keywords that are there with a value."""

    id: str
    indexed_at: datetime
    outcome: str
    size_bytes: int
    sha256: str
    sop_instance_uid: str
    series_uid: str
    modality: str
    is_removed: bool
    """Retention removed it: it counts as seen, and is never sent."""
    elements: Mapping[str, tuple[str, ...]]


_UNIT = (
    "SELECT id, study_id, series_uid, ae, first_uncovered_at, last_arrival_at, due_at, closed_at, outcome, closes "
    "FROM close_unit "
)


def _unit(row: Mapping[str, Any]) -> Unit:
    return Unit(
        id=int(row["id"]),
        study_id=int(row["study_id"]),
        series_uid=row["series_uid"],
        ae=parse_resource_key(row["ae"]),
        first_uncovered_at=_time(row["first_uncovered_at"]),
        last_arrival_at=as_datetime(row["last_arrival_at"]),
        due_at=_time(row["due_at"]),
        closed_at=_time(row["closed_at"]),
        outcome=row["outcome"],
        closes=int(row["closes"]),
    )


def _time(value: object) -> datetime | None:
    return None if value is None else as_datetime(value)


async def open_units(db: Database, *, limit: int, ae: ResourceKey | None = None) -> list[Unit]:
    """Return open units, of ``ae`` or all, the first due first; of those due at once the series before their study."""
    order = "ORDER BY due_at, CASE WHEN series_uid = '' THEN 1 ELSE 0 END, id"
    if ae is None:
        rows = await db.fetch(f"{_UNIT} WHERE due_at IS NOT NULL {order} LIMIT $1", limit)
    else:
        rows = await db.fetch(
            f"{_UNIT} WHERE due_at IS NOT NULL AND ae = $2 {order} LIMIT $1", limit, str(ae)
        )
    return [_unit(row) for row in rows]


async def units_of(db: Database, study_ids: Sequence[int]) -> list[Unit]:
    """Return all units of some studies, ordered by study, series and AE."""
    sql = _UNIT + "WHERE study_id = ANY($1) ORDER BY study_id, series_uid, ae"
    return [_unit(row) for row in await db.fetch(sql, list(study_ids))]


CLOSING = 0x61656373
"""``aecs`` in ASCII: with a study's row id PostgreSQL's advisory lock of closing in that study."""


async def lock_open_unit(tx: Database, unit: Unit) -> Unit | None:
    """Return the unit, locked until the end of the transaction; None when it is closed or somebody else closes it.

    None, too, while somebody closes another unit of the study: neither would see what the other enqueues, and one
    destination would get the same image twice.
    """
    if not tx.is_sqlite and not await tx.fetch_value(
        "SELECT pg_try_advisory_xact_lock($1, $2)", CLOSING, unit.study_id % 2**31
    ):
        return None
    sql = _UNIT + "WHERE id = $1 AND due_at IS NOT NULL FOR UPDATE SKIP LOCKED"
    row = await tx.fetch_one(sql, unit.id)
    return None if row is None else _unit(row)


async def lock_unit(tx: Database, unit_id: int) -> Unit | None:
    """Return the unit, open or closed, locked until the end of the transaction with its study; None when there is none.

    Waits for whoever closes in the same study, and for retention.
    """
    study_id = await tx.fetch_value("SELECT study_id FROM close_unit WHERE id = $1", unit_id)
    if study_id is None:
        return None
    await lock_closing(tx, int(study_id))
    row = await tx.fetch_one(_UNIT + "WHERE id = $1 FOR UPDATE", unit_id)
    return None if row is None else _unit(row)


async def lock_closing(tx: Database, study_id: int) -> None:
    """Lock a study until the end of the transaction, also against whoever closes in it, or takes its images away."""
    if not tx.is_sqlite:
        await tx.fetch("SELECT pg_advisory_xact_lock($1, $2)", CLOSING, study_id % 2**31)
    await lock_studies(tx, [study_id])


async def study_facts(db: Database, study_id: int) -> StudyFacts | None:
    """Return what a close must know of a study; None for an unknown one."""
    row = await db.fetch_one(
        "SELECT study_instance_uid, partition, location_code, document_type, "
        "EXISTS (SELECT 1 FROM conflict c WHERE c.study_id = study.id AND c.kind = 'PATIENT_MISMATCH' "
        "AND c.resolved_at IS NULL) AS mismatch FROM study WHERE id = $1",
        study_id,
    )
    if row is None:
        return None
    return StudyFacts(
        row["study_instance_uid"],
        parse_resource_key(row["partition"]),
        row["location_code"],
        row["document_type"],
        bool(row["mismatch"]),
    )


async def arrived(
    db: Database, study_id: int, ae: ResourceKey, *, series_uid: str, keywords: Iterable[str]
) -> list[Arrived]:
    """Return what ``ae`` sent of a study (or of one series, unless '') and may be routed, oldest first.

    What is current of each instance comes last: ids do not tell the newest where a listener's clock was set back.
    """
    tags = {k: tag for k in sorted(keywords) if (tag := tag_of(k)) is not None}
    # SQLite would take a label of digits alone for the index of an array.
    path = '$."{}"' if db.is_sqlite else "{}"
    columns = "".join(f", a.header -> '{path.format(tag)}' AS e{n}" for n, tag in enumerate(tags.values()))
    rows = await db.fetch(
        "SELECT a.id, a.indexed_at, a.outcome, a.size_bytes, a.sha256, i.sop_instance_uid, s.series_instance_uid, "
        f"s.modality, a.removed_at{columns} FROM arrival a JOIN instance i ON i.id = a.instance_id "
        "JOIN series s ON s.id = i.series_id "
        "WHERE a.study_id = $1 AND a.ae = $2 AND a.routable AND ($3 = '' OR s.series_instance_uid = $3) "
        "ORDER BY CASE WHEN i.current_arrival_id = a.id THEN 1 ELSE 0 END, a.id",
        study_id,
        str(ae),
        series_uid,
    )
    return [_arrived(row, list(tags)) for row in rows]


def _arrived(row: Mapping[str, Any], keywords: Sequence[str]) -> Arrived:
    entries = (
        (keyword, as_json(row[f"e{n}"])) for n, keyword in enumerate(keywords) if row[f"e{n}"] is not None
    )
    return Arrived(
        id=row["id"],
        indexed_at=as_datetime(row["indexed_at"]),
        outcome=row["outcome"],
        size_bytes=int(row["size_bytes"]),
        sha256=row["sha256"],
        sop_instance_uid=row["sop_instance_uid"],
        series_uid=row["series_instance_uid"],
        modality=row["modality"],
        is_removed=row["removed_at"] is not None,
        elements={k: texts_of_entry(e) for k, e in entries if isinstance(e, Mapping) and e.get("Value")},
    )


async def close(tx: Database, unit: Unit, *, outcome: str, at: datetime) -> None:
    """Write the close of a locked unit."""
    await tx.execute(
        "UPDATE close_unit SET closed_at = $2, outcome = $3, closes = closes + 1, due_at = NULL, "
        "first_uncovered_at = NULL WHERE id = $1",
        unit.id,
        at,
        outcome,
    )


async def ensure_units(tx: Database, wished: Iterable[tuple[int, str, str, datetime]]) -> None:
    """Make units (study id, series UID, AE, last arrival) that are not there yet; closed until `move` opens them."""
    await tx.execute_many(
        "INSERT INTO close_unit (study_id, series_uid, ae, last_arrival_at, closes) VALUES ($1, $2, $3, $4, 0) "
        "ON CONFLICT (study_id, series_uid, ae) DO NOTHING",
        sorted(wished),
    )


async def lock_units(tx: Database, study_ids: Sequence[int]) -> list[Unit]:
    """Return all units of some studies, locked until the end of the transaction."""
    sql = _UNIT + "WHERE study_id = ANY($1) ORDER BY id FOR UPDATE"
    return [_unit(row) for row in await tx.fetch(sql, list(study_ids))]


async def move(tx: Database, moved: Iterable[tuple[int, datetime, datetime, datetime]]) -> None:
    """Write new times of locked units: (id, first uncovered, last arrival, due)."""
    await tx.execute_many(
        "UPDATE close_unit SET first_uncovered_at = $2, last_arrival_at = $3, due_at = $4 WHERE id = $1",
        sorted(moved),
    )
