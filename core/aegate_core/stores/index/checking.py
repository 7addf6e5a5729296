"""What must hold between the rows of the index, as questions: each is one statement, so it sees one instant.

A running indexer therefore never looks like damage. Sizes have a range: an instance sent again with other content
counts with one of its arrivals, and which came first two indexers may have seen differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aegate_core.database import Database
from aegate_core.stores.index.retention import lock_studies


@dataclass(frozen=True, slots=True)
class ArrivalBlob:
    """What the index says of a blob."""

    arrival_id: str
    blob_key: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class WrongCount:
    """A row whose counters are not what lies below it."""

    id: int
    uid: str
    said: tuple[int, ...]
    counted: tuple[int, ...]


async def installation_mark(db: Database) -> str:
    """Return which installation the index is of."""
    return str(await db.fetch_value("SELECT mark FROM installation"))


async def totals(db: Database) -> tuple[int, int]:
    """Return how many arrivals there are whose image retention did not remove, and their bytes."""
    row = await db.fetch_one(
        "SELECT count(*) AS n, COALESCE(sum(size_bytes), 0) AS size FROM arrival WHERE removed_at IS NULL"
    )
    assert row is not None
    return int(row["n"]), int(row["size"])


async def arrivals_after(db: Database, arrival_id: str, limit: int) -> list[ArrivalBlob]:
    """Return a page of arrivals in the order of their ids, without those whose image retention removed."""
    rows = await db.fetch(
        "SELECT id, blob_key, sha256, size_bytes FROM arrival WHERE id > $1 AND removed_at IS NULL "
        "ORDER BY id LIMIT $2",
        arrival_id,
        limit,
    )
    return [ArrivalBlob(r["id"], r["blob_key"], r["sha256"], int(r["size_bytes"])) for r in rows]


async def known_of(db: Database, arrival_ids: Sequence[str]) -> set[str]:
    """Return which of these arrivals have a row."""
    rows = await db.fetch("SELECT id FROM arrival WHERE id = ANY($1)", list(arrival_ids))
    return {str(r["id"]) for r in rows}


async def removed_of(db: Database, arrival_ids: Sequence[str]) -> set[str]:
    """Return which of these arrivals retention removed: a file of them is one that it still has to delete."""
    rows = await db.fetch(
        "SELECT id FROM arrival WHERE id = ANY($1) AND removed_at IS NOT NULL", list(arrival_ids)
    )
    return {str(r["id"]) for r in rows}


async def arrival_bounds(db: Database) -> tuple[str, str]:
    """Return the first and the newest arrival ids; '' and '' where nothing ever arrived. Rows of arrivals stay."""
    row = await db.fetch_one(
        "SELECT COALESCE(min(id), '') AS first, COALESCE(max(id), '') AS newest FROM arrival"
    )
    assert row is not None
    return str(row["first"]), str(row["newest"])


_SERIES = """
SELECT s.id AS id, s.series_instance_uid AS uid, s.instance_count AS said, s.size_bytes AS size,
  COALESCE(c.n, 0) AS n, COALESCE(c.low, 0) AS low, COALESCE(c.high, 0) AS high
FROM series s LEFT JOIN (
  SELECT i.series_id AS series_id, count(*) AS n, sum(b.low) AS low, sum(b.high) AS high
  FROM instance i JOIN (SELECT instance_id, min(size_bytes) AS low, max(size_bytes) AS high FROM arrival
    WHERE instance_id IS NOT NULL GROUP BY instance_id) b ON b.instance_id = i.id
  GROUP BY i.series_id) c ON c.series_id = s.id
WHERE s.instance_count <> COALESCE(c.n, 0) OR s.size_bytes < COALESCE(c.low, 0) OR s.size_bytes > COALESCE(c.high, 0)
"""

_STUDIES = """
SELECT t.id AS id, t.study_instance_uid AS uid, t.series_count AS said_series, t.instance_count AS said,
  t.size_bytes AS size, COALESCE(c.series, 0) AS series, COALESCE(c.n, 0) AS n, COALESCE(c.bytes, 0) AS bytes
FROM study t LEFT JOIN (
  SELECT study_id, count(*) AS series, sum(instance_count) AS n, sum(size_bytes) AS bytes FROM series
  GROUP BY study_id) c ON c.study_id = t.id
WHERE t.series_count <> COALESCE(c.series, 0) OR t.instance_count <> COALESCE(c.n, 0)
  OR t.size_bytes <> COALESCE(c.bytes, 0)
