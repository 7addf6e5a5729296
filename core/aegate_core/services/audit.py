"""Who did what: one append-only row in the transaction of the change, so neither is there without the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from aegate_core.database import Database
from aegate_core.stores.index.releasing import Settled
from aegate_core.stores.partitions import partition_of


class Area(StrEnum):
    """What a row is about, and so who may read it: the holders of DICOM_QUEUE, but for ENTITIES those of AE_EDITOR."""

    QUEUE = "QUEUE"
    """What people and the upkeep did to queue items, destinations, conflicts."""
    IMAGES = "IMAGES"
    """Associations, accepted and refused, and what was received, sent and removed."""
    ACCESS = "ACCESS"
    """Who read patient data."""
    ENTITIES = "ENTITIES"
    """Changes of Application Entities, routes, partitions and locations."""


@dataclass(frozen=True, slots=True)
class Deed:
    """What is recorded. ``detail`` holds keys, states and reasons; patient data neither there nor in ``target``."""

    actor: str
    action: str
    target: str
    outcome: str = "DONE"
    """DONE, REFUSED or FAILED; INTENT and UNKNOWN: see `intents`."""
    address: str = ""
    """From where, when it came over a network."""
    detail: Mapping[str, object] = field(default_factory=dict)
    area: Area = Area.QUEUE
    partition: str | None = None
    """The one patient partition that it is about."""


async def record(
    tx: Database,
    deed: Deed,
    *,
    now: datetime | None = None,
    intent_id: int | None = None,
    origin: str | None = None,
) -> int | None:
    """Write the row; call it inside of the change's transaction. Return its id.

    None: its intent has its outcome, or what it tells, ``origin``, was written before.
    """
    found: int | None = await tx.fetch_value(
        "INSERT INTO audit_event "
        "(at, actor, address, action, target, outcome, detail, area, partition, intent_id, origin) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING RETURNING id",
        now or datetime.now(UTC),
        deed.actor[:256],
        deed.address[:64],
        deed.action[:64],
        deed.target[:512],
        deed.outcome[:16],
        dict(deed.detail),
        deed.area.value,
        deed.partition,
        intent_id,
        origin,
    )
    return found


RECEIVED = "receiveImages"
SENT = "sendImages"
"""Of images on their way in and out; ``detail`` has the key of the study and the AE, as namespace/name."""

CALLED = "callAssociation"
"""Of an association that a worker asked a receiver for; what went over it is told by `SENT`."""


@dataclass(frozen=True, slots=True)
class Called:
    """An association that was asked for."""

    at: datetime
    calling_title: str
    trouble: str | None
    """Why there is none, as a code and words; None: the receiver took it."""


async def record_call(tx: Database, ae: str, call: Called) -> None:
    """Record that a receiver, namespace/name, was called."""
    detail: dict[str, object] = {"ae": ae, "callingAs": call.calling_title}
    if call.trouble is not None:
        detail["error"] = call.trouble
    deed = Deed(
        "worker",
        CALLED,
        f"ApplicationEntity:{ae}",
        "DONE" if call.trouble is None else "FAILED",
        detail=detail,
        area=Area.IMAGES,
    )
    await record(tx, deed, now=call.at)


_SENT = """
SELECT d.id AS id, d.state AS state, d.partition AS partition, d.study_id AS study, t.ae AS ae,
  d.instances_done AS stored, d.instances_failed AS failed, d.error_code AS error
FROM delivery d JOIN destination t ON t.id = d.destination_id
WHERE d.id = ANY($1) AND d.state IN ('COMPLETED', 'WARNING', 'FAILED', 'CANCELED') ORDER BY d.id
"""


async def record_sent(tx: Database, delivery_ids: Sequence[int], *, now: datetime) -> None:
    """Record which of these queue items are through, in the transaction that ends them."""
    for row in await tx.fetch(_SENT, list(delivery_ids)):
        detail = {name: row[name] for name in ("study", "ae", "state", "stored", "failed", "error")}
        deed = Deed(
            "worker",
            SENT,
            f"QueueItem:{row['id']}",
            "DONE" if row["state"] in ("COMPLETED", "WARNING") else "FAILED",
            detail=detail,
            area=Area.IMAGES,
            partition=row["partition"],
        )
        await record(tx, deed, now=now)


async def record_released(tx: Database, settled: Sequence[Settled], *, now: datetime) -> None:
    """Record what became of objects that people released from quarantine."""
    for one in settled:
        deed = Deed(
            one.by,
            "releaseQuarantined",
            f"QuarantinedObject:{one.arrival_id}",
            "REFUSED" if one.reason else "DONE",
            detail={"reason": one.reason} if one.reason else {},
            partition=await partition_of(tx, "QuarantinedObject", [one.arrival_id]),
        )
        await record(tx, deed, now=now)
