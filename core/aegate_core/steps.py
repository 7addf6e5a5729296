"""The steps at which a process may be told to die: proofs ask for it, nobody else does.

``AEGATE_DIE_AT=RENAMED:7`` ends the process by SIGKILL when it has reached that step for the seventh time, so that a
proof need not wait for chance to kill between two lines; ``RENAMED:7:TERM`` asks it to stop there instead. A value with
a slash is a file that holds such a wish, read at every step: it may change while the process runs. Without the variable
a step costs one comparison.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from enum import StrEnum
from pathlib import Path


class Step(StrEnum):
    """What has just been done, in the order of an image's way; then retention, backup and restore; a bucket's;
    a resource's; a released object's; an association's record."""

    WRITTEN = "WRITTEN"
    FSYNCED = "FSYNCED"
    SIDE_RECORDED = "SIDE_RECORDED"
    RENAMED = "RENAMED"
    FOLDER_FSYNCED = "FOLDER_FSYNCED"
    ANSWERED = "ANSWERED"
    BATCH_TAKEN = "BATCH_TAKEN"
    BLOB_PLACED = "BLOB_PLACED"
    BLOB_FSYNCED = "BLOB_FSYNCED"
    COMMITTED = "COMMITTED"
    OBJECT_UNLINKED = "OBJECT_UNLINKED"
    SPOOL_LEFT = "SPOOL_LEFT"
    TOMBSTONED = "TOMBSTONED"
    BLOB_DELETED = "BLOB_DELETED"
    SPOOL_COPIED = "SPOOL_COPIED"
    INDEX_COPIED = "INDEX_COPIED"
    INDEX_FINISHED = "INDEX_FINISHED"
    MANIFEST_WRITTEN = "MANIFEST_WRITTEN"
    MANIFEST_REPLACED = "MANIFEST_REPLACED"
    UNWANTED_REMOVED = "UNWANTED_REMOVED"
    RESTORE_MARKED = "RESTORE_MARKED"
    INDEX_RESTORED = "INDEX_RESTORED"
    BLOBS_RESTORED = "BLOBS_RESTORED"
    SPOOL_RESTORED = "SPOOL_RESTORED"
    RESTORE_FINISHED = "RESTORE_FINISHED"
    PART_SENT = "PART_SENT"
    INTENT_RECORDED = "INTENT_RECORDED"
    RESOURCE_CHANGED = "RESOURCE_CHANGED"
    RELEASE_TAKEN = "RELEASE_TAKEN"
    RECORD_WRITTEN = "RECORD_WRITTEN"
    RECORDS_COMMITTED = "RECORDS_COMMITTED"


_ASKED = os.environ.get("AEGATE_DIE_AT", "")
_reached: Counter[str] = Counter()


def reached(step: Step) -> None:
    """Die, or be asked to stop, here if this is the step and the time that was asked for."""
    if not _ASKED:
        return
    wish = Path(_ASKED).read_text() if "/" in _ASKED else _ASKED
    name, nth, by, *_ = (*wish.split(":"), "", "")
    if step == name:
        _reached[wish] += 1
        if _reached[wish] == int(nth or 1):
            os.kill(os.getpid(), signal.SIGTERM if by == "TERM" else signal.SIGKILL)