"""


async def wrong_series(db: Database, series_id: int | None = None) -> list[WrongCount]:
    """Return series whose (instances, bytes) are not those of their instances: of all, or whether one is."""
    return [
        WrongCount(int(r["id"]), r["uid"], (int(r["said"]), int(r["size"])), (int(r["n"]), int(r["low"])))
        for r in await _of(db, _SERIES, series_id)
    ]


async def wrong_studies(db: Database, study_id: int | None = None) -> list[WrongCount]:
    """Return studies whose (series, instances, bytes) are not those of their series: of all, or whether one is."""
    return [
        WrongCount(
            int(r["id"]),
            r["uid"],
            (int(r["said_series"]), int(r["said"]), int(r["size"])),
            (int(r["series"]), int(r["n"]), int(r["bytes"])),
        )
        for r in await _of(db, _STUDIES, study_id)
    ]


async def _of(db: Database, sql: str, row_id: int | None) -> list[dict[str, Any]]:
    if row_id is None:
        return await db.fetch(f"{sql} ORDER BY id")
    return await db.fetch(f"SELECT * FROM ({sql}) w WHERE w.id = $1", row_id)


async def recount_series(tx: Database, series_id: int) -> bool:
    """Count anew with its study locked, as indexers have it when they count; False: it is right by now."""
    study_id = await tx.fetch_value("SELECT study_id FROM series WHERE id = $1", series_id)
    await lock_studies(tx, [int(study_id)])
    wrong = await wrong_series(tx, series_id)
    for row in wrong:
        await tx.execute(
            "UPDATE series SET instance_count = $2, size_bytes = $3 WHERE id = $1", row.id, *row.counted
        )
    return bool(wrong)


async def recount_study(tx: Database, study_id: int) -> bool:
    """Count anew with the study locked, as indexers have it when they count; False: it is right by now."""
    await lock_studies(tx, [study_id])
    wrong = await wrong_studies(tx, study_id)
    for row in wrong:
        await tx.execute(
            "UPDATE study SET series_count = $2, instance_count = $3, size_bytes = $4 WHERE id = $1",
            row.id,
            *row.counted,
        )
    return bool(wrong)


_LOOSE = {
    "an instance without its current arrival": "SELECT i.id AS id FROM instance i WHERE NOT EXISTS "
    "(SELECT 1 FROM arrival a WHERE a.id = i.current_arrival_id AND a.instance_id = i.id) ORDER BY i.id",
    "an arrival that is in no instance and not quarantined": "SELECT a.id AS id FROM arrival a "
    "WHERE a.instance_id IS NULL AND a.outcome <> 'QUARANTINED' ORDER BY a.id",
    "a conflict about an arrival that is not there": "SELECT c.id AS id FROM conflict c WHERE NOT EXISTS "
    "(SELECT 1 FROM arrival a WHERE a.id = c.arrival_id) ORDER BY c.id",
    "a quarantined object without an arrival": "SELECT q.arrival_id AS id FROM quarantined_object q "
    "WHERE NOT EXISTS (SELECT 1 FROM arrival a WHERE a.id = q.arrival_id) ORDER BY q.arrival_id",
}


async def loose_rows(db: Database) -> list[tuple[str, str]]:
    """Return rows that point at nothing, as (what it is, its id)."""
    return [(what, str(r["id"])) for what, sql in _LOOSE.items() for r in await db.fetch(sql)]


async def unlisted_quarantine(db: Database) -> list[str]:
    """Return quarantined arrivals that nobody can see: they lack their row in the list of quarantined objects."""
    rows = await db.fetch(
        "SELECT a.id AS id FROM arrival a WHERE a.outcome = 'QUARANTINED' AND NOT EXISTS "
        "(SELECT 1 FROM quarantined_object q WHERE q.arrival_id = a.id) ORDER BY a.id"
    )
    return [str(r["id"]) for r in rows]


async def list_quarantined(tx: Database, arrival_id: str, reason: str, *, now: datetime) -> None:
    """Put a quarantined arrival on the list."""
    await tx.execute(
        "INSERT INTO quarantined_object (arrival_id, ae, reason, size_bytes, received_at, created_at) "
        "SELECT id, ae, $2, size_bytes, received_at, $3::timestamptz FROM arrival WHERE id = $1 "
        "ON CONFLICT (arrival_id) DO NOTHING",
        arrival_id,
        reason,
        now,
    )


async def units_never_due(db: Database) -> list[int]:
    """Return close units that hold something no close covers and will never be closed."""
    rows = await db.fetch("SELECT id FROM close_unit WHERE due_at IS NULL AND closed_at IS NULL ORDER BY id")
    return [int(r["id"]) for r in rows]


async def make_due(tx: Database, unit_id: int) -> None:
    """Let a worker close the unit next."""
    await tx.execute(
        "UPDATE close_unit SET due_at = last_arrival_at, "
        "first_uncovered_at = COALESCE(first_uncovered_at, last_arrival_at) WHERE id = $1 AND due_at IS NULL",
        unit_id,
    )
