"""The queue as the rest of aegate uses it: enqueueing, destinations, what people do to items, why one stands still.

All changes take the caller's transaction: close and enqueueing, or a mutation and its audit row, commit together.
Nothing here opens a connection to a peer; that is the worker's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from aegate_core.database import Database, as_datetime
from aegate_core.decisions.breaker import BreakerState
from aegate_core.decisions.moving import (
    WORKER_SILENCE,
    DestinationFacts,
    ItemFacts,
    WhyNotMoving,
    WorkerFacts,
)
from aegate_core.decisions.moving import why_not_moving as decide_why
from aegate_core.decisions.priority import RANK_PER_POINT, bumped_rank, rank
from aegate_core.decisions.starting import Pace, estimated_start
from aegate_core.dicom.identifiers import ArrivalId, ResourceKey, parse_resource_key
from aegate_core.errors import Conflict, ImagesRemoved, InvalidInput, InvalidValue, NotFound
from aegate_core.resources.values import Ability, ApplicationEntity, Level
from aegate_core.stores.queue import by_hand, destinations, enqueueing, inquiry, wishes
from aegate_core.stores.queue.history import Note

_LONGEST_KEY = 200


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A unit for one destination. ``arrival_ids`` are fixed from now on: a re-send never changes what is sent."""

    destination: ResourceKey
    level: Level
    study_id: int
    unit_uid: str
    """The UID of the study, series or instance, by ``level``."""
    source_ae: ResourceKey
    partition: ResourceKey
    arrival_ids: tuple[ArrivalId, ...]
    requested_by: str
    """``route:namespace/name``, ``person:NAME`` or ``close``."""
    dedup_key: str
    """Enqueued once by this key, whoever repeats it; any length."""
    size_bytes: int = 0
    location_code: str | None = None
    priority: int = 50
    supplementary: bool = False
    hold_code: str | None = None
    """PATIENT_MISMATCH or NEEDS_RECONCILIATION: it begins HELD."""
    hold_reason: str | None = None


async def enqueue(tx: Database, new: Sequence[NewDelivery], *, now: datetime) -> int:
    """Put deliveries into the queue; return how many were new by their dedup key.

    An unknown destination is made as gone: its items wait for the AE. Raises InvalidInput where no arrival is.
    """
    for delivery in new:
        if not delivery.arrival_ids:
            raise InvalidInput(
                "a delivery must cover at least one arrival, got none: do not enqueue an empty unit"
            )
    if not new:
        return 0
    await destinations.ensure(tx, {str(d.destination) for d in new}, now=now)
    return len(await enqueueing.insert(tx, [_row(d, now) for d in new], now=now))


def _row(delivery: NewDelivery, now: datetime) -> enqueueing.NewRow:
    return enqueueing.NewRow(
        destination=str(delivery.destination),
        level=delivery.level.value,
        study_id=delivery.study_id,
        unit_uid=delivery.unit_uid,
        source_ae=str(delivery.source_ae),
        partition=str(delivery.partition),
        location_code=delivery.location_code,
        priority=delivery.priority,
        rank=rank(delivery.priority, now),
        supplementary=delivery.supplementary,
        requested_by=delivery.requested_by[:320],
        dedup_key=dedup_key(delivery.dedup_key),
        size_bytes=delivery.size_bytes,
        arrival_ids=tuple(dict.fromkeys(delivery.arrival_ids)),
        hold_code=delivery.hold_code,
        hold_reason=delivery.hold_reason and delivery.hold_reason[:256],
    )


def dedup_key(text: str) -> str:
    """Return ``text``, or its digest where it would not fit the column."""
    return text if len(text) <= _LONGEST_KEY else "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Receivers:
    """Which AEs may be sent to."""

    entities: Sequence[ApplicationEntity]
    others: Iterable[ResourceKey] = ()
    """Live, and somebody else's."""
    unwatched: Collection[ResourceKey] = ()
    """Gone because nobody watches their namespace any more."""
    invalid: Mapping[ResourceKey, str] = field(default_factory=dict)
    """The condition that keeps an AE from being sent to."""


