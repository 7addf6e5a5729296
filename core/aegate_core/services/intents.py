"""The audit of what shares no transaction with the database: a change of a resource or a file.

An intent is committed first (none, no change), an outcome after it. What dies in between leaves an open intent, which a
sweeper settles from the object: as DONE, FAILED, or UNKNOWN where others have changed the object since.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import cast

from aegate_core.database import Database, as_json
from aegate_core.services.audit import Area, Deed, record

OPEN_AFTER = timedelta(seconds=90)
"""How old an intent without outcome must be before it is settled: longer than any change takes."""
MOST_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class OpenIntent:
    """A change that was begun, and of which nobody has said what came of it."""

    id: int
    deed: Deed


async def begin(db: Database, deed: Deed, *, now: datetime | None = None) -> OpenIntent:
    """Commit the intent; only then may the change be made. Raises StorageError: then it may not."""

    async def work(tx: Database) -> int:
        written = await record(tx, replace(deed, outcome="INTENT"), now=now)
        assert written is not None, "a row without an intent is in no other's way"
        return written

    return OpenIntent(await db.atomically(work), deed)


async def settle(
    db: Database,
    intent: OpenIntent,
    outcome: str,
    detail: Mapping[str, object] | None = None,
    *,
    now: datetime | None = None,
) -> None:
    """Commit what came of it; the first to say so is right, a second one changes nothing."""

    async def work(tx: Database) -> None:
        said = replace(intent.deed, outcome=outcome, detail=intent.deed.detail if detail is None else detail)
        await record(tx, said, now=now, intent_id=intent.id)

    await db.atomically(work)


@dataclass(slots=True)
class Place:
    """Where the next sweep goes on: what cannot be judged keeps nothing behind it from being looked at."""

    after: int = 0
    """The id of the intent that was looked at last; 0: the next sweep begins with the oldest."""


async def open_intents(db: Database, *, before: datetime, after: int = 0) -> list[OpenIntent]:
    """Return intents from before a time that have no outcome, oldest first, a hundred behind ``after`` at most."""
    rows = await db.fetch(
        "SELECT i.id, i.actor, i.address, i.action, i.target, i.detail FROM audit_event i "
        "WHERE i.outcome = 'INTENT' AND i.at < $1 AND i.id > $3 "
        "AND NOT EXISTS (SELECT 1 FROM audit_event o WHERE o.intent_id = i.id) ORDER BY i.id LIMIT $2",
        before,
        MOST_AT_ONCE,
        after,
    )
    return [
        OpenIntent(
            int(row["id"]),
            Deed(
                row["actor"],
                row["action"],
                row["target"],
                address=row["address"],
                area=Area.ENTITIES,
                detail=cast("dict[str, object]", as_json(row["detail"])),
            ),
        )
        for row in rows
    ]


async def sweep(
    db: Database,
    judge: Callable[[OpenIntent], Awaitable[str | None]],
    *,
    now: datetime,
    open_after: timedelta = OPEN_AFTER,
    place: Place | None = None,
) -> int:
    """Settle old open intents as ``judge`` finds them (None: not now); return how many. Several may do so at once.

    A hundred at most are looked at; with ``place``, the next call looks at those behind them, and then from the start.
    """
    settled, place = 0, place or Place()
    found = await open_intents(db, before=now - open_after, after=place.after)
    for intent in found:
        place.after = intent.id  # first: a fault in judging one is not met again at once
        outcome = await judge(intent)
        if outcome is not None:
            await settle(db, intent, outcome, {"settledBy": "sweeper"}, now=now)
            settled += 1
    if len(found) < MOST_AT_ONCE:
        place.after = 0
    return settled
