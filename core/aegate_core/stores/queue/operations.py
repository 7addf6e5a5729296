"""Changes of many, as rows: what was asked for, the things that it is about, and how far it got.

Whoever does a batch holds the operation's row locked for that one transaction. Killed over it, the lock and the half
batch are gone, and whoever looks next goes on behind the last whole one: there is no lease that would have to run out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from aegate_core.database import Database, as_datetime, as_json
from aegate_core.stores.listing import Column, Filter, Order, Source, sql_of
from aegate_core.stores.partitions import TABLES
from aegate_core.stores.queue.lists import as_rows, rows
from aegate_core.stores.scope import Arguments, Scope, by_partition

OPEN = "('SCHEDULED', 'RUNNING')"


@dataclass(frozen=True, slots=True)
class NewOperation:
    """What is asked for; ``arguments`` hold no patient data."""

    action: str
    target_kind: str
    actor: str
    address: str
    idempotency_key: str | None
    fingerprint: str
    arguments: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class OperationRow:
    """An operation, as its batches need it."""

    id: int
    action: str
    target_kind: str
    actor: str
    address: str
    fingerprint: str
    arguments: Mapping[str, object]
    state: str
    total: int
    processed: int
    changed: int
    failures: int
    """How often in a row its next batch failed."""
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one thing."""

    n: int
    outcome: str
    because: str | None = None


_COLUMNS = (
    "id, action, target_kind, actor, address, fingerprint, arguments, state, total, processed, changed, "
    "failures, created_at, finished_at"
)


def _operation(row: Mapping[str, Any]) -> OperationRow:
    return OperationRow(
        id=int(row["id"]),
        action=row["action"],
        target_kind=row["target_kind"],
        actor=row["actor"],
        address=row["address"],
        fingerprint=row["fingerprint"],
        arguments=cast("Mapping[str, object]", as_json(row["arguments"])),
        state=row["state"],
        total=int(row["total"]),
        processed=int(row["processed"]),
        changed=int(row["changed"]),
        failures=int(row["failures"] or 0),
        created_at=as_datetime(row["created_at"]),
        finished_at=None if row["finished_at"] is None else as_datetime(row["finished_at"]),
    )


async def insert(tx: Database, new: NewOperation, *, now: datetime) -> int | None:
    """Make an operation without items; None where the actor has used the key before, also a moment ago."""
    return cast(
        "int | None",
        await tx.fetch_value(
            "INSERT INTO operation (action, target_kind, actor, address, idempotency_key, fingerprint, arguments, "
            "state, total, processed, changed, asked, refused, created_at, stepped_at) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, 'SCHEDULED', 0, 0, 0, 0, 0, $8, $8) "
            "ON CONFLICT (actor, idempotency_key) DO NOTHING RETURNING id",
            new.action,
            new.target_kind,
            new.actor[:256],
            new.address[:64],
            new.idempotency_key,
            new.fingerprint,
            dict(new.arguments),
            now,
        ),
    )


