"""When a study or series counts as complete, and what still keeps a due one open.

There is no timer: whoever looks, later than the due time, closes it. It stays open while something received before it
was due may still lie in a spool: after an outage 3,000 images make one delivery, not dozens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from aegate_core.resources.values import StudyTimes

SILENT_INDEXER = timedelta(minutes=15)
"""An indexer that says nothing for so long after a unit was due no longer keeps it open: it was taken away for good.

By feel: longer than a node's restart, shorter than a radiologist's patience. What its spool holds arrives as a
supplement.
"""


@dataclass(frozen=True, slots=True)
class IndexerSeen:
    """How far one indexer got: all that lay in the spool at ``scanned_at`` is indexed or in ``oldest_by_ae``."""

    process: str
    scanned_at: datetime
    oldest_by_ae: Mapping[str, datetime]
    ae: str | None = None
    """The only AE whose images it takes; None: any."""


def due_at(last_arrival: datetime, first_uncovered: datetime, times: StudyTimes) -> datetime:
    """Return when a unit is to be closed: when it is quiet, at the latest ``max_age_s`` after the first arrival."""
    quiet = last_arrival + timedelta(seconds=times.quiet_period_s)
    oldest = first_uncovered + timedelta(seconds=times.max_age_s)
    return min(quiet, oldest)


def why_open(ae: str, due: datetime, indexers: Iterable[IndexerSeen], *, now: datetime) -> str | None:
    """Return what keeps a unit of ``ae`` open, or None when it may close. One sentence, without patient data."""
    if now < due:
        return f"waits for more images until {due.isoformat(timespec='seconds')}"
    for indexer in indexers:
        if indexer.ae not in (None, ae):
            continue
        if now - max(due, indexer.scanned_at) > SILENT_INDEXER:
            continue
        oldest = indexer.oldest_by_ae.get(ae)
        if oldest is not None and oldest <= due:
            return f"indexer {indexer.process} has not indexed everything that {ae} sent before it was due"
        if indexer.scanned_at < due:
            return f"indexer {indexer.process} has not looked into the spool since it was due"
    return None
