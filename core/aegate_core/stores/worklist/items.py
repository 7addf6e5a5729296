"""Worklist items as rows: the list and what can be asked of it, and what makes and changes one."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from aegate_core.database import Database, as_json
from aegate_core.dicom.values import VR
from aegate_core.dicom.worklist import ATTRIBUTES, Code, StepStatus, Values
from aegate_core.stores.listing import SORTED, Column, Order, Source
from aegate_core.stores.scope import Scope, by_partition, fetch_own

STATION = "scheduled_station_ae_title"
_OWN = tuple(name for name in ATTRIBUTES if name != STATION)
"""What is in a column of its own."""
_KEPT = ("id", "partition", "scheduled_procedure_step_status", "version", "created_at", "updated_at", *_OWN)
_SELECT = ", ".join(f"w.{name} AS {name}" for name in _KEPT)

ITEMS = Source(
    select=_SELECT,
    table="worklist_item w",
    belongs=by_partition("w.partition"),
    columns={
        "id": Column("w.id", "bigint"),
        "text": Column("w.search_text", search="w.search_text", study="w", words="worklist_words"),
        "patient_name": Column(
            "w.patient_name", search="w.name_text", is_name=True, study="w", words="worklist_words"
        ),
        "scheduled_performing_physician_name": Column(
            "w.scheduled_performing_physician_name",
            search="w.performer_text",
            is_name=True,
            study="w",
            words="worklist_words",
        ),
        "study_instance_uid": Column("w.study_instance_uid", is_uid=True),
        "scheduled_station_ae_title": Column(
            "x.ae_title", within="EXISTS (SELECT 1 FROM worklist_station x WHERE x.item_id = w.id AND {})"
        ),
        "status": Column("w.scheduled_procedure_step_status"),
        "created_at": Column("w.created_at", "timestamptz"),
    }
    | {
        name: Column(f"w.{name}")
        for name in (
            *("partition", "scheduled_start", "modality", "admission_id"),
            *("scheduled_procedure_step_start_date", "scheduled_procedure_step_start_time"),
        )
    }
    | {
        name: Column(f"w.{name}", study="w", words="worklist_words")
        for name in (
            *("patient_id", "accession_number", "scheduled_procedure_step_id", "requested_procedure_id"),
            *("scheduled_procedure_step_description", "scheduled_procedure_step_location"),
        )
    },
)

_BY_START = ((f"w.scheduled_start{SORTED}", "text"), ("w.id", "bigint"))
_BY_NAME = ((f"w.sort_name{SORTED}", "text"), ("w.id", "bigint"))
_BY_ID = (("w.id", "bigint"),)

ITEM_ORDERS = {
    order.name: order
    for order in (
        Order("EARLIEST_START", _BY_START, descending=False),
        Order("LATEST_START", _BY_START),
        Order("PATIENT_NAME_A_TO_Z", _BY_NAME, descending=False),
        Order("PATIENT_NAME_Z_TO_A", _BY_NAME),
        Order("NEWEST", _BY_ID),
        Order("OLDEST", _BY_ID, descending=False),
    )
}


@dataclass(frozen=True, slots=True)
class Item:
    """An item as it is kept; ``values`` has every attribute."""

    id: int
    partition: str
    status: StepStatus
    version: int
    values: Values


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to be made; ``values`` has every attribute, ``derived`` what is made of them."""

    partition: str
    values: Values
    derived: Values
    created_by: str
    idempotency_key: str | None = None
    fingerprint: str | None = None


def kept_values(row: Mapping[str, object]) -> Values:
    """Return the attributes that stand in a row: all but the devices, see `stations`."""
    return {name: _read(name, row[name]) for name in _OWN}


def _read(name: str, value: object) -> object:
    attribute = ATTRIBUTES[name]
    if not attribute.many:
        return value
    listed = as_json(value)
    assert isinstance(listed, list), "written as a list"
    if attribute.vr is VR.SQ:
        return tuple(Code(**entry) for entry in listed)
    return tuple(listed)


def _written(name: str, value: object) -> object:
    if not ATTRIBUTES[name].many:
        return value
    assert isinstance(value, tuple), "of many values there is a tuple"
    listed = [_as_entry(one) if isinstance(one, Code) else one for one in value]
    return json.dumps(listed, ensure_ascii=False)


