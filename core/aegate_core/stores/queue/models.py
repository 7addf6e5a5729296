"""Tables of what has to go out: destinations and their slots, deliveries, instances in them, every transition.

A row = (unit, destination). Claim, finish, heartbeat, promote: raw SQL beside this file (see docs/architecture.md).
"""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model


class Destination(Model):
    """An AE as a receiver, identity is namespace/name, so an AE deleted and made again takes up its queue and holds."""

    id = fields.BigIntField(primary_key=True)
    ae = fields.CharField(max_length=317, unique=True)
    max_connections = fields.IntField()
    enabled = fields.BooleanField(default=True)
    gone_at = fields.DatetimeField(null=True)
    invalid_condition = fields.CharField(max_length=256, null=True)
    held_at = fields.DatetimeField(null=True)
    held_by = fields.CharField(max_length=256, null=True)
    hold_reason = fields.CharField(max_length=256, null=True)
    breaker = fields.CharField(max_length=20, default="CLOSED")
    """CLOSED, OPEN, TRIAL (an echo was answered: one delivery may try), REJECTED_BY_PEER."""
    breaker_since = fields.DatetimeField(null=True)
    failures_in_row = fields.IntField(default=0)
    refused_in_row: fields.Field[list[int]] = fields.JSONField(default=list)
    """Ids of the last different studies whose instances were perhaps at fault, in a row."""
    last_error = fields.CharField(max_length=256, null=True)
    next_probe_at = fields.DatetimeField(null=True)
    probe_backoff_s = fields.IntField(default=5)
    last_used_at = fields.DatetimeField(null=True)
    last_success_at = fields.DatetimeField(null=True)

    class Meta:
        table = "destination"


class Slot(Model):
    """One association that we may open. Taken while ``token`` is not null and ``expires_at`` lies ahead."""

    id = fields.BigIntField(primary_key=True)
    destination: fields.ForeignKeyRelation[Destination] = fields.ForeignKeyField(
        "models.Destination", on_delete=fields.CASCADE
    )
    n = fields.IntField()
    token = fields.BigIntField(null=True)
    worker = fields.CharField(max_length=128, null=True)
    expires_at = fields.DatetimeField(null=True)
    last_used_at = fields.DatetimeField(null=True)

    class Meta:
        table = "slot"
        unique_together = (("destination", "n"),)


class Fencing(Model):
    """The fencing token: one row, counted up under its row lock, a token is never given twice."""

    id = fields.IntField(primary_key=True)
    last_token = fields.BigIntField()

    class Meta:
        table = "fencing"


class WorkerState(Model):
    """Which workers live, ``seen_at`` older than a lease: gone."""

    worker = fields.CharField(max_length=128, primary_key=True)
    started_at = fields.DatetimeField()
    seen_at = fields.DatetimeField()
    slots = fields.IntField(default=0)

    class Meta:
        table = "worker_state"


class VerificationRow(Model):
    """Somebody waits for a worker to ask a receiver whether it answers."""

    id = fields.BigIntField(primary_key=True)
    ae = fields.CharField(max_length=317)
    asked_at = fields.DatetimeField()
    taken_by = fields.CharField(max_length=128, null=True)
    answer: fields.Field[dict[str, object]] = fields.JSONField(null=True)

    class Meta:
        table = "verification"


