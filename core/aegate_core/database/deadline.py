"""A moment by which the statements of one operation must be done, whichever task runs them.

The surprise: it is handed on by context, not as an argument. A data loader runs its query in a task of its own, which
the end of the operation does not cancel; but that task inherits the context of whoever asked first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from aegate_core.errors import TimeLimitReached


@dataclass(frozen=True, slots=True)
class Deadline:
    """``limit_s`` after ``began``, both by the event loop's clock."""

    began: float
    limit_s: float

    def reached(self) -> TimeLimitReached:
        """Return the error of what is not done by now."""
        used_s = asyncio.get_running_loop().time() - self.began
        return TimeLimitReached(
            f"it may take {self.limit_s:g} s and was stopped after {used_s:.1f} s: ask for less, or narrow the filter",
            limit_s=self.limit_s,
            used_s=round(used_s, 1),
        )


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def time_limit(limit_s: float) -> Iterator[Deadline]:
    """Give what is asked of the database in this block ``limit_s`` seconds, all together."""
    deadline = Deadline(asyncio.get_running_loop().time(), limit_s)
    token = _current.set(deadline)
    try:
        yield deadline
    finally:
        _current.reset(token)


@asynccontextmanager
async def within_deadline() -> AsyncIterator[None]:
    """Cancel what runs in this block once the deadline is there, if there is one. Raises TimeLimitReached."""
    deadline = _current.get()
    if deadline is None:
        yield
        return
    try:
        async with asyncio.timeout_at(deadline.began + deadline.limit_s):
            yield
    except TimeoutError as error:
        raise deadline.reached() from error