async def sync_destinations(tx: Database, receivers: Receivers, *, now: datetime) -> None:
    """Make destinations and slots of all live AEs; others are gone, those that are back go on.

    A removal never cancels work, a smaller limit cuts no association.
    """
    present = [str(e.key) for e in receivers.entities]
    unwatched = frozenset(map(str, receivers.unwatched))
    await destinations.upsert(tx, [_wished(e, receivers.invalid) for e in receivers.entities])
    await destinations.mark_gone(tx, [*present, *map(str, receivers.others)], unwatched, now=now)
    await destinations.take_up_again(tx, present, now=now)
    await destinations.settle_slots(tx)


async def sync_some_destinations(
    tx: Database,
    entities: Sequence[ApplicationEntity],
    removed: Iterable[ResourceKey],
    invalid: Mapping[ResourceKey, str],
    *,
    now: datetime,
) -> None:
    """Do the same for these alone, whatever others there are."""
    await destinations.upsert(tx, [_wished(e, invalid) for e in entities])
    await destinations.mark_removed(tx, map(str, removed), now=now)
    await destinations.take_up_again(tx, [str(e.key) for e in entities], now=now)
    await destinations.settle_slots(tx)


def _wished(entity: ApplicationEntity, invalid: Mapping[ResourceKey, str]) -> destinations.Wished:
    condition = invalid.get(entity.key)
    if condition is None and entity.ability is Ability.PRINT:
        condition = "PrintingNotAvailable"
    return destinations.Wished(str(entity.key), entity.max_connections, entity.enabled, condition)


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change by a person did, by delivery id."""

    done: tuple[int, ...]
    asked: tuple[int, ...]
    """Being sent right now: it takes effect before the next instance."""
    refused: Mapping[int, str]
    """Not possible: the state the item is in, NOT_FOUND, or IMAGES_REMOVED (by retention)."""


@dataclass(frozen=True, slots=True)
class SendByHand:
    """What a person sends to destinations; the same idempotency key of the same actor sends once."""

    ids: tuple[int, ...]
    """Rows of studies, of series, or of instances, by ``level``."""
    destinations: tuple[ResourceKey, ...]
    actor: str
    idempotency_key: str
    priority: int = 50
    level: Level = Level.STUDY


async def hold(
    tx: Database, ids: Sequence[int], *, actor: str, reason: str | None = None, now: datetime
) -> Changed:
    """Hold items. What is being sent stops before its next instance."""
    note = Note(actor, now, "HELD_BY_PERSON", _short(reason))
    return await _changed(tx, ids, await wishes.hold(tx, ids, note), await wishes.ask_to_hold(tx, ids, note))


async def resume(
    tx: Database, ids: Sequence[int], *, actor: str, reason: str | None = None, now: datetime
) -> Changed:
    """Let held items go on, whoever held them; a destination that is gone still keeps its own."""
    return await _changed(tx, ids, await wishes.resume(tx, ids, Note(actor, now, "RESUMED", _short(reason))))


async def retry(
    tx: Database, ids: Sequence[int], *, actor: str, reason: str | None = None, now: datetime
) -> Changed:
    """Send failed and cancelled items again, without what was acknowledged; waiting retries go at once.

    Not those that have to send an image that retention removed.
    """
    await wishes.lock_studies_of(tx, ids)
    gone = await wishes.without_images(tx, ids)
    note = Note(actor, now, "RETRIED", _short(reason))
    changed = await _changed(tx, ids, await wishes.retry(tx, [i for i in ids if i not in gone], note))
    return replace(changed, refused={**changed.refused, **dict.fromkeys(gone, "IMAGES_REMOVED")})


async def retry_instances(
    tx: Database, delivery_id: int, arrival_ids: Sequence[str], *, note: Note
) -> tuple[str, ...]:
    """Send single images of an item again that were given up or cancelled; return which. The others stay as they are.

    Lock the item before. Raises Conflict while it is being sent. What is held stays held.
    """
    await wishes.lock_studies_of(tx, [delivery_id])
    if (await wishes.states_of(tx, [delivery_id])).get(delivery_id) == "IN_PROGRESS":
        raise Conflict("the item is being sent just now: wait until it is over, or hold it first")
    again = await wishes.retry_instances(tx, delivery_id, arrival_ids)
    if again:
        await wishes.send_again(tx, delivery_id, note)
    return tuple(again)


async def cancel(
    tx: Database, ids: Sequence[int], *, actor: str, reason: str | None = None, now: datetime
) -> Changed:
    """Cancel items. What is being sent stops before its next instance; what was acknowledged stays delivered."""
    note = Note(actor, now, "CANCELED_BY_PERSON", _short(reason))
    return await _changed(
        tx, ids, await wishes.cancel(tx, ids, note), await wishes.ask_to_cancel(tx, ids, note)
    )


async def set_priority(tx: Database, ids: Sequence[int], priority: int) -> Changed:
    """Change the priority of unfinished items, 0 to 100. Raises InvalidValue outside of it."""
    if not 0 <= priority <= 100:
        raise InvalidValue(f"priority must be 0 to 100, got {priority}: choose one within")
    return await _changed(tx, ids, await wishes.set_priority(tx, ids, priority, RANK_PER_POINT))


async def bump(tx: Database, ids: Sequence[int], *, now: datetime, place: int | None = None) -> Changed:
    """Put unfinished items before everything else of their destinations; the later bump goes before the earlier.

    ``place``: the rank of the first of them, for a part of a bump of many that began earlier.
    """
    if place is not None:
        return await _changed(tx, ids, await wishes.bump(tx, ids, place, now=now, fixed=True))
    return await _changed(tx, ids, await wishes.bump(tx, ids, bumped_rank(now), now=now))


async def _changed(
    tx: Database, ids: Sequence[int], done: Sequence[int], asked: Sequence[int] = ()
) -> Changed:
    states = await wishes.states_of(tx, ids)
    settled = {*done, *asked}
    refused = {i: states.get(i, "NOT_FOUND") for i in ids if i not in settled}
    return Changed(tuple(sorted(done)), tuple(sorted(asked)), refused)


async def hold_destination(
    tx: Database, ae: ResourceKey, *, actor: str, reason: str | None = None, now: datetime
) -> bool:
    """Hold all that goes to ``ae``; return whether that changed anything. Raises NotFound for no such destination."""
    await _must_exist(tx, ae)
    return await wishes.hold_destination(tx, str(ae), Note(actor, now, message=_short(reason)))


async def resume_destination(
    tx: Database, ae: ResourceKey, *, actor: str, reason: str | None = None, now: datetime
) -> bool:
    """Let a held destination go on; return whether that changed anything. Raises NotFound for no such destination.

    ``actor``, ``reason`` and ``now`` are the audit row's, which the caller writes.
    """
    await _must_exist(tx, ae)
    return await wishes.resume_destination(tx, str(ae))


async def probe_destination(tx: Database, ae: ResourceKey, *, now: datetime) -> bool:
    """Probe a destination in trouble at once; return whether that changed anything. Raises NotFound."""
    await _must_exist(tx, ae)
    return await wishes.probe_destination(tx, str(ae), now=now)


async def _must_exist(tx: Database, ae: ResourceKey) -> None:
    if await tx.fetch_one("SELECT id FROM destination WHERE ae = $1", str(ae)) is None:
        raise NotFound(
            f"there is no destination {ae}: it must be an ApplicationEntity that is or was applied"
        )


_UNITS = {Level.STUDY: "studies", Level.SERIES: "series", Level.IMAGE: "images"}


async def send_by_hand(tx: Database, request: SendByHand, *, now: datetime) -> tuple[int, ...]:
    """Enqueue what is current in the units for each destination; return the deliveries' ids, old ones on a repeat.

    Raises NotFound when a unit is unknown or holds nothing, a destination is unknown, or retention has removed images
    of a unit: a part of it would pass for the whole.
    """
    for ae in request.destinations:
        await _must_exist(tx, ae)
    units = await by_hand.units(tx, request.level, request.ids)
    name = _UNITS[request.level]
    missing = set(request.ids) - {u.id for u in units}
    if missing:
        raise NotFound(
            f"{len(missing)} of {len(request.ids)} {name} are not there or hold nothing: read again"
        )
    incomplete = [u for u in units if u.removed]
    if incomplete:
        removed, held = sum(u.removed for u in incomplete), sum(len(u.arrival_ids) for u in incomplete)
        raise ImagesRemoved(
            f"retention removed {removed} of the {held} images of {len(incomplete)} of {len(units)} {name}, and a "
            "part is not sent as if it were whole: let the device, or a receiver, send them to us again"
        )
    new = [_by_hand(request, unit, ae) for unit in units for ae in request.destinations]
    await enqueue(tx, new, now=now)
    return tuple(await enqueueing.ids_of(tx, [dedup_key(d.dedup_key) for d in new]))


def _by_hand(request: SendByHand, unit: by_hand.UnitToSend, ae: ResourceKey) -> NewDelivery:
    kind = "" if request.level is Level.STUDY else f"{request.level.value}:"
    return NewDelivery(
        destination=ae,
        level=request.level,
        study_id=unit.study_id,
        unit_uid=unit.uid,
        source_ae=parse_resource_key(unit.source_ae),
        partition=parse_resource_key(unit.partition),
        arrival_ids=tuple(ArrivalId(a) for a in unit.arrival_ids),
        requested_by=f"person:{request.actor}",
        dedup_key=f"hand:{request.actor}:{request.idempotency_key}:{kind}{unit.id}:{ae}",
        size_bytes=unit.size_bytes,
        location_code=unit.location_code,
        priority=request.priority,
    )


def _short(text: str | None) -> str | None:
    return text[:256] if text else None


async def why_not_moving(
    db: Database, delivery_ids: Sequence[int], *, now: datetime
) -> dict[int, WhyNotMoving]:
    """Return why items are where they are, by id; without those that are finished and lost nothing."""
    seen = await inquiry.worker_last_seen(db)
    workers = WorkerFacts(alive=seen is not None and abs(now - seen) <= WORKER_SILENCE, last_seen_at=seen)
    answers = {}
    for row in await inquiry.items(db, delivery_ids, now=now):
        answer = decide_why(_item_facts(row), _destination_facts(row), workers, now=now)
        if answer is not None:
            answers[int(str(row.item["id"]))] = answer
    return answers


@dataclass(frozen=True, slots=True)
class InLine:
    """Where an item stands in its destination's line, and when it will begin."""

    position: int
    """1 is next."""
    starts_at: datetime | None