async def by_key(tx: Database, actor: str, key: str) -> OperationRow | None:
    """Return the operation for which the actor used this key."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} FROM operation WHERE actor = $1 AND idempotency_key = $2", actor[:256], key
    )
    return None if row is None else _operation(row)


async def add(tx: Database, operation_id: int, targets: Sequence[int]) -> None:
    """Say what an operation is about."""
    values = [{"n": n, "t": target} for n, target in enumerate(targets, start=1)]
    await tx.execute(
        "INSERT INTO operation_item (operation_id, n, target) "
        "SELECT $2::bigint, CAST(j.value ->> 'n' AS integer), CAST(j.value ->> 't' AS bigint) "
        f"FROM {rows('$1', tx.dialect)}",
        as_rows(values),
        operation_id,
    )


@dataclass(frozen=True, slots=True)
class Found:
    """What a filter finds in a list, in an order; at most so many."""

    source: Source
    where: Filter
    order: Order
    limit: int


async def count_found(tx: Database, found: Found, scope: Scope) -> int:
    """Return how many a filter finds now, at most ``found.limit``."""
    arguments = Arguments()
    conditions = (
        f"({found.source.where})",
        scope.condition(found.source.belongs, arguments),
        sql_of(found.where, found.source.columns, arguments),
    )
    return int(
        await tx.fetch_value(
            f"SELECT count(*) FROM (SELECT 1 AS one FROM {found.source.table} WHERE {' AND '.join(conditions)} "
            f"LIMIT {arguments.add(found.limit, 'bigint')}) AS counted",
            *arguments.values,
        )
    )


async def add_found(tx: Database, operation_id: int, found: Found, scope: Scope) -> int:
    """Say that an operation is about what a filter finds at this instant; return how many that is."""
    arguments = Arguments([operation_id])
    ordered = ", ".join(sql for sql, _ in found.order.keys)
    conditions = (
        f"({found.source.where})",
        scope.condition(found.source.belongs, arguments),
        sql_of(found.where, found.source.columns, arguments),
    )
    return await tx.execute(
        "INSERT INTO operation_item (operation_id, n, target) "
        f"SELECT $1::bigint, row_number() OVER (ORDER BY {ordered}), {found.source.columns['id'].sql} "
        f"FROM {found.source.table} WHERE {' AND '.join(conditions)} "
        f"LIMIT {arguments.add(found.limit, 'bigint')}",
        *arguments.values,
    )


async def seal(tx: Database, operation_id: int, total: int) -> None:
    """Write how many things it is about, and of which partitions they are: by these it is seen."""
    kind = await tx.fetch_value(
        "UPDATE operation SET total = $2 WHERE id = $1 RETURNING target_kind", operation_id, total
    )
    table, key = TABLES[kind]
    await tx.execute(
        "INSERT INTO operation_partition (operation_id, partition) SELECT DISTINCT $1::bigint, t.partition "
        f"FROM {table} JOIN operation_item i ON i.target = {key} WHERE i.operation_id = $1::bigint",
        operation_id,
    )


async def any_open(db: Database) -> bool:
    """Whether an operation has something to do: a read that locks nothing, for polling."""
    return await db.fetch_one(f"SELECT id FROM operation WHERE state IN {OPEN} LIMIT 1") is not None


async def failed_since(db: Database, since: datetime) -> int:
    """Return how many operations failed since then, and were not resumed."""
    return int(
        await db.fetch_value(
            "SELECT count(*) FROM operation WHERE state = 'FAILED' AND finished_at > $1", since
        )
    )


async def take(tx: Database, *, now: datetime) -> OperationRow | None:
    """Return the operation that waited longest for its next batch, locked; None where all are in others' hands.

    One whose batch failed waits until its time has come.
    """
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} FROM operation WHERE state IN {OPEN} AND (retry_at IS NULL OR retry_at <= $1) "
        "ORDER BY stepped_at, id LIMIT 1 FOR UPDATE SKIP LOCKED",
        now,
    )
    return None if row is None else _operation(row)


async def lock(tx: Database, operation_id: int) -> OperationRow | None:
    """Return an operation that is open, locked."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} FROM operation WHERE id = $1 AND state IN {OPEN} FOR UPDATE", operation_id
    )
    return None if row is None else _operation(row)


async def defer(tx: Database, operation_id: int, message: str, *, now: datetime, retry_at: datetime) -> None:
    """Let all others that wait go first, and count that its batch failed."""
    await tx.execute(
        "UPDATE operation SET stepped_at = $2, failures = COALESCE(failures, 0) + 1, error_message = $3, "
        f"retry_at = $4 WHERE id = $1 AND state IN {OPEN}",
        operation_id,
        now,
        message[:256],
        retry_at,
    )


async def reopen(tx: Database, operation_id: int, *, now: datetime) -> bool:
    """Let an operation that failed or was cancelled go on behind its last batch; return whether it could."""
    return bool(
        await tx.execute(
            "UPDATE operation SET state = 'SCHEDULED', finished_at = NULL, error_code = NULL, error_message = NULL, "
            "canceled_by = NULL, failures = 0, retry_at = NULL, stepped_at = $2 "
            "WHERE id = $1 AND state IN ('FAILED', 'CANCELED') AND processed < total",
            operation_id,
            now,
        )
    )


async def next_targets(tx: Database, operation: OperationRow, limit: int) -> list[tuple[int, int]]:
    """Return (place, row id) of what comes next."""
    found = await tx.fetch(
        "SELECT n, target FROM operation_item WHERE operation_id = $1 AND n > $2 ORDER BY n LIMIT $3",
        operation.id,
        operation.processed,
        limit,
    )
    return [(int(r["n"]), int(r["target"])) for r in found]


