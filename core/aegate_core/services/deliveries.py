"""The queue as the rest of aegate uses it: enqueueing, destinations, what people do to items, why one stands still.

All changes take the caller's transaction: close and enqueueing, or a mutation and its audit row, commit together.
Nothing here opens a connection to a peer; that is the worker's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from aegate_core.database import Database
from aegate_core.decisions.priority import rank
from aegate_core.dicom.identifiers import ArrivalId, ResourceKey
from aegate_core.errors import InvalidInput
from aegate_core.resources.values import Ability, ApplicationEntity, Level
from aegate_core.stores.queue import destinations, enqueueing

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


async def sync_destinations(
    tx: Database,
    entities: Sequence[ApplicationEntity],
    *,
    invalid: Mapping[ResourceKey, str] | None = None,
    now: datetime,
) -> None:
    """Make destinations and slots of all live AEs; others are gone, those that are back go on.

    ``invalid`` names the condition that keeps an AE from being sent to. A removal never cancels work, a smaller
    limit cuts no association.
    """
    present = [str(e.key) for e in entities]
    await destinations.upsert(tx, [_wished(e, invalid or {}) for e in entities])
    await destinations.mark_gone(tx, present, now=now)
    await destinations.take_up_again(tx, present, now=now)
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
    """Not possible: the state the item is in, or NOT_FOUND."""


@dataclass(frozen=True, slots=True)
class SendByHand:
    """Studies that a person sends to destinations; the same idempotency key of the same actor sends once."""

    study_ids: tuple[int, ...]
    destinations: tuple[ResourceKey, ...]
    actor: str
    idempotency_key: str
    priority: int = 50