class Delivery(Model):
    """A queue item. The arrivals it covers are fixed when it is made."""

    id = fields.BigIntField(primary_key=True)
    destination: fields.ForeignKeyRelation[Destination] = fields.ForeignKeyField(
        "models.Destination", on_delete=fields.RESTRICT
    )
    level = fields.CharField(max_length=8)
    """Study, Series or Image."""
    study_id = fields.BigIntField(db_index=True)
    unit_uid = fields.CharField(max_length=64)
    """The UID of the study, series or instance."""
    source_ae = fields.CharField(max_length=317)
    partition = fields.CharField(max_length=317)
    location_code = fields.CharField(max_length=64, null=True)
    state = fields.CharField(max_length=12)
    """SCHEDULED, IN_PROGRESS, RETRY, HELD, COMPLETED, WARNING, FAILED, CANCELED."""
    priority = fields.IntField()
    rank = fields.BigIntField()
    """The order of the claim, lowest first: `decisions.priority` makes it of priority and age."""
    bumped_at = fields.DatetimeField(null=True)
    supplementary = fields.BooleanField(default=False)
    requested_by = fields.CharField(max_length=320)
    """``route:namespace/name``, ``person:NAME`` or ``close``."""
    dedup_key = fields.CharField(max_length=200, unique=True)
    """Makes enqueueing idempotent: close id + destination, or the caller's idempotency key."""
    available_at = fields.DatetimeField()
    attempts = fields.IntField(default=0)
    hold_code = fields.CharField(max_length=32, null=True)
    """PERSON, DESTINATION_GONE, PATIENT_MISMATCH, NEEDS_RECONCILIATION, while HELD."""
    held_by = fields.CharField(max_length=256, null=True)
    hold_reason = fields.CharField(max_length=256, null=True)
    cancel_requested_by = fields.CharField(max_length=256, null=True)
    hold_requested_by = fields.CharField(max_length=256, null=True)
    slot_id = fields.BigIntField(null=True)
    token = fields.BigIntField(null=True)
    instances_total = fields.IntField()
    instances_done = fields.IntField(default=0)
    instances_failed = fields.IntField(default=0)
    size_bytes = fields.BigIntField(default=0)
    error_code = fields.CharField(max_length=32, null=True)
    error_message = fields.CharField(max_length=256, null=True)
    created_at = fields.DatetimeField()
    started_at = fields.DatetimeField(null=True)
    finished_at = fields.DatetimeField(null=True)
    version = fields.IntField(default=1)

    class Meta:
        table = "delivery"
        indexes = (("finished_at", "id"), ("created_at", "id"))


class DeliveryInstance(Model):
    """An instance in a delivery, with the peer's own status."""

    id = fields.BigIntField(primary_key=True)
    delivery: fields.ForeignKeyRelation[Delivery] = fields.ForeignKeyField(
        "models.Delivery", on_delete=fields.CASCADE
    )
    arrival_id = fields.CharField(max_length=32)
    state = fields.CharField(max_length=10)
    """PENDING, STORED, WARNING, DEAD, CANCELED."""
    status = fields.IntField(null=True)
    """The peer's C-STORE status (PS3.7 C), of the last attempt."""
    attempts = fields.IntField(default=0)
    breaks = fields.IntField(default=0)
    """How often the association broke while it was being sent: three times makes it poison."""
    broke_at = fields.DatetimeField(null=True)
    """When the association broke on it for the first time."""
    available_at = fields.DatetimeField(null=True)
    error_code = fields.CharField(max_length=32, null=True)
    finished_at = fields.DatetimeField(null=True)
    delivered_sha256 = fields.CharField(max_length=64, null=True)
    """Digest of the data set that went out, where it was converted, null: the arrival's bytes went as they are."""
    coerced: fields.Field[dict[str, object]] = fields.JSONField(default=dict)

    class Meta:
        table = "delivery_instance"
        unique_together = (("delivery", "arrival_id"),)
        indexes = (("arrival_id",),)


class Delivered(Model):
    """What a receiver acknowledged, in a queue item that retention has removed: nothing is sent twice for that."""

    id = fields.BigIntField(primary_key=True)
    destination: fields.ForeignKeyRelation[Destination] = fields.ForeignKeyField(
        "models.Destination", on_delete=fields.RESTRICT
    )
    arrival_id = fields.CharField(max_length=32, db_index=True)
    delivered_sha256 = fields.CharField(max_length=64, null=True)

    class Meta:
        table = "delivered"


class DeliveryEvent(Model):
    """A transition of a delivery, the message carries no patient data."""

    id = fields.BigIntField(primary_key=True)
    delivery: fields.ForeignKeyRelation[Delivery] = fields.ForeignKeyField(
        "models.Delivery", on_delete=fields.CASCADE
    )
    at = fields.DatetimeField()
    from_state = fields.CharField(max_length=12, null=True)
    to_state = fields.CharField(max_length=12)
    actor = fields.CharField(max_length=320)
    code = fields.CharField(max_length=32, null=True)
    message = fields.CharField(max_length=256, null=True)

    class Meta:
        table = "delivery_event"
        indexes = (("delivery_id", "id"),)


