"""One reader of the feed for a whole process, and a mailbox for each subscriber with what it has not taken yet.

The feed is asked four times a second while somebody listens, and not at all otherwise: that is all it takes with any
number of processes, and costs those who write nothing. docs/adr/0019.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aegate_core.database import Database, DatabaseClock
from aegate_core.errors import StorageError
from aegate_core.stores.changes import feed
from aegate_core.stores.changes.feed import Changed, Position
from aegate_core.stores.index.list_resources import ENTITIES
from aegate_core.stores.index.list_studies import STUDIES
from aegate_core.stores.listing import EVERYTHING, Source, read_by
from aegate_core.stores.queue.list_items import ITEMS
from aegate_core.stores.scope import ALL_ROWS, Scope

POLL_S = 0.25
"""How often the feed is asked. What happened is at the client in under a second: this, `PAUSE_S` and the answer."""
PAUSE_S = 0.25
"""Between two messages of one subscription, at least; the second one tells what happened meanwhile."""
AWAY_S = 1.0
"""How long it waits when the database did not answer."""
AT_ONCE = 1_000
"""Changes read at once; their objects are read once for all subscribers."""
MAILBOX = 500
"""Objects that wait in a mailbox; who takes none of them for so long gets a snapshot instead."""
SNAPSHOTS_AT_ONCE = 4
"""Of eight connections to the database: a thousand that come back at once leave room for everybody else."""
LOOK_AT_CLOCK_S = 10.0

SOURCES: Mapping[str, tuple[Source, str, bool]] = {
    "QUEUE_ITEM": (ITEMS, "id", True),
    "STUDY": (STUDIES, "id", True),
    feed.ENTITY: (ENTITIES, "key", False),
}
"""Where the objects are read whose rows subscribers show: the list, the column of the key, whether that is a number."""


@dataclass(frozen=True, slots=True)
class News:
    """A change, and the object as it was read after it; None: it is gone, or is not read (`SOURCES`)."""

    change: Changed
    row: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a mailbox held: the newest of each object, and up to where that is all."""

    news: tuple[News, ...]
    position: Position
    is_overrun: bool = False
    """More happened than it holds: what is now must be read as a whole."""


class Mailbox:
    """What a subscriber has not taken yet: of each object the newest change alone, so it is bounded however slow."""

    def __init__(self, kinds: Collection[str], scope: Scope, start: Position) -> None:
        self.kinds = frozenset(kinds)
        self.start = start
        self._scope = scope
        self.position = start
        """Up to here what happened is in the mailbox, or was taken from it."""
        self._waiting: dict[tuple[str, str], News] = {}
        self._is_overrun = False
        self._something = asyncio.Event()
        self._not_before = 0.0
        self._failure: BaseException | None = None

    def put(self, wave: Sequence[News], position: Position) -> None:
        """Add what this subscriber may see of a wave."""
        self.position = position
        for news in wave:
            change = news.change
            if change.kind in self.kinds and feed.sees(self._scope, change):
                self._add(news)

    def _add(self, news: News) -> None:
        key = news.change.kind, news.change.key
        before = self._waiting.pop(key, None)
        if before is not None and before.change.action == "CREATED" and news.change.action == "CHANGED":
            news = News(news.change._replace(action="CREATED"), news.row)
        self._waiting[key] = news
        if len(self._waiting) > MAILBOX:
            self._waiting.clear()
            self._is_overrun = True
        self._something.set()

    def fail(self, failure: BaseException) -> None:
        """Let the subscriber end with this."""
        self._failure = failure
        self._something.set()

    async def take(self) -> Delivered:
        """Return what came, as soon as something did; not sooner than `PAUSE_S` after the last time."""
        loop = asyncio.get_running_loop()
        await self._something.wait()
        if (pause := self._not_before - loop.time()) > 0:
            await asyncio.sleep(pause)
        if self._failure is not None:
            raise self._failure
        self._not_before = loop.time() + PAUSE_S
        delivered = Delivered(tuple(self._waiting.values()), self.position, self._is_overrun)
        self._waiting.clear()
        self._is_overrun = False
        self._something.clear()
        return delivered


class Hub:
    """Reads the feed for all subscribers of the process, while there are any."""

    def __init__(self, db: Database) -> None:
        self.snapshots = asyncio.Semaphore(SNAPSHOTS_AT_ONCE)
        self.shared: dict[object, asyncio.Task[Any]] = {}
        self._db = db
        self._clock = DatabaseClock()
        self._mailboxes: set[Mailbox] = set()
        self._position = feed.START
        self._reading: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    @asynccontextmanager
    async def follow(self, kinds: Collection[str], scope: Scope) -> AsyncIterator[Mailbox]:
        """Collect what happens from now on; `Mailbox.start` is where now is."""
        async with self._starting:
            if self._reading is None or self._reading.done():
                await feed.settle(self._db)
                self._position = await feed.latest(self._db)
                await self._clock.look(self._db)
                self._reading = asyncio.create_task(self._read_until_nobody_listens())
            mailbox = Mailbox(kinds, scope, self._position)
            self._mailboxes.add(mailbox)
        try:
            yield mailbox
        finally:
            self._mailboxes.discard(mailbox)

    def now(self) -> datetime:
        """Return the database's time; while somebody follows."""
        return self._clock.now()

    async def _read_until_nobody_listens(self) -> None:
        try:
            while self._mailboxes:  # noqa: ASYNC110 - what it waits for is in the database
                await asyncio.sleep(await self._read_some())
        except BaseException as failure:
            for mailbox in self._mailboxes:
                mailbox.fail(failure)
            raise

    async def _read_some(self) -> float:
        """Hand out what is new; return how long to wait for more."""
        try:
            await feed.settle(self._db)
            page = await feed.read(self._db, self._position, AT_ONCE, EVERYTHING)
            wave = await self.read_objects(page.changes)
            await self._clock.look_again(self._db, LOOK_AT_CLOCK_S)
        except StorageError:
            return AWAY_S  # the process says so itself; subscribers wait
        self._position = page.end
        for mailbox in list(self._mailboxes):
            mailbox.put(wave, page.end)
        return 0 if page.has_next else POLL_S

    async def read_objects(self, changes: Sequence[Changed]) -> list[News]:
        """Read the objects that somebody shows, each once, as they are now."""
        wanted = frozenset[str]().union(*(m.kinds for m in self._mailboxes)) & SOURCES.keys()
        rows: dict[tuple[str, str], Mapping[str, Any]] = {}
        for kind in wanted & {change.kind for change in changes}:
            source, column, is_number = SOURCES[kind]
            keys = sorted({c.key for c in changes if c.kind == kind})
            values: list[object] = [int(key) for key in keys] if is_number else list(keys)
            for row in await read_by(self._db, source, column, values, ALL_ROWS):
                key = str(row["id"]) if is_number else f"{row['namespace']}/{row['name']}"
                rows[kind, key] = row
        return [News(change, rows.get((change.kind, change.key))) for change in changes]