async def record(tx: Database, operation_id: int, fates: Sequence[Fate], *, now: datetime) -> None:
    """Write what became of the next things of a locked operation."""
    groups: dict[tuple[str, str | None], list[int]] = {}
    for fate in fates:
        groups.setdefault((fate.outcome, fate.because), []).append(fate.n)
    for (outcome, because), places in groups.items():
        await tx.execute(
            "UPDATE operation_item SET outcome = $1, because = $2 WHERE operation_id = $3 AND n = ANY($4)",
            outcome,
            because,
            operation_id,
            places,
        )
    counts = [sum(f.outcome == name for f in fates) for name in ("CHANGED", "ASKED", "LEFT")]
    await tx.execute(
        "UPDATE operation SET state = 'RUNNING', processed = processed + $2, changed = changed + $3, "
        "asked = asked + $4, refused = refused + $5, started_at = COALESCE(started_at, $6), stepped_at = $6, "
        "failures = 0, retry_at = NULL, error_message = NULL "
        "WHERE id = $1",
        operation_id,
        len(fates),
        *counts,
        now,
    )


async def finish(  # noqa: PLR0913 - an operation, how it ended, when, and what is told of it
    tx: Database,
    operation_id: int,
    state: str,
    *,
    now: datetime,
    because: str | None = None,
    message: str | None = None,
) -> bool:
    """End an operation that is open; return whether it was. ``because``: who cancelled it, or the code of a failure."""
    return bool(
        await tx.execute(
            "UPDATE operation SET state = $2, finished_at = $3, error_code = $4, canceled_by = $5, "
            "error_message = COALESCE($6::text, error_message) "
            f"WHERE id = $1 AND state IN {OPEN}",
            operation_id,
            state,
            now,
            because[:32] if because and state == "FAILED" else None,
            because[:256] if because and state == "CANCELED" else None,
            message and message[:256],
        )
    )


async def finish_at_once(tx: Database, operation_id: int, total: int, changed: int, *, now: datetime) -> None:
    """Write what an operation did that is over in the transaction that made it; the rest was so already."""
    await tx.execute(
        "UPDATE operation SET state = 'COMPLETED', total = $2, processed = $2, changed = $3, refused = $4, "
        "started_at = $5, finished_at = $5 WHERE id = $1",
        operation_id,
        total,
        changed,
        total - changed,
        now,
    )


async def keep_answer(
    tx: Database, operation_id: int, answer: Mapping[str, object], partitions: Sequence[str]
) -> None:
    """Write what an operation answered that is about no numbered rows, and of which partitions that is."""
    await tx.execute("UPDATE operation SET arguments = $2 WHERE id = $1", operation_id, dict(answer))
    await tx.execute_many(
        "INSERT INTO operation_partition (operation_id, partition) VALUES ($1, $2)",
        [(operation_id, partition) for partition in partitions],
    )


async def fates_of(tx: Database, operation_id: int, limit: int) -> list[tuple[int, str, str | None]]:
    """Return (row id, outcome, because) of the first things of an operation that is done."""
    found = await tx.fetch(
        "SELECT target, outcome, because FROM operation_item WHERE operation_id = $1 AND outcome IS NOT NULL "
        "ORDER BY n LIMIT $2",
        operation_id,
        limit,
    )
    return [(int(r["target"]), str(r["outcome"]), r["because"]) for r in found]


_ALL_MINE = "NOT EXISTS (SELECT 1 FROM operation_partition p WHERE p.operation_id = o.id AND NOT ({}))"

OPERATIONS = Source(
    select=(
        "o.id AS id, o.action AS action, o.target_kind AS target_kind, o.actor AS actor, o.state AS state, "
        "o.arguments AS arguments, o.total AS total, o.processed AS processed, o.changed AS changed, "
        "o.asked AS asked, o.refused AS refused, o.canceled_by AS canceled_by, o.error_code AS error_code, "
        "o.error_message AS error_message, o.failures AS failures, o.retry_at AS retry_at, "
        "o.created_at AS created_at, o.started_at AS started_at, o.finished_at AS finished_at"
    ),
    table="operation o",
    belongs=by_partition("p.partition", _ALL_MINE),
    columns={
        "id": Column("o.id", "bigint"),
        "state": Column("o.state"),
        "action": Column("o.action"),
        "actor": Column("o.actor"),
    },
)
OPERATION_ORDER = Order("NEWEST", (("o.created_at", "timestamptz"), ("o.id", "bigint")))

RESULTS = Source(
    select="i.id AS id, i.n AS n, i.target AS target, i.outcome AS outcome, i.because AS because",
    table="operation_item i",
    belongs=by_partition("p.partition", _ALL_MINE.replace("o.id", "i.operation_id")),
    columns={"operation": Column("i.operation_id", "bigint"), "outcome": Column("i.outcome")},
)
RESULT_ORDER = Order("PLACE", (("i.n", "bigint"),), descending=False)
