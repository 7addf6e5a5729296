"""How far the indexers got: what closing looks at before it says that a study is complete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from aegate_core.database import Database, as_datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """What an indexer has seen of one AE and not yet indexed."""

    oldest_received_at: datetime
    arrivals: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What one indexer said last; ``waiting`` by AE key."""

    process: str
    scanned_at: datetime
    waiting: Mapping[str, Waiting]
    ae: str | None = None
    """The only AE whose images come into its spool; None: any."""


async def write_progress(tx: Database, progress: Progress) -> None:
    """Say how far an indexer is: its state and its backlog, in the caller's transaction."""
    await tx.execute(
        "INSERT INTO indexer_state (process, scanned_at, ae) VALUES ($1, $2, $3) "
        "ON CONFLICT (process) DO UPDATE SET scanned_at = excluded.scanned_at, ae = excluded.ae",
        progress.process,
        progress.scanned_at,
        progress.ae,
    )
    await tx.execute("DELETE FROM spool_backlog WHERE process = $1", progress.process)
    await tx.execute_many(
        "INSERT INTO spool_backlog (process, ae, oldest_received_at, arrivals) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (process, ae) DO UPDATE SET oldest_received_at = excluded.oldest_received_at, "
        "arrivals = excluded.arrivals",
        [
            (progress.process, ae, w.oldest_received_at, w.arrivals)
            for ae, w in sorted(progress.waiting.items())
        ],
    )


async def forget_progress(tx: Database, processes: Iterable[str]) -> None:
    """Let nobody wait for the word of these indexers, in the caller's transaction."""
    for table in ("spool_backlog", "indexer_state"):
        await tx.execute(f"DELETE FROM {table} WHERE process = ANY($1)", sorted(processes))


async def indexers_of(db: Database, ae: str) -> list[str]:
    """Return the names of the indexers that are there for ``ae`` alone."""
    rows = await db.fetch("SELECT process FROM indexer_state WHERE ae = $1 ORDER BY process", ae)
    return [row["process"] for row in rows]


async def read_progress(db: Database) -> list[Progress]:
    """Return what all indexers said last, ordered by name."""
    states = await db.fetch("SELECT process, scanned_at, ae FROM indexer_state ORDER BY process")
    backlog = await db.fetch("SELECT process, ae, oldest_received_at, arrivals FROM spool_backlog")
    waiting: dict[str, dict[str, Waiting]] = {}
    for row in backlog:
        seen = Waiting(as_datetime(row["oldest_received_at"]), int(row["arrivals"]))
        waiting.setdefault(row["process"], {})[row["ae"]] = seen
    return [
        Progress(
            row["process"], as_datetime(row["scanned_at"]), waiting.get(row["process"], {}), ae=row["ae"]
        )
        for row in states
    ]