async def in_line(db: Database, delivery_ids: Sequence[int], *, now: datetime) -> dict[int, InLine]:
    """Return where items stand; without those that do not wait in line, or behind more than can be counted."""
    seen = await inquiry.worker_last_seen(db)
    alive = seen is not None and abs(now - seen) <= WORKER_SILENCE
    rows = [
        r for r in await inquiry.items(db, delivery_ids, now=now) if 0 < r.position <= inquiry.COUNTED_IN_LINE
    ]
    destinations = sorted({int(str(r.item["destination_id"])) for r in rows})
    took = await inquiry.durations(db, destinations, now=now) if rows else {}
    found = {}
    for row in rows:
        times = took.get(int(str(row.item["destination_id"])), [])
        pace = Pace(len(times), sum(times, timedelta()) / len(times)) if times else Pace()
        starts = estimated_start(row.position, _destination_facts(row), pace, workers_alive=alive, now=now)
        found[int(str(row.item["id"]))] = InLine(row.position, starts)
    return found


def _item_facts(row: inquiry.ItemRow) -> ItemFacts:
    item = row.item
    return ItemFacts(
        state=str(item["state"]),
        attempts=int(str(item["attempts"])),
        available_at=_time(item["available_at"]),
        hold_code=_text(item["hold_code"]),
        held_by=_text(item["held_by"]),
        hold_reason=_text(item["hold_reason"]),
        instances_total=int(str(item["instances_total"])),
        instances_done=int(str(item["instances_done"])),
        instances_failed=int(str(item["instances_failed"])),
        started_at=_time(item["started_at"]),
        error_code=_text(item["error_code"]),
        error_message=_text(item["error_message"]),
        position=row.position,
    )


def _destination_facts(row: inquiry.ItemRow) -> DestinationFacts:
    item = row.item
    return DestinationFacts(
        ae=str(item["ae"]),
        max_connections=int(str(item["max_connections"])),
        slots_used=row.slots_used,
        enabled=bool(item["enabled"]),
        gone_at=_time(item["gone_at"]),
        invalid_condition=_text(item["invalid_condition"]),
        held_at=_time(item["destination_held_at"]),
        held_by=_text(item["destination_held_by"]),
        hold_reason=_text(item["destination_hold_reason"]),
        breaker=BreakerState(str(item["breaker"])),
        breaker_since=_time(item["breaker_since"]),
        last_error=_text(item["last_error"]),
        next_probe_at=_time(item["next_probe_at"]),
    )


def _time(value: object) -> datetime | None:
    return None if value is None else as_datetime(value)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
