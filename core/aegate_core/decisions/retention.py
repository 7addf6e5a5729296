"""What may go by age, and what keeps it: the images of a study together, never a part of them.

The default rules keep every image for ever. Whatever they say, what is still wanted stays: by a queue item that is not
finished (held ones are not), by a close that is still to come, by a conflict that nobody has resolved.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from aegate_core.resources.values import Retention


class Keep(StrEnum):
    """Why a study whose time has come keeps its images. Stable: programs may match them."""

    IN_QUEUE = "IN_QUEUE"
    NOT_CLOSED = "NOT_CLOSED"
    CONFLICT = "CONFLICT"
    NOT_COMMITTED = "NOT_COMMITTED"
    NOT_DELIVERED = "NOT_DELIVERED"
    ONLY_COPY = "ONLY_COPY"
    BLOBS_NOT_HERE = "BLOBS_NOT_HERE"


KEPT_BECAUSE = {
    Keep.IN_QUEUE: "a queue item still has to send them: it is waiting, held or being sent",
    Keep.NOT_CLOSED: "not complete yet: a close is still to route them",
    Keep.CONFLICT: "a conflict about them is open: resolve it",
    Keep.NOT_COMMITTED: "no receiver has committed to them, which requireCommitted asks for; storage commitment is not "
    "there yet, so nothing goes: set requireCommitted to false",
    Keep.NOT_DELIVERED: "a receiver did not take all of them: retry the failed queue items, or cancel them",
    Keep.ONLY_COPY: "no receiver has acknowledged all of them: send them, or set requireDelivered to false",
    Keep.BLOBS_NOT_HERE: "none of their files is in this data folder or bucket: give the one of the database, "
    "or see `aegate fsck`",
}
"""What each means and what to do."""


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What the index and the queue say of a study whose images are here."""

    live_deliveries: int = 0
    open_units: int = 0
    open_conflicts: int = 0
    not_taken: int = 0
    """Images of failed queue items that their destination has not got by another one either."""
    only_here: int = 0
    """Images that no receiver ever acknowledged."""


def images_due_before(rules: Retention, *, now: datetime) -> datetime | None:
    """Return the time of the last arrival up to which images may go; None: they are kept for ever."""
    return None if rules.images_days is None else now - timedelta(days=rules.images_days)


def deliveries_due_before(rules: Retention, *, now: datetime) -> datetime:
    """Return the time of finishing up to which queue items may go."""
    return now - timedelta(days=rules.finished_deliveries_days)


def why_kept(facts: StudyFacts, rules: Retention) -> Keep | None:
    """Return why the images of a study stay though their time has come; None: they may go."""
    if facts.live_deliveries:
        return Keep.IN_QUEUE
    if facts.open_units:
        return Keep.NOT_CLOSED
    if facts.open_conflicts:
        return Keep.CONFLICT
    if rules.images_require_committed:
        return Keep.NOT_COMMITTED
    if rules.images_require_delivered and facts.not_taken:
        return Keep.NOT_DELIVERED
    if rules.images_require_delivered and facts.only_here:
        return Keep.ONLY_COPY
    return None
