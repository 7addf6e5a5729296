"""One reader of the feed for a whole process, and a mailbox for each subscriber with what it has not taken yet.

The feed is asked four times a second while somebody listens, and not at all otherwise: that is all it takes with any
number of processes, and costs those who write nothing. docs/adr/0020.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from typing import Any

from aegate_core.database import Database, DatabaseClock, time_limit
from aegate_core.errors import StorageError
from aegate_core.stores.changes import feed
from aegate_core.stores.changes.feed import Changed, Position
from aegate_core.stores.index.list_resources import ENTITIES
from aegate_core.stores.index.list_studies import STUDIES
from aegate_core.stores.listing import EVERYTHING, Source, read_by
from aegate_core.stores.queue.list_items import ITEMS
from aegate_core.stores.scope import ALL_ROWS, Scope
from aegate_graphql_api.live.watching import ALL, Watch
from aegate_graphql_api.schema.queue_item import item_of
from aegate_graphql_api.schema.resources import entity_of
from aegate_graphql_api.schema.study import study_of

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


@dataclass(frozen=True, slots=True)
class _Shown:
    """Where the objects of a kind are read that subscribers show, and how a row becomes one."""

    source: Source
    column: str
    is_number: bool
    make: Callable[[Mapping[str, Any]], Any]


_SHOWN: Mapping[str, _Shown] = {
    "QUEUE_ITEM": _Shown(ITEMS, "id", is_number=True, make=item_of),
    "STUDY": _Shown(STUDIES, "id", is_number=True, make=study_of),
    feed.ENTITY: _Shown(ENTITIES, "key", is_number=False, make=entity_of),
}


@dataclass(frozen=True, slots=True)
class News:
    """A change, and the object as it was read after it, as a row and as its type: both for all who are told.

    None: it is gone, or nobody shows this kind.
    """

    change: Changed
    row: Mapping[str, Any] | None = None
    node: Any = None


@dataclass(frozen=True, slots=True)
class Interest:
    """What a subscriber wants to hear of. Those with the same one are asked once for all."""

    kinds: frozenset[str]
    scope: Scope
    watch: Watch = ALL

    def wants(self, news: News) -> bool:
        """Whether it is to be told."""
        change = news.change
        if change.kind not in self.kinds:
            return False
        if change.kind != feed.OPERATION and not feed.sees(self.scope, change):
            return False  # an operation may be of several partitions: who is told of it looks whether they may see it
        return news.row is None or self.watch.holds(news.row)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a mailbox held: the newest of each object, and up to where that is all."""

    news: tuple[News, ...]
    position: Position
    is_overrun: bool = False
    """More happened than it holds: what is now must be read as a whole."""


class Mailbox:
    """What a subscriber has not taken yet: of each object the newest change alone, so it is bounded however slow."""

    def __init__(self, interest: Interest, start: Position, here: Callable[[], Position]) -> None:
        self.interest = interest
        self.start = start
        self._here = here
        self._told = start.number
        self._waiting: dict[tuple[str, str], News] = {}
        self._is_overrun = False
        self._something = asyncio.Event()
        self._not_before = 0.0
        self._failure: BaseException | None = None

    @property
    def position(self) -> Position:
        """Up to here what happened is in the mailbox, or was taken from it."""
        return self._here()

    def put(self, wanted: Sequence[News]) -> None:
        """Add what this subscriber wants of a wave."""
        for news in wanted:
            if news.change.position.number <= self._told:
                continue
            key = news.change.kind, news.change.key
            before = self._waiting.pop(key, None)
            if before is not None and before.change.action == "CREATED" and news.change.action == "CHANGED":
                news = replace(news, change=news.change._replace(action="CREATED"))
            self._waiting[key] = news
        if len(self._waiting) > MAILBOX:
            self._waiting.clear()
            self._is_overrun = True
        if wanted:
            self._something.set()

    def leave_out(self, upto: Position) -> None:
        """Leave out what is told otherwise: all up to this position."""
        self._told = upto.number
        self._waiting = {k: n for k, n in self._waiting.items() if n.change.position.number > upto.number}

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

    def __init__(self, db: Database, snapshot_s: float, clock: DatabaseClock | None = None) -> None:
        self._snapshots = asyncio.Semaphore(SNAPSHOTS_AT_ONCE)
        self._snapshot_s = snapshot_s
        self.shared: dict[object, asyncio.Task[Any]] = {}
        self._db = db
        self._clock = clock or DatabaseClock()
        self._mailboxes: dict[Interest, set[Mailbox]] = {}
        self._position = feed.START
        self._reading: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        # The reader outlives the operation that starts it, and takes over nothing of it, such as a time limit.
        self._surroundings = copy_context()

    @asynccontextmanager
    async def follow(self, interest: Interest) -> AsyncIterator[Mailbox]:
        """Collect what happens from now on; `Mailbox.start` is where now is."""
        async with self._starting:
            if self._reading is None or self._reading.done():
                await feed.settle(self._db)
                self._position = await feed.latest(self._db)
                await self._clock.look(self._db)
                reading = self._read_until_nobody_listens()
                self._reading = asyncio.create_task(reading, context=self._surroundings.copy())
            mailbox = Mailbox(interest, self._position, lambda: self._position)
            self._mailboxes.setdefault(interest, set()).add(mailbox)
        try:
            yield mailbox
        finally:
            self._mailboxes[interest].discard(mailbox)
            if not self._mailboxes[interest]:
                del self._mailboxes[interest]

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[None]:
        """Read what a subscriber is told at once in this block: a few at the same time, each within its time.

        Raises TimeLimitReached.
        """
        async with self._snapshots:
            with time_limit(self._snapshot_s):
                yield

    def now(self) -> datetime:
        """Return the database's time; while somebody follows."""
        return self._clock.now()

    async def _read_until_nobody_listens(self) -> None:
        try:
            while self._mailboxes:  # noqa: ASYNC110 - what it waits for is in the database
                await asyncio.sleep(await self._read_some())
        except BaseException as failure:
            for mailbox in chain.from_iterable(self._mailboxes.values()):
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
        for interest, mailboxes in self._mailboxes.items():
            wanted = [news for news in wave if interest.wants(news)]
            for mailbox in mailboxes if wanted else ():
                mailbox.put(wanted)
        return 0 if page.has_next else POLL_S

    async def read_objects(self, changes: Sequence[Changed]) -> list[News]:
        """Read the objects that somebody shows, each once, as they are now."""
        wanted = frozenset[str]().union(*(interest.kinds for interest in self._mailboxes)) & _SHOWN.keys()
        found: dict[tuple[str, str], tuple[Mapping[str, Any], Any]] = {}
        for kind in wanted & {change.kind for change in changes}:
            shown = _SHOWN[kind]
            keys = sorted({c.key for c in changes if c.kind == kind})
            values: list[object] = [int(key) for key in keys] if shown.is_number else list(keys)
            for row in await read_by(self._db, shown.source, shown.column, values, ALL_ROWS):
                key = str(row["id"]) if shown.is_number else f"{row['namespace']}/{row['name']}"
                found[kind, key] = row, shown.make(row)
        return [News(change, *found.get((change.kind, change.key), (None, None))) for change in changes]