def _as_entry(code: Code) -> dict[str, str]:
    return {name: getattr(code, name) for name in Code.__slots__}


async def insert(tx: Database, new: NewItem, *, now: datetime) -> int | None:
    """Make an item and return its id. None: the step id is taken in the partition, or the key was used before."""
    columns = {
        "partition": new.partition,
        "scheduled_procedure_step_status": StepStatus.SCHEDULED.value,
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "created_by": new.created_by,
        "idempotency_key": new.idempotency_key,
        "fingerprint": new.fingerprint,
        **{name: _written(name, new.values[name]) for name in _OWN},
        **new.derived,
    }
    places = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
    found = await tx.fetch_value(
        f"INSERT INTO worklist_item ({', '.join(columns)}) VALUES ({places}) ON CONFLICT DO NOTHING RETURNING id",
        *columns.values(),
    )
    if found is None:
        return None
    await _add_stations(tx, int(found), new.values)
    return int(found)


@dataclass(frozen=True, slots=True)
class Change:
    """What is written of an item: attributes that are others now, and what is made of all of them."""

    status: StepStatus
    values: Values
    derived: Values


async def update(tx: Database, item: Item, change: Change, *, now: datetime) -> None:
    """Write what changed of a locked item."""
    columns = {
        "scheduled_procedure_step_status": change.status.value,
        "version": item.version + 1,
        "updated_at": now,
        **{name: _written(name, value) for name, value in change.values.items() if name != STATION},
        **change.derived,
    }
    assigned = ", ".join(f"{name} = ${n}" for n, name in enumerate(columns, start=2))
    await tx.execute(f"UPDATE worklist_item SET {assigned} WHERE id = $1", item.id, *columns.values())
    if STATION in change.values:
        await tx.execute("DELETE FROM worklist_station WHERE item_id = $1", item.id)
        await _add_stations(tx, item.id, change.values)


async def _add_stations(tx: Database, item_id: int, values: Values) -> None:
    titles = values[STATION]
    assert isinstance(titles, tuple), "of many values there is a tuple"
    await tx.execute_many(
        "INSERT INTO worklist_station (item_id, ae_title) VALUES ($1, $2)", [(item_id, t) for t in titles]
    )


async def lock(tx: Database, item_id: int, scope: Scope) -> Item | None:
    """Return an item that ``scope`` sees, and keep others from changing it; None: there is none."""
    rows = await fetch_own(
        tx,
        f"SELECT {_SELECT} FROM worklist_item w WHERE w.id = $1 AND {{own}} FOR UPDATE",
        ITEMS.belongs,
        scope,
        item_id,
    )
    titles = await stations(tx, [item_id])
    if not rows:
        return None
    [row] = rows
    return Item(
        item_id,
        str(row["partition"]),
        StepStatus(str(row["scheduled_procedure_step_status"])),
        int(str(row["version"])),
        kept_values(row) | {STATION: tuple(titles[item_id])},
    )


async def stations(db: Database, item_ids: Sequence[int]) -> Mapping[int, list[str]]:
    """Return the AE titles of the devices of some items, as they were given."""
    rows = await db.fetch(
        "SELECT item_id, ae_title FROM worklist_station WHERE item_id = ANY($1) ORDER BY id", list(item_ids)
    )
    found: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        found[int(row["item_id"])].append(str(row["ae_title"]))
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for with an idempotency key."""

    id: int
    fingerprint: str | None


async def by_key(tx: Database, created_by: str, idempotency_key: str) -> Asked | None:
    """Return what somebody made with a key before."""
    row = await tx.fetch_one(
        "SELECT id, fingerprint FROM worklist_item WHERE created_by = $1 AND idempotency_key = $2",
        created_by,
        idempotency_key,
    )
    return None if row is None else Asked(int(row["id"]), row["fingerprint"])


async def by_step(tx: Database, partition: str, step_id: str) -> int | None:
    """Return the item of a step id in its partition."""
    found = await tx.fetch_value(
        "SELECT id FROM worklist_item WHERE partition = $1 AND scheduled_procedure_step_id = $2",
        partition,
        step_id,
    )
    return None if found is None else int(found)
