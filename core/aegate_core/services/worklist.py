"""Worklist items: make, change, cancel. Each in the transaction of whoever calls, which also writes the audit row.

People set SCHEDULED and CANCELED; what a device began, and says it began, is no longer theirs to change.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from aegate_core.database import Database
from aegate_core.decisions.worklist import DESCRIBED, Fault, derived, incomplete, judged
from aegate_core.dicom.worklist import ATTRIBUTES, StepStatus, Values
from aegate_core.errors import InvalidAttributes, InvalidInput, NotFound, VersionConflict
from aegate_core.stores.index.list_resources import known_partitions
from aegate_core.stores.scope import Owner, Scope
from aegate_core.stores.worklist import items
from aegate_core.stores.worklist.items import Change, Item, NewItem

BY_HAND = (StepStatus.SCHEDULED, StepStatus.CANCELED)
"""What people may set, and leave."""


@dataclass(frozen=True, slots=True)
class Wished:
    """An item that somebody wants; ``given`` holds attributes by name."""

    partition: str
    given: Mapping[str, object]
    actor: str
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """An item that is there now; ``is_new`` False: the same key made it before."""

    id: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """Which item, by whom it may be seen, and the version that it must have, if any."""

    id: int
    scope: Scope
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change did: the attributes that are others now, by name; none: it was so already."""

    id: int
    partition: str
    names: tuple[str, ...]


async def create(tx: Database, wished: Wished, scope: Scope, *, now: datetime) -> Made:
    """Make an item, with ids of our own where none are given.

    Raises InvalidAttributes, NotFound for a partition, VersionConflict where the step id is taken, InvalidInput where
    the key was used for something else.
    """
    given, faults = judged(wished.given)
    values = _whole(given)
    if faults := faults + [fault for fault in incomplete(values) if fault[0] not in {f[0] for f in faults}]:
        raise _refused(faults)
    known = await known_partitions(tx)
    if wished.partition not in known or not scope.sees(Owner.PARTITION, wished.partition):
        raise NotFound("there is no such patient partition: read the partitions, one is namespace/name")
    fingerprint = hashlib.sha256(repr((wished.partition, sorted(given.items()))).encode()).hexdigest()
    new = NewItem(
        wished.partition, values, derived(values), wished.actor, wished.idempotency_key, fingerprint
    )
    made = await items.insert(tx, new, now=now)
    return Made(made, is_new=True) if made is not None else await _there(tx, new)


async def _there(tx: Database, new: NewItem) -> Made:
    """Return what the same key made before. Raises VersionConflict, InvalidInput."""
    if new.idempotency_key is not None:
        before = await items.by_key(tx, new.created_by, new.idempotency_key)
        if before is not None and before.fingerprint == new.fingerprint:
            return Made(before.id, is_new=False)
        if before is not None:
            raise InvalidInput(
                "the idempotency key was used for another wish: make another key, or send as before"
            )
    current = await items.by_step(tx, new.partition, str(new.values["scheduled_procedure_step_id"]))
    raise VersionConflict(
        "there is an item of this scheduledProcedureStepId in the patient partition: look at current, and change "
        "that one or choose another id",
        current=current,
    )


def _whole(given: Mapping[str, object]) -> Values:
    """Return every attribute, with what can be made up where it was not given: ids, and the request as the step."""
    values = {name: given.get(name) or attribute.empty for name, attribute in ATTRIBUTES.items()}
    if not values["scheduled_procedure_step_id"]:
        values["scheduled_procedure_step_id"] = f"SPS{secrets.token_hex(6).upper()}"
    if not values["requested_procedure_id"]:
        values["requested_procedure_id"] = values["scheduled_procedure_step_id"]
    if not values["study_instance_uid"]:
        values["study_instance_uid"] = f"2.25.{uuid.uuid4().int}"  # PS3.5 B.2
    (step, step_codes), (request, request_codes) = DESCRIBED
    if not values[request] and not values[request_codes]:
        values[request], values[request_codes] = values[step], values[step_codes]
    return values


async def update(
    tx: Database, seen: Seen, given: Mapping[str, object], *, reschedule: bool = False, now: datetime
) -> Changed:
    """Change what is given of an item; ``reschedule`` takes a cancelled one up again.

    Raises InvalidAttributes, NotFound, VersionConflict.
    """
    values, faults = judged(given)
    if faults:
        raise _refused(faults)
    item = await _locked(tx, seen)
    if item.status is StepStatus.CANCELED and not reschedule:
        raise VersionConflict(
            "the item is cancelled: take it up again with status SCHEDULED, or make another", current=item.id
        )
    changed = {name: value for name, value in values.items() if value != item.values[name]}
    whole = item.values | changed
    if faults := [_STAYS] if _STAYS[0] in changed else incomplete(whole):
        raise _refused(faults)
    names = tuple(changed)
    if item.status is not StepStatus.SCHEDULED:
        names = ("scheduled_procedure_step_status", *names)
    if names:
        await items.update(tx, item, Change(StepStatus.SCHEDULED, changed, derived(whole)), now=now)
    return Changed(item.id, item.partition, names)


async def cancel(tx: Database, seen: Seen, *, now: datetime) -> Changed:
    """Cancel an item: devices are not told of it any more. Raises NotFound, VersionConflict."""
    item = await _locked(tx, seen)
    if item.status is StepStatus.CANCELED:
        return Changed(item.id, item.partition, ())
    await items.update(tx, item, Change(StepStatus.CANCELED, {}, {}), now=now)
    return Changed(item.id, item.partition, ("scheduled_procedure_step_status",))


_STAYS: Fault = (
    "scheduled_procedure_step_id",
    "is what the item is known by and stays: cancel it, and make another",
)


async def _locked(tx: Database, seen: Seen) -> Item:
    item = await items.lock(tx, seen.id, seen.scope)
    if item is None:
        raise NotFound("there is no such worklist item: read the list again")
    if seen.version is not None and seen.version != item.version:
        raise VersionConflict(
            "the item was changed meanwhile: look at current and decide anew", current=item.id
        )
    if item.status not in BY_HAND:
        raise VersionConflict(
            "a device has begun or ended this step: it is not changed by hand any more", current=item.id
        )
    return item


def _refused(faults: list[Fault]) -> InvalidAttributes:
    told = "; ".join(f"{name}: {said}" for name, said in faults)
    return InvalidAttributes(told, faults=tuple(faults))
