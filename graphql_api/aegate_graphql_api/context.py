"""What every resolver gets: who asks, the database, and loaders that live for one operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import strawberry
from graphql import DocumentNode
from strawberry.dataloader import DataLoader

from aegate_core.database import Database, as_datetime
from aegate_core.services.manifests import Manifests
from aegate_core.stores.scope import Scope
from aegate_graphql_api.permissions import Caller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aegate_graphql_api.live.hub import Hub
    from aegate_graphql_api.patient_data import Reading
    from aegate_graphql_api.plain_rows import Wanted


@dataclass(slots=True)
class Context:
    """One operation's surroundings."""

    db: Database
    caller: Caller
    now: datetime
    """By the database's clock, as workers see it."""
    manifests: Manifests | None = None
    """Where resources are changed; None where this API was given no place."""
    introspection: bool = True
    """Whether the schema is told."""
    fast_lists: bool = True
    """Whether plain lists may be answered past graphql-core; see plain_lists and plain_pages."""
    cost: int | None = None
    """Of the operation, once the document is found good; the guard sets it."""
    document: DocumentNode | None = None
    """What was asked, once it is parsed; the guard sets it."""
    cost_of_row: int = 1
    """Of a row that a subscription tells, with all that is selected of it; the guard sets it."""
    guard_s: float = 0.0
    """What parsing and judging the document took of the processor, in seconds; see `note_judging`."""
    judged: Callable[[float], None] = lambda _: None
    """Told what judging took as soon as that is known: the caller's next new document waits for its turn."""
    reading: Reading | None = None
    """What the operation reads of patients; known when it was validated."""
    live: Hub | None = None
    """What happens, for an operation that may be a subscription."""
    wanted: Wanted | None = None
    """What is selected of the one page that is read with it, where that is answered past graphql-core."""
    _loaders: dict[str, DataLoader[Any, Any]] = field(default_factory=dict)

    @property
    def scope(self) -> Scope:
        """Which rows the caller sees."""
        return self.caller.scope

    def note_judging(self, seconds: float) -> None:
        """Add what a part of parsing, judging or planning took."""
        self.guard_s += seconds
        self.judged(seconds)

    def loader(self, load: Callable[[Context, list[Any]], Awaitable[Sequence[Any]]]) -> DataLoader[Any, Any]:
        """Return this operation's loader for ``load``: many single questions become one query."""
        name = f"{load.__module__}.{load.__qualname__}"
        if name not in self._loaders:

            async def batch(keys: list[Any]) -> Sequence[Any]:
                return await load(self, keys)

            self._loaders[name] = DataLoader(load_fn=batch, max_batch_size=500)
        return self._loaders[name]

    def forget(self) -> None:
        """Drop what was loaded: after a change, what the operation answers next must be read again."""
        self._loaders.clear()


Info = strawberry.Info[Context, None]


def utc(value: datetime) -> datetime | None:
    """Return a caller's time in UTC; None without a zone, or where UTC has no such year (year 1, 9999)."""
    try:
        return value.astimezone(UTC) if value.tzinfo is not None else None
    except OverflowError:
        return None


def moment(value: object) -> datetime | None:
    """Return a time column, or None."""
    return None if value is None else as_datetime(value)
