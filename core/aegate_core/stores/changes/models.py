"""Tables of the feed of changes. Triggers write its rows (`declarations`), in the transaction of what they tell of."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model


class Change(Model):
    """One thing that happened to one object, told by ids alone: no patient data."""

    id = fields.BigIntField(primary_key=True)
    position = fields.BigIntField(null=True)
    """Where readers see it, PostgreSQL only: given after the commit (`feed.settle`). On SQLite the id says that."""
    at = fields.DatetimeField()
    kind = fields.CharField(max_length=20)
    """QUEUE_ITEM, STUDY, APPLICATION_ENTITY, CONFLICT, QUARANTINED_OBJECT, DESTINATION, OPERATION, WORKLIST_ITEM."""
    action = fields.CharField(max_length=8)
    """CREATED, CHANGED, REMOVED."""
    key = fields.CharField(max_length=317)
    """What the object's global id is made of: a row's id, an arrival's id, or namespace/name."""
    state = fields.CharField(max_length=12, null=True)
    """Of a queue item, after the change."""
    partition = fields.CharField(max_length=317, null=True)
    """The patient partition that it belongs to; null of an AE, and where it is not known."""
    namespace = fields.CharField(max_length=63, null=True)
    """Of an Application Entity: whoever edits those of the namespace sees it."""

    class Meta:
        table = "change"


class ChangeFeed(Model):
    """One row: the last position given. Its lock is held by whoever gives the next ones."""

    id = fields.IntField(primary_key=True)
    last_position = fields.BigIntField()

    class Meta:
        table = "change_feed"
