"""What can be done to many: each is what the mutation of that name does to one, by the same code.

Of a batch nothing is done to what refuses it, and the rest is done all the same: whatever refuses does so before it
writes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from aegate_core.database import Database
from aegate_core.decisions.resolutions import Resolution
from aegate_core.dicom.identifiers import parse_resource_key
from aegate_core.errors import Conflict, InvalidInput, NotFound
from aegate_core.resources.values import Level
from aegate_core.services import conflicts, deliveries, studies
from aegate_core.services.deliveries import Changed, SendByHand
from aegate_core.stores.queue.history import Note


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants to be done with many."""

    action: str
    """The mutation's name, one of ACTIONS."""
    actor: str
    address: str = ""
    reason: str | None = None
    priority: int | None = None
    destinations: tuple[str, ...] = ()
    """namespace/name of the AEs that something is sent to."""
    resolution: str | None = None
    dry_run: bool = False
    """Each batch is tried, written down and taken back."""
    operation: int | None = None

    @property
    def arguments(self) -> dict[str, object]:
        """What is kept of it beside who and what."""
        said: dict[str, object] = {
            "reason": self.reason,
            "priority": self.priority,
            "destinations": list(self.destinations) or None,
            "resolution": self.resolution,
            "dryRun": self.dry_run or None,
        }
        return {name: value for name, value in said.items() if value is not None}


def kept_wish(action: str, actor: str, address: str, operation: int, said: Mapping[str, object]) -> Wanted:
    """Return what an operation's row keeps of a wish."""
    reason, priority, resolution = said.get("reason"), said.get("priority"), said.get("resolution")
    return Wanted(
        action,
        actor,
        address,
        reason=None if reason is None else str(reason),
        priority=None if priority is None else int(str(priority)),
        destinations=tuple(cast("list[str]", said.get("destinations") or [])),
        resolution=None if resolution is None else str(resolution),
        dry_run=bool(said.get("dryRun")),
        operation=operation,
    )


@dataclass(frozen=True, slots=True)
class Now:
    """When it is done; ``place``: where a part of a bump of many begins, see `deliveries.bump`."""

    at: datetime
    place: int | None = None


Act = Callable[[Database, Sequence[int], Wanted, Now], Awaitable[Changed]]


@dataclass(frozen=True, slots=True)
class Action:
    """What is done, to things of which kind, and how many of them in one transaction at most."""

    act: Act
    kind: str = "QueueItem"
    most: int = 10_000


async def _hold(tx: Database, ids: Sequence[int], wanted: Wanted, now: Now) -> Changed:
    return await deliveries.hold(tx, ids, actor=wanted.actor, reason=wanted.reason, now=now.at)


async def _resume(tx: Database, ids: Sequence[int], wanted: Wanted, now: Now) -> Changed:
    return await deliveries.resume(tx, ids, actor=wanted.actor, reason=wanted.reason, now=now.at)


async def _retry(tx: Database, ids: Sequence[int], wanted: Wanted, now: Now) -> Changed:
    return await deliveries.retry(tx, ids, actor=wanted.actor, reason=wanted.reason, now=now.at)


async def _cancel(tx: Database, ids: Sequence[int], wanted: Wanted, now: Now) -> Changed:
    return await deliveries.cancel(tx, ids, actor=wanted.actor, reason=wanted.reason, now=now.at)


async def _set_priority(tx: Database, ids: Sequence[int], wanted: Wanted, now: Now) -> Changed:
    if wanted.priority is None:
        raise InvalidInput("setQueueItemPriority needs a priority, got none: give 0 to 100")
    return await deliveries.set_priority(tx, ids, wanted.priority)


async def _bump(tx: Database, ids: Sequence[int], wanted: Wanted, now: Now) -> Changed:
    return await deliveries.bump(tx, ids, now=now.at, place=now.place)


async def _one_by_one(ids: Sequence[int], act: Callable[[int], Awaitable[bool]]) -> Changed:
    """Do it to each; ``act`` says whether that changed anything, or raises before it writes."""
    done: list[int] = []
    refused: dict[int, str] = {}
    for id in ids:
        try:
            if await act(id):
                done.append(id)
            else:
                refused[id] = "UNCHANGED"
        except (NotFound, Conflict, InvalidInput) as refusal:
            refused[id] = refusal.code
    return Changed(tuple(done), (), refused)


def _send(level: Level) -> Act:
    async def act(tx: Database, ids: Sequence[int], wanted: Wanted, now: Now) -> Changed:
        async def send(id: int) -> bool:
            request = SendByHand(
                ids=(id,),
                destinations=tuple(parse_resource_key(d) for d in wanted.destinations),
                actor=wanted.actor,
                idempotency_key=f"operation:{wanted.operation}",
                priority=50 if wanted.priority is None else wanted.priority,
                level=level,
            )
            return bool(await deliveries.send_by_hand(tx, request, now=now.at))

        return await _one_by_one(ids, send)

    return act


async def _reroute(tx: Database, ids: Sequence[int], wanted: Wanted, now: Now) -> Changed:
    async def reroute(id: int) -> bool:
        closed = await studies.reroute(tx, id, actor=wanted.actor, now=now.at)
        return closed.deliveries > 0

    return await _one_by_one(ids, reroute)


async def _resolve(tx: Database, ids: Sequence[int], wanted: Wanted, now: Now) -> Changed:
    resolution = Resolution(wanted.resolution or "")
    note = Note(wanted.actor, now.at, message=wanted.reason)

    async def resolve(id: int) -> bool:
        return (await conflicts.resolve(tx, id, resolution, note=note)).changed

    return await _one_by_one(ids, resolve)


ACTIONS: Mapping[str, Action] = {
    "holdQueueItems": Action(_hold),
    "resumeQueueItems": Action(_resume),
    "retryQueueItems": Action(_retry),
    "cancelQueueItems": Action(_cancel),
    "setQueueItemPriority": Action(_set_priority),
    "bumpQueueItems": Action(_bump),
    # One by one, a few statements each: no more of them than hold up indexers for a second. By feel.
    "sendStudies": Action(_send(Level.STUDY), "Study", most=50),
    "sendSeries": Action(_send(Level.SERIES), "Series", most=50),
    "sendInstances": Action(_send(Level.IMAGE), "Instance", most=50),
    "rerouteUnits": Action(_reroute, "CloseUnit", most=50),
    "resolveConflicts": Action(_resolve, "Conflict", most=50),
}


async def act(tx: Database, wanted: Wanted, ids: Sequence[int], now: Now) -> Changed:
    """Do what is wanted with these, in the caller's transaction."""
    return await ACTIONS[wanted.action].act(tx, ids, wanted, now)
