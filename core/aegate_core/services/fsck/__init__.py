"""The invariants of an installation as a tool: what is wrong, and what can be mended without losing anything."""

from aegate_core.services.fsck.check import Look, Progress, Summary, check
from aegate_core.services.fsck.findings import REPAIRS, Finding, Kind
from aegate_core.services.fsck.repair import repair

__all__ = ["REPAIRS", "Finding", "Kind", "Look", "Progress", "Summary", "check", "repair"]
