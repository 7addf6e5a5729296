"""How current the projections are: whoever writes them says when it has compared them all with what is configured."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from aegate_core.database import Database, as_datetime

ROUNDS = 2
"""Comparisons that may be missed before rows are shown as stale."""


async def seen(tx: Database, namespaces: Collection[str], *, resync_s: int, now: datetime) -> None:
    """Note that the rows of these namespaces (none: of all) are what is configured; the next look is so far away."""
    await tx.execute(
        "INSERT INTO projection_state (scope, seen_at, resync_s) VALUES ($1, $2, $3) "
        "ON CONFLICT (scope) DO UPDATE SET seen_at = excluded.seen_at, resync_s = excluded.resync_s",
        ",".join(sorted(namespaces))[:1024],
        now,
        resync_s,
    )


async def stale_scopes(db: Database, now: datetime) -> Callable[[str], bool]:
    """Return a function that says of a namespace whether nobody has compared its rows lately.

    A namespace that nobody ever spoke for is not stale: an older release writes its rows and says nothing.
    """
    rows = await db.fetch("SELECT scope, seen_at, resync_s FROM projection_state")
    until = [
        (
            frozenset(filter(None, str(row["scope"]).split(","))),
            as_datetime(row["seen_at"]) + ROUNDS * timedelta(seconds=int(row["resync_s"])),
        )
        for row in rows
    ]

    def is_stale(namespace: str) -> bool:
        ends = [end for scope, end in until if not scope or namespace in scope]
        return bool(ends) and max(ends) < now

    return is_stale
