"""What of the audit waits for its collector, and who exports it: one worker at a time, by a lease.

The outbox is filled by a trigger from the moment on that there is a collector (`declarations`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from aegate_core.database import Database

WAITING_CAP = 100_000
"""Counting what waits stops here."""
QUIET = timedelta(days=1)
"""A collector that no worker exports to for so long was given up. Longer than a rollout that hangs overnight; shorter,
a backlog may be lost; longer, the outbox (one number a row) grows for a collector that nobody wants any more."""


async def set_collector(tx: Database, name: str | None, *, now: datetime, quiet: timedelta = QUIET) -> bool:
    """Export to ``name`` from now on; None: to nobody. Return whether it was not known before.

    A collector that workers of another configuration export to stays, and what waits with it, until none of them has
    shown a sign of life for ``quiet``: of two configurations in a rollout nobody knows here which one is to last.
    """
    await tx.execute("UPDATE audit_collector SET leased_until = $1 WHERE leased_until IS NULL", now)
    await tx.execute(
        "DELETE FROM audit_collector WHERE name <> $1 AND leased_until < $2", name or "", now - quiet
    )
    if name is None:
        # One statement: what a collector waits for that is declared meanwhile is not seen by it.
        await tx.execute("DELETE FROM audit_outbox WHERE NOT EXISTS (SELECT 1 FROM audit_collector)")
        return False
    declared = await tx.execute(
        "INSERT INTO audit_collector (name, leased_until) VALUES ($1, $2) ON CONFLICT DO NOTHING", name, now
    )
    return declared == 1


async def is_declared(db: Database, name: str) -> bool:
    """Whether every new row of the audit waits for ``name``."""
    return await db.fetch_one("SELECT name FROM audit_collector WHERE name = $1", name) is not None


async def lease(tx: Database, name: str, worker: str, *, until: datetime, now: datetime) -> bool:
    """Take or keep the export; False while another worker has it."""
    taken = await tx.execute(
        "UPDATE audit_collector SET worker = $2, leased_until = $3 "
        "WHERE name = $1 AND (worker IS NULL OR worker = $2 OR leased_until IS NULL OR leased_until < $4)",
        name,
        worker,
        until,
        now,
    )
    return taken == 1


async def release(tx: Database, name: str, worker: str, *, now: datetime) -> None:
    """Let another worker have it at once."""
    await tx.execute(
        "UPDATE audit_collector SET leased_until = $3 WHERE name = $1 AND worker = $2",
        name,
        worker,
        now - timedelta(seconds=1),
    )


async def waiting(db: Database, limit: int) -> list[dict[str, object]]:
    """Return the first rows that wait, with the study, patient and AE that their keys stand for."""
    return await db.fetch(_WAITING[db.dialect], limit)


async def count_waiting(db: Database) -> int:
    """Return how many rows wait, at most WAITING_CAP."""
    sql = "SELECT count(*) FROM (SELECT 1 AS one FROM audit_outbox LIMIT $1) AS counted"
    return int(await db.fetch_value(sql, WAITING_CAP))


async def taken(tx: Database, name: str, ids: Sequence[int], *, now: datetime) -> None:
    """The collector has these rows: they wait no longer."""
    await tx.execute("DELETE FROM audit_outbox WHERE id = ANY($1)", list(ids))
    await tx.execute(
        "UPDATE audit_collector SET last_sent_at = $2, last_error = NULL WHERE name = $1", name, now
    )


async def failed(tx: Database, name: str, error: str) -> None:
    """Keep why the collector does not take it."""
    await tx.execute("UPDATE audit_collector SET last_error = $2 WHERE name = $1", name, error[:256])


_ROWS = """
SELECT e.id AS id, e.at AS at, e.actor AS actor, e.address AS address, e.action AS action, e.target AS target,
  e.outcome AS outcome, e.area AS area, e.detail AS detail, s.study_instance_uid AS study_instance_uid,
  p.patient_id AS patient_id, p.issuer AS issuer, a.title AS title, a.node AS node
FROM audit_outbox o JOIN audit_event e ON e.id = o.id
LEFT JOIN study s ON s.id = {study} LEFT JOIN patient p ON p.id = s.patient_id
LEFT JOIN application_entity a ON a.namespace || '/' || a.name = {ae}
ORDER BY o.id LIMIT $1
"""
_WAITING = {
    "postgres": _ROWS.format(study="CAST(e.detail ->> 'study' AS bigint)", ae="e.detail ->> 'ae'"),
    "sqlite": _ROWS.format(
        study="CAST(json_extract(e.detail, '$.study') AS integer)", ae="json_extract(e.detail, '$.ae')"
    ),
}