class Operation(Model):
    """A change of many, asked for once and done in batches of one transaction each, so a crash ends none."""

    id = fields.BigIntField(primary_key=True)
    action = fields.CharField(max_length=64)
    """The mutation that asked for it, such as ``holdQueueItems``."""
    target_kind = fields.CharField(max_length=32)
    """What its items name: QueueItem, Study, Series, Instance, CloseUnit or Conflict."""
    actor = fields.CharField(max_length=256)
    address = fields.CharField(max_length=64, default="")
    idempotency_key = fields.CharField(max_length=128, null=True)
    fingerprint = fields.CharField(max_length=64)
    """Digest of what was asked: the same key with another wish is refused."""
    arguments: fields.Field[dict[str, object]] = fields.JSONField(default=dict)
    """Reason, priority, destinations: no patient data, nothing of a filter."""
    state = fields.CharField(max_length=12)
    """SCHEDULED, RUNNING, COMPLETED, CANCELED, FAILED."""
    total = fields.IntField(default=0)
    processed = fields.IntField(default=0)
    """How many of its items are done with, in their order; the next batch begins behind them."""
    changed = fields.IntField(default=0)
    asked = fields.IntField(default=0)
    refused = fields.IntField(default=0)
    canceled_by = fields.CharField(max_length=256, null=True)
    error_code = fields.CharField(max_length=32, null=True)
    error_message = fields.CharField(max_length=256, null=True)
    """Why its batch failed last, in words."""
    failures = fields.IntField(null=True)
    """How often in a row its next batch failed."""
    retry_at = fields.DatetimeField(null=True)
    """When its batch is tried again."""
    created_at = fields.DatetimeField()
    started_at = fields.DatetimeField(null=True)
    stepped_at = fields.DatetimeField(null=True)
    """The last batch: of several operations the one that waited longest goes on."""
    finished_at = fields.DatetimeField(null=True)

    class Meta:
        table = "operation"
        unique_together = (("actor", "idempotency_key"),)
        indexes = (("created_at", "id"), ("finished_at", "id"))


class OperationItem(Model):
    """One of the things that an operation is about, fixed when it was asked for, and what became of it."""

    id = fields.BigIntField(primary_key=True)
    operation: fields.ForeignKeyRelation[Operation] = fields.ForeignKeyField(
        "models.Operation", on_delete=fields.CASCADE
    )
    n = fields.IntField()
    """Its place, from 1."""
    target = fields.BigIntField()
    """The row id of the queue item or study."""
    outcome = fields.CharField(max_length=8, null=True)
    """CHANGED, ASKED (it is being sent: it takes effect between two instances), LEFT; null: not yet."""
    because = fields.CharField(max_length=32, null=True)

    class Meta:
        table = "operation_item"
        unique_together = (("operation", "n"),)


class OperationPartition(Model):
    """A patient partition of something that an operation is about: seen by whoever sees all of them."""

    id = fields.BigIntField(primary_key=True)
    operation: fields.ForeignKeyRelation[Operation] = fields.ForeignKeyField(
        "models.Operation", on_delete=fields.CASCADE
    )
    partition = fields.CharField(max_length=317)

    class Meta:
        table = "operation_partition"
        unique_together = (("operation", "partition"),)


class RollupMinute(Model):
    """How many items were finished in a minute: rows add up. Triggers write them, `rollup.pack` makes fewer of them."""

    id = fields.BigIntField(primary_key=True)
    minute = fields.DatetimeField()
    destination_id = fields.BigIntField()
    source_ae = fields.CharField(max_length=317)
    partition = fields.CharField(max_length=317)
    location_code = fields.CharField(max_length=64, null=True)
    requested_by = fields.CharField(max_length=320)
    state = fields.CharField(max_length=12)
    items = fields.IntField()
    """1 for one that was finished, -1 for one that is no longer, sums of these."""
    coarse = fields.IntField()
    """0: one item; 1: of a minute; 2: of the quarter of an hour that ``minute`` begins."""

    class Meta:
        table = "rollup_minute"
        indexes = (("minute",), ("coarse", "minute"))
