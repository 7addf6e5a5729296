"""The durable spool: what was acknowledged and is not yet indexed, as files that survive any crash.

``<root>/<namespace>/<name>/<process>/<arrival id>.dcm`` with a side record ``<arrival id>.json``; while bytes
arrive the object is called ``.dcm.part``. The order of `SpoolFile.commit` is the promise behind every 0x0000:
object fsynced, side record fsynced, object renamed, folder fsynced. A process folder belongs to one process
life and is named in ``<root>/.listeners/<process>.lock``, which that process holds locked: so a sweeper knows
whose ``.part`` is dead without trusting process ids or clocks.
"""

from aegate_core.stores.spool.association_records import AssociationRecord, Happened
from aegate_core.stores.spool.folders import is_namespace
from aegate_core.stores.spool.journal import JOURNALS, Journal, journals
from aegate_core.stores.spool.locks import LOCKS, is_dead
from aegate_core.stores.spool.records import SideRecord, SpooledArrival
from aegate_core.stores.spool.room import Room, Watermark, room_of
from aegate_core.stores.spool.sweeping import (
    Swept,
    clear,
    count_left_over,
    holds,
    is_readable,
    remove,
    scan,
    sweep,
    take_out,
)
from aegate_core.stores.spool.writing import Departure, SpoolFile, SpoolFolder

__all__ = [
    "JOURNALS",
    "LOCKS",
    "AssociationRecord",
    "Departure",
    "Happened",
    "Journal",
    "Room",
    "SideRecord",
    "SpoolFile",
    "SpoolFolder",
    "SpooledArrival",
    "Swept",
    "Watermark",
    "clear",
    "count_left_over",
    "holds",
    "is_dead",
    "is_namespace",
    "is_readable",
    "journals",
    "remove",
    "room_of",
    "scan",
    "sweep",
    "take_out",
]
