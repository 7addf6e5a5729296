"""How many items were finished when, of whom and for whom: counters, so that nobody counts a day's items again.

Triggers write them with each change, as rows that are only added: two workers never wait for one counter. `pack` adds
them up, first by the minute, then by the quarter of an hour, which the midnights of all time zones begin. An item that
is retried is taken back from the minute it was finished in. Kept a little longer than the dashboard looks back.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from aegate_core.database import Database
from aegate_core.database.declared import trigger
from aegate_core.stores.scope import Scope, by_partition, fetch_own

KEPT = timedelta(days=8)
MINUTES = timedelta(hours=2)
"""For how long it is known to the minute."""
SETTLED = timedelta(minutes=2)
"""After which few counts of a minute still come: a transaction writes the time of its beginning."""
AT_ONCE = 20_000

_WHAT = "destination_id, source_ae, partition, location_code, requested_by, state"
_MINUTE = {
    "postgres": "date_trunc('minute', {at})",
    "sqlite": "substr({at}, 1, 16) || ':00+00:00'",
}
_QUARTER = {
    "postgres": "to_timestamp(floor(extract(epoch FROM minute) / 900) * 900)",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%S+00:00', CAST(strftime('%s', minute) AS INTEGER) / 900 * 900, 'unixepoch')",
}
_ADD = "INSERT INTO rollup_minute (minute, {what}, items, coarse) "


def _added(row: str, items: int, dialect: str) -> str:
    values = ", ".join(f"{row}.{name}" for name in _WHAT.split(", "))
    minute = _MINUTE[dialect].format(at=f"{row}.finished_at")
    return f"{_ADD.format(what=_WHAT)}VALUES ({minute}, {values}, {items}, 0);"


_CHANGED = (
    "({old}.finished_at IS NOT NULL OR {new}.finished_at IS NOT NULL) AND "
    "({old}.finished_at {other} {new}.finished_at OR {old}.state <> {new}.state)"
)

_FILL = f"""
{_ADD.format(what=_WHAT)}
SELECT {{minute}} AS finished, {_WHAT}, count(*), 1 FROM delivery
WHERE finished_at >= {{since}} AND NOT EXISTS (SELECT 1 FROM rollup_minute) GROUP BY finished, {_WHAT}
"""


def statements(dialect: str) -> tuple[str, ...]:
    """Return what makes the counters: triggers, and the counts of what was finished before there were any."""
    if dialect == "sqlite":
        changed = _CHANGED.format(old="old", new="new", other="IS NOT")
        made: tuple[str, ...] = (
            f"CREATE TRIGGER IF NOT EXISTS delivery_taken_back AFTER UPDATE OF state, finished_at ON delivery "
            f"WHEN old.finished_at IS NOT NULL AND {changed} BEGIN {_added('old', -1, dialect)} END",
            f"CREATE TRIGGER IF NOT EXISTS delivery_counted AFTER UPDATE OF state, finished_at ON delivery "
            f"WHEN new.finished_at IS NOT NULL AND {changed} BEGIN {_added('new', 1, dialect)} END",
        )
        since = f"datetime('now', '-{KEPT.days} days')"
    else:
        changed = _CHANGED.format(old="OLD", new="NEW", other="IS DISTINCT FROM")
        made = (
            f"""
            CREATE OR REPLACE FUNCTION count_finished() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
              IF OLD.finished_at IS NOT NULL THEN {_added("OLD", -1, dialect)} END IF;
              IF NEW.finished_at IS NOT NULL THEN {_added("NEW", 1, dialect)} END IF;
              RETURN NULL;
            END $$
            """,
            trigger(
                "delivery_counted",
                "AFTER UPDATE OF state, finished_at",
                "delivery",
                f"FOR EACH ROW WHEN ({changed}) EXECUTE FUNCTION count_finished()",
            ),
        )
        since = f"now() - interval '{KEPT.days} days'"
    return (*made, _FILL.format(minute=_MINUTE[dialect].format(at="finished_at"), since=since))


_FINISHED = """
SELECT d.ae AS destination, r.source_ae AS source_ae, r.location_code AS location_code, r.requested_by AS requested_by,
  r.partition AS partition, r.state AS state, sum(CASE WHEN r.minute >= $2::timestamptz THEN r.items ELSE 0 END) AS n,
  sum(CASE WHEN r.minute >= $3::timestamptz THEN r.items ELSE 0 END) AS lately
FROM rollup_minute r JOIN destination d ON d.id = r.destination_id WHERE r.minute >= $1::timestamptz AND {own}
GROUP BY d.ae, r.source_ae, r.location_code, r.requested_by, r.partition, r.state
"""


async def finished(db: Database, since: datetime, lately: datetime, scope: Scope) -> list[dict[str, object]]:
    """Return how many items were finished since two times: ``n`` and ``lately``, to the minute of the rollup."""
    times = (min(since, lately), since, lately)
    return await fetch_own(db, _FINISHED, by_partition("r.partition"), scope, *times)


def quarter_of(moment: datetime) -> datetime:
    """Return the quarter of an hour that ``moment`` lies in: what is older than MINUTES is counted by these."""
    return moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)


def _steps(now: datetime) -> tuple[tuple[int, datetime], ...]:
    """Return how coarse counts are that are to become coarser, and those before when."""
    settled = (now - SETTLED).replace(second=0, microsecond=0)
    return ((0, settled), (1, quarter_of(now - MINUTES)))


async def waits(db: Database, *, now: datetime) -> bool:
    """Whether there is something to pack: a read that locks nothing."""
    for coarse, before in _steps(now):
        sql = "SELECT 1 AS one FROM rollup_minute WHERE coarse = $1 AND minute < $2 LIMIT 1"
        if await db.fetch_one(sql, coarse, before) is not None:
            return True
    return False


async def pack(tx: Database, *, now: datetime) -> None:
    """Add up what is no longer needed so finely, and forget what is too old; several at once do no harm."""
    for coarse, before in _steps(now):
        await _pack(tx, coarse, before)
    await tx.execute("DELETE FROM rollup_minute WHERE minute < $1", now - KEPT)


async def _pack(tx: Database, coarse: int, before: datetime) -> None:
    minute = "minute" if coarse == 0 else _QUARTER[tx.dialect]
    sums = (
        f"SELECT {minute} AS start, {_WHAT}, sum(items), {coarse + 1} FROM {{rows}} GROUP BY start, {_WHAT} "
    )
    summed = f"{_ADD.format(what=_WHAT)}{sums}HAVING sum(items) <> 0"
    old = "coarse = $1 AND minute < $2"
    if tx.is_sqlite:  # one writer at a time: both statements see the same rows
        await tx.execute(summed.format(rows=f"rollup_minute WHERE {old}"), coarse, before)
        await tx.execute(f"DELETE FROM rollup_minute WHERE {old}", coarse, before)
        return
    taken = f"SELECT id FROM rollup_minute WHERE {old} ORDER BY minute LIMIT {AT_ONCE} FOR UPDATE SKIP LOCKED"
    await tx.execute(
        f"WITH gone AS (DELETE FROM rollup_minute WHERE id IN ({taken}) RETURNING *) {summed.format(rows='gone')}",
        coarse,
        before,
    )
